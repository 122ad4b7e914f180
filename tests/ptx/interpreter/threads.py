"""Sets of threads and what a thread can be doing."""

from __future__ import annotations

from .formats import Array

RUN, BARRIER, WARP, DONE = 0, 1, 2, 3  # WARP: waits for lanes of its warp that a mask names


class Active:
    """The threads that an instruction runs for: their numbers, ascending, and the quickest index that picks them."""

    __slots__ = ("ix", "n", "sel")

    def __init__(self, ix: Array) -> None:
        self.ix, self.n = ix, len(ix)
        self.sel = slice(int(ix[0]), int(ix[-1]) + 1) if self.n and int(ix[-1]) - int(ix[0]) + 1 == self.n else ix
