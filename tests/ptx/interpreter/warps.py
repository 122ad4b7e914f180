"""Lanes of a warp that meet: waiting for those that a mask names, and what each brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .formats import Array
from .operands import Reader
from .threads import RUN, WARP, Active

if TYPE_CHECKING:
    from .machine import Machine

ALL = np.uint32(0xFFFFFFFF)


def present(machine: Machine, active: Active) -> tuple[Array, Array, Array]:
    """The warps that active threads are of, the lanes of each as bits, and where each begins among the active."""
    warp = machine.warp[active.sel]
    change = np.empty(active.n, bool)
    change[0] = True
    np.not_equal(warp[1:], warp[:-1], out=change[1:])
    starts = np.flatnonzero(change)
    return warp[starts], np.bitwise_or.reduceat(machine.bit[active.sel], starts), starts


def spread(values: Array, starts: Array, n: int) -> Array:
    """One value a warp, to each of its active threads."""
    return np.repeat(values, np.diff(starts, append=n))


def _masks(machine: Machine, active: Active, read: Reader, starts: Array, bits: Array) -> Array:
    """The mask of each warp: the same for all of its lanes that are here, and naming each of them."""
    mask = np.broadcast_to(read(machine, active.sel), active.n)
    of_warp = mask[starts]
    if (mask != spread(of_warp, starts, active.n)).any():
        raise PtxError(f"lanes of one warp name different masks: {machine.text}")
    if (bits & ~of_warp).any():
        raise PtxError(f"a lane is not in its own mask: {machine.text}")
    return of_warp


def gather(machine: Machine, active: Active, at: int, read_mask: Reader) -> tuple[Active, bool]:
    """Those of whose warp every living lane that the mask names has come to instruction `at`; the rest wait there.

    Returns the threads that may go on, with those that had waited for them, and whether that is not just `active`.
    """
    warp, bits, starts = present(machine, active)
    missing = _masks(machine, active, read_mask, starts, bits) & machine.alive[warp] & ~bits
    if not machine.waiting and not missing.any():
        return active, False
    machine.state[active.sel], machine.pc[active.sel] = WARP, at
    machine.waiting += active.n
    here = Active(np.flatnonzero((machine.state == WARP) & (machine.pc == at)))
    warp, bits, starts = present(machine, here)
    missing = _masks(machine, here, read_mask, starts, bits) & machine.alive[warp] & ~bits
    ready = Active(here.ix[spread(missing == 0, starts, here.n)])
    machine.state[ready.sel] = RUN
    machine.pc[ready.sel] = at + 1
    machine.waiting -= ready.n
    return ready, True
