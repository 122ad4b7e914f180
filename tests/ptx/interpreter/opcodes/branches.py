"""bra, brx, ret, exit, trap, bar, and what does nothing here: fences, prefetches, sleep."""

from __future__ import annotations

import numpy as np

from ..control import release
from ..errors import PtxError
from ..operands import reader
from ..parse import Instruction, Kernel
from ..threads import BARRIER
from .table import Run, opcode


@opcode("bra")
def _bra(one: Instruction, kernel: Kernel) -> Run:
    target = kernel.labels[one.operands[0]]

    def run(machine, active):
        machine.pc[active.sel] = target

    return run


@opcode("brx")
def _brx(one: Instruction, kernel: Kernel) -> Run:
    index = reader(one.operands[0], "u32", kernel)
    targets = np.array([kernel.labels[name] for name in kernel.targets[one.operands[1]]])

    def run(machine, active):
        which = np.broadcast_to(index(machine, active.sel), active.n)
        if (which >= len(targets)).any():
            raise PtxError(f"a jump past the end of its table: {one.text}")
        machine.pc[active.sel] = targets[which]

    return run


@opcode("ret", "exit")
def _exit(one: Instruction, kernel: Kernel) -> Run:
    return lambda machine, active: machine.retire(active)


@opcode("trap")
def _trap(one: Instruction, kernel: Kernel) -> Run:
    def run(machine, active):
        raise PtxError(f"trap, a failed device assertion, in {active.n} threads, {machine.who(active, 0)}")

    return run


@opcode("bar", "barrier")
def _bar(one: Instruction, kernel: Kernel) -> Run:
    barrier = 1 if one.has("red") else 0
    whole_block = len(one.operands) == (3 if one.has("red") else 1) and one.operands[barrier] == "0"
    if not one.has("sync", "red") or one.has("cluster") or not whole_block:
        raise one.unsupported()  # named barriers and barriers of part of a block

    def run(machine, active):
        machine.state[active.sel] = BARRIER
        release(machine)

    return run


@opcode("membar", "fence", "nanosleep", "prefetch", "prefetchu", "discard", "applypriority")
def _nothing(one: Instruction, kernel: Kernel) -> Run:
    return lambda machine, active: None
