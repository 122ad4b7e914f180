"""The rows of largest gain, whose gains are kept true by the matrix of their dot products."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dq_fast.ops.embedding import Centre, Group
from dq_fast.select.dots.products import Products


class Pool:
    """Rows with true gains, and their dot products.

    Attributes:
        place: int64 [capacity], -1 where a slot is free; gain: float64 [capacity], -inf where free.
    """

    def __init__(self, products: Products, capacity: int) -> None:
        self.x, self.capacity = products, capacity
        make = {"dtype": torch.float64, "device": products.device}
        self.place = torch.full((capacity,), -1, dtype=torch.int64, device=products.device)
        self.gain = torch.full((capacity,), -math.inf, **make)  # type: ignore[call-overload]
        self.products = torch.zeros(capacity, capacity, **make)  # type: ignore[call-overload]
        one = products.take(np.zeros(1, np.int64))
        self.rows = Group(torch.zeros(capacity, products.d1, **make), torch.zeros(capacity, products.d2, **make))  # type: ignore[call-overload]
        if one.centre is not None:
            m, own = one.centre, torch.zeros(capacity, **make)  # type: ignore[call-overload]
            self.rows.centre = Centre(m.b0, m.h0, m.c, torch.ones_like(own), own)

    def clear(self) -> None:
        """Without any rows."""
        self.place.fill_(-1)
        self.gain.fill_(-math.inf)

    def make_room(self, count: int) -> Tensor:
        """Slots of the rows that have to go before `count` others join: those of least gain."""
        used = (self.place >= 0).nonzero()[:, 0]
        excess = len(used) + count - self.capacity
        if excess <= 0:
            return used[:0]
        return used[torch.topk(self.gain[used], excess, largest=False).indices]

    def remove(self, slots: Tensor) -> None:
        """Free these slots."""
        self.place[slots] = -1
        self.gain[slots] = -math.inf

    def add(self, places: Tensor, gains: Tensor) -> None:
        """Fill free slots."""
        slots = (self.place < 0).nonzero()[: len(places), 0]
        part = self.x.take(places.cpu().numpy())
        self.place[slots], self.gain[slots] = places, gains
        self.rows.b[slots], self.rows.h[slots] = part.b, part.h
        if self.rows.centre is not None and part.centre is not None:
            self.rows.centre.own[slots] = part.centre.own
        s = part.cosines(self.rows)
        self.products[slots] = s
        self.products[:, slots] = s.T

    def row(self, slot: int) -> Group:
        """One row, as a group."""
        return self.rows.take(torch.tensor([slot], device=self.place.device))

    def slot_of(self, place: int) -> int:
        """Where a row is."""
        return int((self.place == place).nonzero()[0, 0])

    def first_of(self, least: float) -> int:
        """The slot of the lowest row whose gain is at least that."""
        places = torch.where(self.gain >= least, self.place, torch.iinfo(torch.int64).max)
        return int(places.argmin())

    def pick(self, slot: int) -> None:
        """Take a row out; the gains of the others fall."""
        self.gain -= 2 * self.products[slot]
        self.remove(torch.tensor([slot], device=self.place.device))
