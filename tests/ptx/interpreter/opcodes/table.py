"""Where the builders of instructions are collected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..parse import Instruction, Kernel

if TYPE_CHECKING:
    from ..machine import Machine
    from ..threads import Active

Run: TypeAlias = "Callable[[Machine, Active], None]"
Builder: TypeAlias = "Callable[[Instruction, Kernel], Run]"

OPCODES: dict[str, Builder] = {}


def opcode(*names: str) -> Callable[[Builder], Builder]:
    """Register a builder for these instructions."""

    def add(builder: Builder) -> Builder:
        for name in names:
            if name in OPCODES:
                raise ValueError(f"two builders for {name}")
            OPCODES[name] = builder
        return builder

    return add
