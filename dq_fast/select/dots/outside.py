"""The rows that are not in the pool: what their gains were when last looked at, and what they are at most since.

A row has lost at least

    2 (<P x, P W> - ||x - P x|| ||W - P W||)

(Cauchy-Schwarz; W the sum of the rows picked since, P the projection on some directions: the group's sum and the
principal ones of a sample).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dq_fast.ops.embedding import Centre, Group
from dq_fast.select.dots.pool import Picks
from dq_fast.select.dots.products import Products

DIRECTIONS = 16
SEGMENTS = 16  # moments of renewal that are told apart
NUMBERS = 1 << 20  # of a block of bounds or products: 8 MB

_SAMPLE = 256  # rows whose principal directions are taken
_SLACK = 1e-13  # rounding must not make a bound too tight
_MANY = 0.5  # of the rows: where bounds leave more of them, all are looked at
_FEW = 32  # picks: bounds of all rows for fewer take longer than looking at all rows
_EDGE = 1e-3  # of the tolerance: what gains that are computed in two ways may differ by


class Outside:
    """Gains of all rows, as far as they are known; those of the pool's rows and of picked ones do not matter here.

    Attributes:
        there: bool [n], whether a row is outside: neither picked nor in the pool.
        gains: float64 [n], true at the moment `segment` [n] says.
        sum: of the rows picked for the bin [d1, d2].
    """

    def __init__(self, products: Products, lam: float, tolerance: float) -> None:
        self.x, self.lam, self.tolerance, self.n = products, lam, tolerance, len(products)
        self.device = products.device
        self.total = products.total()
        self._project()
        self.gains, self.base = self._zeros(self.n), self._zeros(self.n)
        self.there = torch.ones(self.n, dtype=torch.bool, device=self.device)
        self.segment = torch.zeros(self.n, dtype=torch.uint8, device=self.device)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def _project(self) -> None:
        """Directions, orthonormal; what each row has along them, how long the rest of it is, and a one."""
        x, n = self.x, self.n
        sample = x.take(np.unique(np.linspace(0, n - 1, min(_SAMPLE, n)).astype(np.int64)))
        first = self.total / (self.total.norm() + 1e-300)
        along = sample.dot(first)
        values, vectors = torch.linalg.eigh(sample.cosines(sample) - torch.outer(along, along))
        found = [first]
        for k in range(len(values) - 1, max(-1, len(values) - DIRECTIONS), -1):
            if not float(values[k]) > 1e-9 * float(values[-1]):
                break
            found.append(_weighted(sample, vectors[:, k]))
        basis, _ = torch.linalg.qr(torch.stack(found).flatten(1).T)
        self.directions = basis.T.contiguous().view(-1, x.d1, x.d2)
        along = x.dots(self.directions)
        rest = (x.squares - along.square().sum(1)).clamp(min=0).add(_SLACK * x.squares).sqrt()
        self.known = torch.cat([along, rest[:, None], torch.ones_like(rest)[:, None]], 1)

    def begin_bin(self) -> None:
        """All gains become those at the start of a bin, of the rows that are there or in the pool."""
        self.base = self.lam * self.x.dots(self.total[None])[:, 0]
        self.gains.copy_(self.base)
        self.segment.zero_()
        self.sum, self.along = self._zeros(self.x.d1, self.x.d2), self._zeros(len(self.directions))
        self._sums, self._alongs = [self.sum.clone()], [self.along.clone()]
        self._loose = False  # whether bounds left many rows the last time

    def end_bin(self) -> None:
        """The bin's rows are gone for good."""
        self.total -= self.sum

    def now(self) -> int:
        """The number of the present moment. Where there are too many, those go that no row's gain is of; else all."""
        if not torch.equal(self._sums[-1], self.sum):
            if len(self._sums) >= SEGMENTS:
                self._forget()
            self._sums.append(self.sum.clone())
            self._alongs.append(self.along.clone())
        return len(self._sums) - 1

    def _forget(self) -> None:
        """Drop moments that no gain is of; where all are of some, make all gains true instead."""
        used = torch.bincount(self.segment[self.there].long(), minlength=len(self._sums)).cpu().numpy() > 0
        if used.all():
            used[:] = False
            self.gains = self.base - 2 * self.x.dots(self.sum[None])[:, 0]
            self._sums.append(self.sum.clone())
            self._alongs.append(self.along.clone())
            used = np.append(used, True)
        number = torch.from_numpy(np.maximum(np.cumsum(used) - 1, 0).astype(np.uint8)).to(self.device)
        self.segment = number[self.segment.long()]
        self._sums = [x for x, is_used in zip(self._sums, used, strict=True) if is_used]
        self._alongs = [x for x, is_used in zip(self._alongs, used, strict=True) if is_used]

    def renew(self, places: Tensor) -> None:
        """Make the gains of these rows true."""
        now = self.now()
        places = places[self.segment[places] != now]
        if len(places):
            places = places.sort().values
            self.gains[places] = self.base[places] - 2 * self.x.dots(self.sum[None], places.cpu().numpy())[:, 0]
            self.segment[places] = now

    def bounds(self) -> Tensor:
        """What the gains [n] are at most, -inf where a row is not outside."""
        found = torch.full_like(self.gains, -math.inf)
        step = NUMBERS // self.known.shape[1]
        for places, against in self._by_segment(None):
            found[places] = self.gains[places]
            for some in places.split(step) if bool(against.any()) else ():
                found[some] -= (self.known[some] @ against)[:, 0]
        return found

    def _by_segment(self, picks: tuple[Picks, Group] | None) -> list[tuple[Tensor, Tensor]]:
        """Rows outside by the moment of their gains, and [directions + 2, t]: times `known` it is the least they lose.

        With picks: up to just before each, plus the top gain at that pick; else up to now [.., 1], plus 0.
        """
        found = []
        for s, (sum_, along) in enumerate(zip(self._sums, self._alongs, strict=True)):
            places = ((self.segment == s) & self.there).nonzero()[:, 0]
            if not len(places):
                continue
            moved, moved_along = self.sum - sum_, self.along - along
            square = moved.square().sum()[None]
            tops = torch.zeros_like(square)
            scale, alongs = square, moved_along[None]
            if picks is not None:
                drawn, rows = picks
                steps, squares = self._steps(drawn)
                across = _before(rows.dot(moved))
                scale = square + 2 * across.abs() + squares
                square = square + 2 * across + squares
                alongs = moved_along + steps
                tops = torch.from_numpy(drawn.tops).to(self.device)
            rest = (square - alongs.square().sum(1)).clamp(min=0).add(_SLACK * scale).sqrt()
            found.append((places, torch.cat([2 * alongs.T, -2 * rest[None], tops[None]])))
        return found

    def _along(self, picks: Picks) -> Tensor:
        """What the rows picked have along the directions [t, directions]."""
        return self.known[torch.from_numpy(picks.places).to(self.device), : len(self.along)]

    def _steps(self, picks: Picks) -> tuple[Tensor, Tensor]:
        """What the picks before each sum up to along the directions [t, directions], and its squared length [t]."""
        along = self._along(picks)
        products = torch.from_numpy(picks.products).to(self.device)
        own = products.diagonal() + 2 * products.tril(-1).sum(1)
        return _before(along), _before(own)

    def settle(self, picks: Picks, rows: Group) -> int:
        """How many of the picks hold, for no row outside gained more: at least one. They then count as picked.

        Gains of the rows that had to be looked at are true afterwards.
        """
        all_of_them = torch.arange(self.n, device=self.device)
        near = all_of_them if self._loose and len(picks) <= _FEW else self._near(picks, rows)
        self._loose = len(near) > _MANY * self.n
        if self._loose:
            near = all_of_them  # in order, for reading some of them takes as long
        self.renew(near)
        lost = self._zeros(len(near), len(picks)) if len(near) * len(picks) <= NUMBERS else None
        good = self._held(picks, rows, near, lost)
        held = rows.take(torch.arange(good, device=self.device)).total()
        self.sum += held
        self.along += self._along(picks)[:good].sum(0)
        if len(near):
            fall = self.x.dots(held[None], near.cpu().numpy())[:, 0] if lost is None else lost[:, good - 1]
            self.gains[near] -= 2 * fall
            self.segment[near] = self.now()
        return good

    def _held(self, picks: Picks, rows: Group, near: Tensor, lost: Tensor | None) -> int:
        """How many picks hold against some rows of true gains; products with the picks, added up, go into `lost`."""
        good, edge = len(picks), _EDGE * self.tolerance
        tops, places = (torch.from_numpy(x).to(self.device) for x in (picks.tops, picks.places))
        step = max(1, min(self.x.step, NUMBERS // max(1, good)))
        for i in range(0, len(near), step):
            some = near[i : i + step]
            part = self.x.take(some.cpu().numpy())
            products = self.x.pairs(part, rows.take(torch.arange(good, device=self.device))).cumsum(1)
            gains = torch.empty_like(products)
            gains[:, 0] = 0
            torch.mul(products[:, :-1], -2, out=gains[:, 1:])
            gains += torch.where(self.there[some], self.gains[some], -math.inf)[:, None]
            if lost is not None:
                lost[i : i + step, :good] = products
            least = tops[:good] - self.tolerance - edge
            close = (gains >= least).any(1).nonzero()[:, 0]
            if not len(close):
                continue
            gains, some = gains[close], some[close]
            wins = (gains > tops[:good] + edge) | ((gains >= least) & (some[:, None] < places[:good]))
            at = wins.any(0).nonzero()
            if len(at):
                good = max(1, int(at[0, 0]))
        return good

    def _near(self, picks: Picks, rows: Group) -> Tensor:
        """Rows outside that may have a gain near the largest at one of the picks, ascending."""
        found = []
        step = max(1, NUMBERS // max(self.known.shape[1], len(picks)))
        for places, against in self._by_segment((picks, rows)):
            for some in places.split(step):
                left = (self.known[some] @ against).amin(1)  # the least of what is lost and of what is to be reached
                found.append(some[left <= self.gains[some] + 2 * self.tolerance])
        return torch.cat(found).sort().values if found else torch.zeros(0, dtype=torch.int64, device=self.device)


def _before(x: Tensor) -> Tensor:
    """Sums of all entries before each."""
    return x.cumsum(0) - x


def _weighted(rows: Group, weights: Tensor) -> Tensor:
    """Weighted sum of rows [d1, d2]."""
    m = rows.centre
    if m is None:
        return (rows.b * weights[:, None]).T @ rows.h
    return Group(rows.b, rows.h, Centre(m.b0, m.h0, m.c, weights, m.own)).total()
