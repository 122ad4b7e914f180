"""The rows of largest gain, whose gains are kept true by the matrix of their dot products: many picks at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dq_fast.ops.embedding import Centre, Group
from dq_fast.select.dots.products import Ints, Products

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Picks:
    """What would be picked of the pool's rows, one after the other.

    Attributes:
        slots: where in the pool, in pick order [t]. places: the rows' places in the group [t].
        gains: of the rows picked [t]. tops: the pool's largest gain at each pick [t].
        after: gains of the pool's rows after all of them [capacity].
        products: of the rows picked [t, t].
    """

    slots: Ints
    places: Ints
    gains: Floats
    tops: Floats
    after: Floats
    products: Floats

    def __len__(self) -> int:
        return len(self.slots)


class Pool:
    """Rows with true gains, and their dot products; on the CPU, where a pick is a few short passes.

    Attributes:
        place: int64 [capacity], -1 where a slot is free; gain: float64 [capacity], -inf where free.
        doubled: float64 [capacity, capacity], twice the products of the rows.
        rows: the rows themselves, where the group's are.
    """

    def __init__(self, products: Products, capacity: int) -> None:
        self.x, self.capacity = products, capacity
        self.place = np.full(capacity, -1, np.int64)
        self.gain = np.full(capacity, -math.inf)
        self.doubled = np.zeros((capacity, capacity))
        make = {"dtype": torch.float64, "device": products.device}
        one = products.take(np.zeros(1, np.int64))
        self.rows = Group(torch.zeros(capacity, products.d1, **make), torch.zeros(capacity, products.d2, **make))  # type: ignore[call-overload]
        if one.centre is not None:
            m, own = one.centre, torch.zeros(capacity, **make)  # type: ignore[call-overload]
            self.rows.centre = Centre(m.b0, m.h0, m.c, torch.ones_like(own), own)

    @property
    def used(self) -> Ints:
        """Slots that are not free."""
        return np.flatnonzero(self.place >= 0)

    def remove(self, slots: Ints) -> None:
        """Free these slots."""
        self.place[slots] = -1
        self.gain[slots] = -math.inf

    def add(self, places: Ints, gains: Floats) -> None:
        """Fill free slots."""
        if not len(places):
            return
        slots = np.flatnonzero(self.place < 0)[: len(places)]
        part = self.x.take(places)
        self.place[slots], self.gain[slots] = places, gains
        at = torch.from_numpy(slots).to(self.rows.h.device)
        self.rows.b[at], self.rows.h[at] = part.b, part.h
        if self.rows.centre is not None and part.centre is not None:
            self.rows.centre.own[at] = part.centre.own
        twice = self.x.pairs(part, self.rows).mul_(2).cpu().numpy()
        self.doubled[slots] = twice
        self.doubled[:, slots] = twice.T

    def draw(self, most: int, tolerance: float) -> Picks:
        """Up to so many picks: each the lowest place of those within the tolerance of the largest gain."""
        gain, place = self.gain.copy(), self.place
        most = min(most, len(self.used))
        slots, gains, tops = np.empty(most, np.int64), np.empty(most), np.empty(most)
        for t in range(most):
            top = gain.max()
            near = np.flatnonzero(gain >= top - tolerance)
            slot = near[0] if len(near) == 1 else near[place[near].argmin()]
            slots[t], gains[t], tops[t] = slot, gain[slot], top
            gain -= self.doubled[slot]
            gain[slot] = -math.inf
        return Picks(slots, place[slots], gains, tops, gain, self.doubled[np.ix_(slots, slots)] / 2)

    def take(self, picks: Picks, count: int) -> None:
        """Let go of the first so many picks; the gains of the others fall."""
        gone = picks.slots[:count]
        if count == len(picks):
            self.gain[:] = picks.after
        else:
            self.gain -= self.doubled[gone].sum(0)
        self.remove(gone)
