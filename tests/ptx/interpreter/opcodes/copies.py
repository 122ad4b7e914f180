"""cp.async: copies from global to shared memory that are there only after the wait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import PtxError
from ..formats import Array
from ..operands import Place
from ..parse import Instruction, Kernel
from ..threads import Active
from .table import Run, opcode


@dataclass
class Copy:
    """Copies under way of some threads; group: the thread's commit that took it in, -1 before."""

    threads: Array
    target: Array
    source: Array
    group: Array
    size: int

    def some(self, chosen: Array) -> Copy:
        return Copy(self.threads[chosen], self.target[chosen], self.source[chosen], self.group[chosen], self.size)


@opcode("cp.async")
def _cp_async(one: Instruction, kernel: Kernel) -> Run:
    if one.has("commit_group"):
        return _commit
    if one.has("wait_group", "wait_all"):
        return _waiter(None if one.has("wait_all") else int(one.operands[0], 0))
    if len(one.operands) != 3 or one.has("mbarrier", "bulk"):
        raise one.unsupported()
    size = int(one.operands[2], 0)
    target, source = Place(one.operands[0], one, kernel), Place(one.operands[1], one, kernel)
    target.space, source.space = "shared", "global"

    def run(machine, active):
        _, to = target(machine, active, size)
        _, from_ = source(machine, active, size)
        machine.global_.load(from_, size, machine, active)  # in bounds
        machine.shared.forget(to, size, machine, active)
        machine.copies.append(Copy(active.ix, to, from_, np.full(active.n, -1, np.int64), size))

    return run


def _commit(machine, active) -> None:
    for copy in machine.copies:
        mine = np.isin(copy.threads, active.ix) & (copy.group < 0)
        copy.group[mine] = machine.committed[copy.threads[mine]]
    machine.committed[active.sel] += 1


def _waiter(pending: int | None) -> Run:
    """Wait until at most `pending` groups of the thread are under way; None: until nothing is, committed or not."""

    def run(machine, active):
        left = []
        for copy in machine.copies:
            due = np.isin(copy.threads, active.ix)
            if pending is not None:
                due &= (copy.group >= 0) & (copy.group < machine.committed[copy.threads] - pending)
            if due.any():
                done = copy.some(due)
                threads = Active(done.threads)
                values = machine.global_.load(done.source, copy.size, machine, threads)
                machine.shared.store(done.target, values, machine, threads)
            if not due.all():
                left.append(copy.some(~due))
        machine.copies = left

    return run


def check_finished(machine) -> None:
    """Nothing may be under way when a kernel ends."""
    if machine.copies:
        raise PtxError(f"{machine.kernel.name} ended with asynchronous copies that nobody waited for")
