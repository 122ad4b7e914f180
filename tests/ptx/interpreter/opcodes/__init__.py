"""The table of instructions.

Each module adds builders: `@opcode("add", "sub")` on a function that takes an instruction and its kernel, decodes the
operands once, and returns what to do for a set of active threads. What a builder does not know raises when the kernel
is compiled, before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PtxError
from ..formats import size_of
from ..operands import Reader, reader
from ..parse import Instruction, Kernel
from . import arithmetic, atomics, bits, branches, convert, copies, floating, halves, lanes, matrices, moves  # noqa: F401
from .table import OPCODES, Run

__all__ = ["OPCODES", "Step", "compile_kernel", "granule_of"]

# Instructions for which the lanes of a warp meet, and the operand that names them (None: all of the warp).
_MEETINGS = {"shfl": 4, "vote": 2, "redux": 2, "match": 2, "elect": 1, "bar.warp": 0}
_MEETINGS |= {"mma": None, "wmma": None, "ldmatrix": None}


@dataclass(frozen=True)
class Step:
    """An instruction, ready to run."""

    instruction: Instruction
    name: str
    run: Run
    mask: Reader | None


def compile_kernel(kernel: Kernel) -> list[Step]:
    """Decode all instructions of a kernel."""
    return [_compile(one, kernel) for one in kernel.code]


def _compile(one: Instruction, kernel: Kernel) -> Step:
    name = "bar.warp" if one.op in ("bar", "barrier") and one.has("warp") else one.op
    name = "cp.async" if one.op == "cp" and one.words[1] == "async" and not one.has("bulk") else name
    if name not in OPCODES:
        raise one.unsupported()
    mask = None
    if name in _MEETINGS:
        operand = _MEETINGS[name]
        mask = reader("0xffffffff" if operand is None else one.operands[operand], "b32", kernel)
    try:
        return Step(one, name, OPCODES[name](one, kernel), mask)
    except (KeyError, IndexError, ValueError) as error:
        raise PtxError(f"instruction not supported: {one.text} ({error})") from error


def granule_of(kernel: Kernel) -> int:
    """The smallest number of bytes in which a kernel may touch shared memory at once."""
    sizes = [16]
    for one in kernel.code:
        if one.op in ("ld", "st", "atom", "red") and not one.has("global", "param", "local", "const"):
            count = next((int(w[1:]) for w in one.words if w in ("v2", "v4", "v8")), 1)
            sizes.append(size_of(one.type) * count)
        elif one.op == "wmma":
            sizes.append(2)
        elif one.op == "cp":
            sizes.append(4)
    return min(sizes)
