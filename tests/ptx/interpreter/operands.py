"""Operands, decoded once: functions that read or write them for a set of threads."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .errors import PtxError
from .formats import PACKED, SIGNED, UNSIGNED, Array, decode, encode, size_of
from .memory import WINDOW, check_aligned, window_of
from .parse import Instruction, Kernel, literal

if TYPE_CHECKING:
    from .machine import Machine
    from .threads import Active

Selection: TypeAlias = "slice | Array"
Reader: TypeAlias = "Callable[[Machine, Selection], Array]"
Writer: TypeAlias = "Callable[[Machine, Selection, Array], None]"

SPECIAL = re.compile(r"%(?:n?(?:tid|ctaid)\.[xyz]|laneid|n?warpid|lanemask_\w\w|envreg[12]|clock|clock64|globaltimer)$")
_ADDRESS = re.compile(r"\[\s*([%\w$.]+)\s*(?:\+\s*(-?\w+))?\s*\]$")


def elements(text: str) -> list[str]:
    """`{%r1, %r2}` -> its names; anything else is its own only element."""
    return [x.strip() for x in text.strip("{} ").split(",")] if text.startswith("{") else [text]


def reader(text: str, type_: str, kernel: Kernel) -> Reader:
    """Numbers of an operand in a type; one number only where it is the same for all threads."""
    raw = _bits(text, size_of(type_), kernel, type_ == "pred")
    if type_[0] in "bup" and type_ != "bf16":
        return raw
    if type_ in PACKED:
        return raw
    return lambda machine, sel: decode(raw(machine, sel), type_)


def _bits(text: str, size: int, kernel: Kernel, predicate: bool) -> Reader:
    if text.startswith("{"):
        return _packed(elements(text), size, kernel)
    if text.startswith("!"):
        inner = _bits(text[1:].strip(), size, kernel, True)
        return lambda machine, sel: ~inner(machine, sel)
    if text in kernel.registers:
        own = size_of(kernel.registers[text])
        if (kernel.registers[text] == "pred") != predicate or own < size:
            raise PtxError(f"{text} is a {kernel.registers[text]}, used for {size} bytes in {kernel.name}")
        if own == size:
            return lambda machine, sel: machine.registers[text][sel]
        return lambda machine, sel: machine.registers[text][sel].astype(UNSIGNED[size])
    if SPECIAL.match(text):
        if text in ("%clock", "%clock64", "%globaltimer"):
            return lambda machine, sel: np.array([machine.statistics["instructions"]], UNSIGNED[size])
        return lambda machine, sel: machine.special[text][sel].astype(UNSIGNED[size])
    if text == "WARP_SZ":
        text = "32"
    if re.match(r"[-+]?\d", text):
        value = literal(text, size)
        constant = np.array([value != 0]) if predicate else np.array([value], UNSIGNED[size])
        return lambda machine, sel: constant
    if not re.match(r"[A-Za-z_$.][\w$.]*$", text):
        raise PtxError(f"operand not supported: {text} in {kernel.name}")
    return lambda machine, sel: np.array([machine.address_of(text)], UNSIGNED[size])


def _packed(names: list[str], size: int, kernel: Kernel) -> Reader:
    each = size // len(names)
    parts = [_bits(name, each, kernel, False) for name in names]

    def read(machine: Machine, sel: Selection) -> Array:
        out = np.zeros(1, np.uint64)
        for k, part in enumerate(parts):
            out = out | (part(machine, sel).astype(np.uint64) << np.uint64(8 * each * k))
        return out.astype(UNSIGNED[size])

    return read


def writer(text: str, type_: str, kernel: Kernel) -> Writer:
    """Stores numbers of a type in a register, a pair `{low, high}` or nowhere (`_`); signed ones are extended."""
    if text == "_":
        return lambda machine, sel, value: None
    size = size_of(type_)
    if text.startswith("{"):
        names = elements(text)
        each = size // len(names)
        parts = [writer(name, f"b{8 * each}", kernel) for name in names]

        def unpack(machine: Machine, sel: Selection, value: Array) -> None:
            for k, part in enumerate(parts):
                part(machine, sel, (value >> value.dtype.type(8 * each * k)).astype(UNSIGNED[each]))

        return unpack
    if text not in kernel.registers:
        raise PtxError(f"not a register: {text} in {kernel.name}")
    own = size_of(kernel.registers[text])
    if (kernel.registers[text] == "pred") != (type_ == "pred") or own < size:
        raise PtxError(f"{text} is a {kernel.registers[text]}, written as {type_} in {kernel.name}")

    def write(machine: Machine, sel: Selection, value: Array) -> None:
        if type_ != "pred":
            value = encode(value, type_)
            if own > size:
                value = value.view(SIGNED[size]).astype(SIGNED[own]).view(UNSIGNED[own]) if type_[0] == "s" else value
        machine.registers[text][sel] = value

    return write


class Place:
    """An address operand `[base + offset]` and the space it is in."""

    def __init__(self, text: str, one: Instruction, kernel: Kernel) -> None:
        match = _ADDRESS.match(text)
        if not match:
            raise PtxError("address not supported: " + one.text)
        base, self.offset = match[1], int(match[2] or "0", 0)
        self.constant = base not in kernel.registers
        wide = 8 if self.constant else size_of(kernel.registers[base])
        self.base = _bits(base, wide, kernel, False)
        words = {w.split("::")[0] for w in one.words[1:]}
        self.space = next((s for s in ("global", "shared", "local", "param", "const") if s in words), None)
        if "shared::cluster" in one.words:
            raise one.unsupported()

    def __call__(self, machine: Machine, active: Active, size: int) -> tuple[str, Array]:
        """The space and the address, aligned to `size`, of each active thread."""
        base = self.base(machine, active.sel)
        address = np.broadcast_to(base.astype(np.int64) + self.offset, active.n)
        space = self.space
        if space is None:
            space = window_of(address, machine.text)
            address = address - WINDOW.get(space, 0)
        check_aligned(address, size, machine, active)
        return space, address


def load(machine: Machine, active: Active, place: Place, size: int) -> Array:
    """`size` bytes a thread, as numbers of that size."""
    space, address = place(machine, active, size)
    if space == "shared":
        return machine.shared.load(address, size, machine, active)
    if space in ("global", "const"):
        return machine.global_.load(address, size, machine, active)
    memory = machine.local if space == "local" else machine.parameters
    owner = active.ix if space == "local" else 0
    return memory.view(size)[memory.index(owner, address, size, machine, active)]


def store(machine: Machine, active: Active, place: Place, values: Array) -> None:
    """One number of 1 to 16 bytes a thread; of threads that write the same place the last one's stays."""
    size = values.dtype.itemsize
    space, address = place(machine, active, size)
    if space == "shared":
        machine.shared.store(address, values, machine, active)
    elif space == "global":
        machine.global_.store(address, values, machine, active)
    elif space == "local":
        memory = machine.local
        memory.view(size)[memory.index(active.ix, address, size, machine, active)] = values
    else:
        raise PtxError(f"a store to {space} memory: {machine.text}")
