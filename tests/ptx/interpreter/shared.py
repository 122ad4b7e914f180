"""Shared memory, one for each block: bounds, bytes that nobody wrote, and accesses that no barrier orders.

Two accesses of the same bytes, one of them a write, are a hazard unless they are the same thread's, or a barrier of the
block lies between them, or they are one warp's and a __syncwarp lies between. The state is kept for granules: the
smallest size in which the kernel touches shared memory. Atomics among themselves are no hazard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .formats import Array
from .memory import Layout, PrivateMemory

if TYPE_CHECKING:
    from .machine import Machine
    from .threads import Active

SEVERAL, ATOMIC, NOBODY = -2, -3, -1


class _Last:
    """Who touched each granule last: block epoch, warp, warp epoch and thread (or SEVERAL, ATOMIC)."""

    def __init__(self, granules: int) -> None:
        self.epoch, self.warp, self.warp_epoch, self.thread = (np.full(granules, NOBODY, np.int32) for _ in range(4))

    def unordered(self, at: Array, epoch: Array, warp: Array, warp_epoch: Array, thread: Array) -> Array:
        same = self.warp[at] == warp
        return (self.epoch[at] == epoch) & (~same | ((self.warp_epoch[at] == warp_epoch) & (self.thread[at] != thread)))

    def set(self, at: Array, epoch: Array, warp: Array, warp_epoch: Array, thread: Array) -> None:
        self.epoch[at], self.warp[at], self.warp_epoch[at], self.thread[at] = epoch, warp, warp_epoch, thread

    def add(self, at: Array, epoch: Array, warp: Array, warp_epoch: Array, thread: Array) -> None:
        """One more toucher in this epoch beside those that were there."""
        fresh = self.epoch[at] != epoch
        self.set(at[fresh], epoch[fresh], warp[fresh], warp_epoch[fresh], thread[fresh])
        other = self.warp[at] != warp
        self.warp[at[other]] = SEVERAL
        later = ~other & (self.warp_epoch[at] != warp_epoch)
        self.warp_epoch[at[later]], self.thread[at[later]] = warp_epoch[later], thread[later]
        self.thread[at[self.thread[at] != thread]] = SEVERAL


class SharedMemory(PrivateMemory):
    """[blocks, bytes]."""

    def __init__(self, layout: Layout, blocks: int, granule: int, hazards: bool) -> None:
        super().__init__("shared", layout, blocks)
        self.granule, self.hazards = granule, hazards
        granules = blocks * self.width // granule
        self.written = np.zeros(granules, bool)
        self.last_write, self.last_read = _Last(granules), _Last(granules)

    def _granules(self, index: Array, size: int) -> Array:
        each = size // self.granule
        return (index[:, None] * each + np.arange(each)).ravel() if each > 1 else index

    def _who(self, machine: Machine, active: Active, each: int) -> tuple[Array, Array, Array, Array]:
        warp = machine.warp[active.sel]
        who = machine.epoch[machine.block_of[active.sel]], warp, machine.warp_epoch[warp], machine.thread[active.sel]
        return tuple(np.repeat(w, each) for w in who) if each > 1 else who  # type: ignore[return-value]

    def load(self, address: Array, size: int, machine: Machine, active: Active) -> Array:
        index = self.touch("read", address, size, machine, active)
        return self.view(size)[index]

    def store(self, address: Array, values: Array, machine: Machine, active: Active) -> None:
        index = self.touch("write", address, values.dtype.itemsize, machine, active)
        self.view(values.dtype.itemsize)[index] = values

    def touch(self, how: str, address: Array, size: int, machine: Machine, active: Active) -> Array:
        """Check a "read", "write" or "atomic" access, note it, and return its index in view(size)."""
        index = self.index(machine.block_of[active.sel], address, size, machine, active)
        at, each = self._granules(index, size), max(size // self.granule, 1)
        if how != "write":
            unknown = ~self.written[at]
            if unknown.any():
                k = int(np.flatnonzero(unknown)[0]) // each
                where = f"at {int(address[k])}, {machine.who(active, k)}"
                raise PtxError(f"read of shared memory that nobody wrote {where}")
        else:
            self.written[at] = True
        if self.hazards:
            self._order(how, at, each, machine, active)
        return index

    def _order(self, how: str, at: Array, each: int, machine: Machine, active: Active) -> None:
        who = self._who(machine, active, each)
        hazard = self.last_write.unordered(at, *who)
        if how == "atomic":
            hazard &= self.last_write.thread[at] != ATOMIC
        if how != "read":
            hazard |= self.last_read.unordered(at, *who)
        if how == "read":
            self.last_read.add(at, *who)
        elif how == "write":
            self.last_write.set(at, *who)
            hazard |= self.last_write.thread[at] != who[3]  # two threads in one instruction
        else:
            mixed = (self.last_write.epoch[at] == who[0]) & (self.last_write.warp[at] != who[1])
            self.last_write.set(at, *who[:3], np.full_like(who[3], ATOMIC))
            self.last_write.warp[at[mixed | (self.last_write.warp[at] != who[1])]] = SEVERAL
        if hazard.any():
            k = int(np.flatnonzero(hazard)[0]) // each
            where = machine.who(active, k)
            raise PtxError(f"shared-memory hazard: {how} without a barrier since another thread's access, {where}")

    def forget(self, address: Array, size: int, machine: Machine, active: Active) -> None:
        """Bytes that an asynchronous copy writes from now on: nobody may read them before it is waited for."""
        index = self.touch("write", address, size, machine, active)
        self.written[self._granules(index, size)] = False
