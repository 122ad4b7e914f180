"""Branches, ends of threads, barriers of a block: what moves threads to another instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .operands import reader, writer
from .threads import BARRIER, DONE, RUN, Active

if TYPE_CHECKING:
    from .machine import Machine
    from .parse import Instruction


def release(machine: Machine) -> None:
    """Let the blocks go on whose living threads all wait in the same barrier; raise where some have ended or part."""
    state = machine.state.reshape(machine.blocks, -1)
    waits, ended = state == BARRIER, state == DONE
    for b in np.flatnonzero(waits.any(1) & (waits | ended).all(1)):
        if ended[b].any():
            raise PtxError(
                f"block {b} of {machine.kernel.name}: {int(ended[b].sum())} threads have exited before a barrier"
            )
        threads = Active(np.arange(b * machine.threads, (b + 1) * machine.threads))
        places = np.unique(machine.pc[threads.sel])
        if len(places) > 1:
            texts = [machine.kernel.code[p - 1].text for p in places]
            raise PtxError(f"block {b} of {machine.kernel.name}: threads wait in different barriers: {texts}")
        machine.state[threads.sel] = RUN
        machine.epoch[b] += 1
        one = machine.kernel.code[int(places[0]) - 1]
        if one.has("red"):
            _reduce(machine, threads, one)


def _reduce(machine: Machine, threads: Active, one: Instruction) -> None:
    """bar.red: one answer to all threads of a block about the predicate that each of them brought."""
    source = one.operands[-1]
    value = reader(source.lstrip("!"), "pred", machine.kernel)(machine, threads.sel) ^ source.startswith("!")
    value = np.broadcast_to(value, threads.n)
    how = one.pick(("popc", "and", "or"))
    result = {"popc": np.sum, "and": np.all, "or": np.any}[how](value)
    kind = "u32" if how == "popc" else "pred"
    array = np.array([result], np.uint32 if how == "popc" else bool)
    writer(one.operands[0], kind, machine.kernel)(machine, threads.sel, array)
