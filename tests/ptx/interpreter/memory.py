"""Memory of a launch: global (this process's own), shared, local, parameters; every access is checked.

An access of n bytes is made on an array of n-byte numbers, which its alignment allows. Generic addresses of shared,
local and parameter memory are their offsets in a window far above the addresses of a process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .formats import UNSIGNED, Array
from .threads import Active

if TYPE_CHECKING:
    from .machine import Machine

WINDOW = {"shared": 1 << 60, "local": 2 << 60, "param": 3 << 60}
POISON = 0xFF  # of all bytes that nobody wrote: NaN, -1
GAP = 256  # bytes between two variables in shared or local memory: running over the end of one is seen


def window_of(address: Array, text: str) -> str:
    """The space that generic addresses point to."""
    kinds = {int(k) for k in np.unique(address >> np.int64(60))}
    if len(kinds) != 1 or not kinds <= {0, 1, 2, 3}:
        raise PtxError(f"generic addresses in different or no spaces: {text}")
    return ("global", "shared", "local", "param")[kinds.pop()]


class GlobalMemory:
    """Ranges of this process's memory that a kernel may touch: nothing else is."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        """`ranges` are addresses and bytes; overlapping ones count as one, neighbours do not."""
        merged: list[list[int]] = []
        for base, size in sorted(r for r in ranges if r[1]):
            if merged and base < merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], base + size)
            else:
                merged.append([base, base + size])
        self.begin = np.array([m[0] for m in merged], np.int64)
        self.end = np.array([m[1] for m in merged], np.int64)
        self._views: dict[tuple[int, int], tuple[Array, int]] = {}

    def _view(self, which: int, size: int) -> tuple[Array, int]:
        """The numbers of `size` bytes that lie aligned in a range, and the address of the first."""
        if (which, size) not in self._views:
            first = -(-int(self.begin[which]) // size) * size
            count = (int(self.end[which]) - first) // size
            raw = (ctypes.c_uint8 * (count * size)).from_address(first)
            self._views[which, size] = np.frombuffer(raw, UNSIGNED[size]), first
        return self._views[which, size]

    def _ranges(self, address: Array, size: int, machine: Machine, active: Active) -> Array:
        which = np.searchsorted(self.begin, address, side="right") - 1
        bad = which < 0
        if len(self.end):
            bad |= address + size > self.end[which]
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            a = int(address[k])
            near = "before all allocations"
            if which[k] >= 0:
                begin, end = int(self.begin[which[k]]), int(self.end[which[k]])
                near = f"byte {a - begin} of an allocation of {end - begin}"
            raise PtxError(f"global memory out of bounds: {size} bytes at {a:#x} ({near}), {machine.who(active, k)}")
        return which

    def load(self, address: Array, size: int, machine: Machine, active: Active) -> Array:
        which = self._ranges(address, size, machine, active)
        out = np.empty(len(address), UNSIGNED[size])
        for w in _distinct(which):
            view, first = self._view(w, size)
            chosen = slice(None) if (which == w).all() else which == w
            out[chosen] = view[(address[chosen] - first) // size]
        return out

    def store(self, address: Array, values: Array, machine: Machine, active: Active) -> None:
        size = values.dtype.itemsize
        which = self._ranges(address, size, machine, active)
        for w in _distinct(which):
            view, first = self._view(w, size)
            chosen = slice(None) if (which == w).all() else which == w
            view[(address[chosen] - first) // size] = values[chosen]

    def element(self, address: int, size: int, machine: Machine, active: Active, k: int) -> tuple[Array, int]:
        """Where the k-th active thread's number is: an array and its index."""
        which = int(self._ranges(np.array([address]), size, machine, Active(active.ix[k : k + 1]))[0])
        view, first = self._view(which, size)
        return view, (address - first) // size


def _distinct(which: Array) -> list[int]:
    low, high = int(which.min()), int(which.max())
    return [low] if low == high else [int(w) for w in np.unique(which)]


class Layout:
    """Variables one after the other with gaps between them; dynamic shared arrays all begin where the last ends."""

    def __init__(self, dynamic_bytes: int = 0) -> None:
        self.address: dict[str, int] = {}
        self.ranges: list[tuple[int, int]] = []
        self.bytes = 0
        self._dynamic: int | None = None
        self._dynamic_bytes = dynamic_bytes

    def add(self, name: str, size: int, align: int, extern: bool) -> None:
        if extern and self._dynamic is not None:
            self.address[name] = self._dynamic
            return
        align = max(align, 16)  # so that no access of an aligned number crosses into a gap
        begin = -(-self.bytes // align) * align
        if extern:
            self._dynamic, size = begin, self._dynamic_bytes
        self.address[name] = begin
        self.ranges.append((begin, begin + size))
        self.bytes = -(-(begin + size) // 16) * 16 + GAP


class PrivateMemory:
    """Local memory, one for each thread, or parameters, one for all: [owners, bytes]."""

    def __init__(self, name: str, layout: Layout, owners: int) -> None:
        self.name = name
        self.width = max(-(-layout.bytes // 16) * 16, 16)
        self.bytes = np.full(owners * self.width, POISON, np.uint8)
        self.inside = np.zeros(self.width, bool)
        for begin, end in layout.ranges:
            self.inside[begin:end] = True

    def index(self, owner: Array | int, address: Array, size: int, machine: Machine, active: Active) -> Array:
        bad = (address < 0) | (address + size > self.width)
        if not bad.any():
            bad = ~(self.inside[address] & self.inside[address + size - 1])
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            where = f"{size} bytes at {int(address[k])}, {machine.who(active, k)}"
            raise PtxError(f"{self.name} memory out of bounds: {where}")
        return (owner * self.width + address) // size

    def view(self, size: int) -> Array:
        return self.bytes.view(UNSIGNED[size])


def check_aligned(address: Array, size: int, machine: Machine, active: Active) -> None:
    wrong = address % size != 0
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise PtxError(f"misaligned: {size} bytes at {int(address[k]):#x}, {machine.who(active, k)}")
