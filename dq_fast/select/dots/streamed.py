"""Graph cut on raw dot products without the matrix of them: exact, in float64, reading rows as seldom as bounds allow.

The rows of largest gain are in a *pool* whose gains are kept true with a small matrix of their dot products. A row
outside has the gain that was true when last looked at; since then it lost at least

    2 (<P x, P W> - ||x - P x|| ||W - P W||)

(Cauchy-Schwarz; W the sum of the rows picked since, P the projection on some directions: the group's sum and the
principal ones of a sample). Where a row outside may win, those near winning are read again and the best join the pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.ops.embedding import Centre, Group
from dq_fast.ops.graph_cut_torch import bin_sizes, tie_tolerance
from dq_fast.select.dots.pool import Pool
from dq_fast.select.dots.products import Products
from dq_fast.select.rows import Factors

Ints = NDArray[np.int64]

_DIRECTIONS = 16
_SAMPLE = 256  # rows whose principal directions are taken
_POOL = 1024  # rows at most
_JOIN = 256  # rows that join at once, at most
_SEGMENTS = 16  # moments of renewal that are told apart
_HORIZON = 48  # picks ahead that a renewal looks
_CHUNK = 1 << 15  # rows whose bounds are computed together
_SLACK = 1e-14  # rounding must not make a bound too tight
_ROW = 8 * _DIRECTIONS + 120  # bytes a row of the group: projections, gains, states, places and copies on their way

_GONE, _OUTSIDE, _POOLED = 0, 1, 2


def least_bytes(factors: Factors, rows: int) -> int:
    """Memory that ranking a group of so many rows takes, at the least."""
    numbers = int(np.prod(factors.widths, dtype=np.int64))
    return _ROW * rows + 8 * numbers * (_SEGMENTS + 2 * _DIRECTIONS + 8) + (24 << 20) + _pool_bytes(factors.widths, 64)


def _pool_bytes(widths: tuple[int, ...], capacity: int) -> int:
    return 8 * capacity * (3 * capacity + 3 * sum(widths))


def rank_streamed(
    products: Products, n_bins: int, lam: float, room: int, advance: Callable[[int], None]
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Rank all rows of a group in bins.

    Args:
        products: the group's rows.
        n_bins: bins; sizes as in `dq_fast.ops.graph_cut_bins`.
        lam: weight of the sum over the remaining rows.
        room: bytes that may be taken beside the rows.
        advance: called with the number of rows ranked since the last call.

    Returns:
        ranking [n]: places in the group in pick order; bin_of [n] and gains [n] by place.
    """
    return _Streamed(products, lam, room).run(n_bins, advance)


class _Streamed:
    def __init__(self, products: Products, lam: float, room: int) -> None:
        self.x, self.lam, self.n, self.device = products, lam, len(products), products.device
        largest = float(products.squares.max()) if self.n else 1.0
        self.tolerance = tie_tolerance(self.n, lam, largest)
        self.unit = float(products.squares.mean()) if self.n else 1.0
        self.longest = math.sqrt(largest)
        capacity = min(_POOL, self.n)
        free = room - least_bytes(products.factors, self.n)
        while capacity > 64 and _pool_bytes((products.d1, products.d2), capacity) > max(0, free):
            capacity //= 2
        self.pool = Pool(products, capacity)
        self.total = products.total()
        self._project()
        self.gains = self._zeros(self.n)
        self.state = torch.full((self.n,), _OUTSIDE, dtype=torch.uint8, device=self.device)
        self.segment = torch.zeros(self.n, dtype=torch.int64, device=self.device)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def _project(self) -> None:
        """Directions, orthonormal; what each row has along them, and how long the rest of it is."""
        x, n = self.x, self.n
        sample = x.take(np.unique(np.linspace(0, n - 1, min(_SAMPLE, n)).astype(np.int64)))
        first = self.total / (self.total.norm() + 1e-300)
        along = sample.dot(first)
        values, vectors = torch.linalg.eigh(sample.cosines(sample) - torch.outer(along, along))
        found = [first]
        for k in range(len(values) - 1, max(-1, len(values) - _DIRECTIONS), -1):
            if not float(values[k]) > 1e-9 * float(values[-1]):
                break
            found.append(_weighted(sample, vectors[:, k]))
        basis, _ = torch.linalg.qr(torch.stack(found).flatten(1).T)
        self.directions = basis.T.contiguous().view(-1, x.d1, x.d2)
        self.along = x.dots(self.directions)
        self.rest = (x.squares - self.along.square().sum(1)).clamp(min=0).add(_SLACK * x.squares).sqrt()
        self.least_along = self.along[:, 0].aminmax()

    def run(self, n_bins: int, advance: Callable[[int], None]) -> tuple[Ints, Ints, NDArray[np.float64]]:
        ranking, gains = np.empty(self.n, np.int64), np.empty(self.n)
        bin_of = np.empty(self.n, np.int64)
        done = 0
        for k, size in enumerate(bin_sizes(self.n, n_bins)):
            if size:
                self._begin_bin()
            for _ in range(size):
                slot = self._choose()
                place = int(self.pool.place[slot])
                ranking[done], gains[place], bin_of[place] = place, float(self.pool.gain[slot]), k
                self._pick(slot, place)
                done += 1
                if done % 64 == 0:
                    advance(64)
            self.total -= self.sum
        advance(self.n % 64)
        return ranking, bin_of, gains

    def _begin_bin(self) -> None:
        self.base = self.lam * self.x.dots(self.total[None])[:, 0]
        self.sum, self.sum_along = self._zeros(self.x.d1, self.x.d2), self._zeros(len(self.directions))
        self.sums, self.sums_along = [self.sum.clone()], [self.sum_along.clone()]
        self.last_low, self.picked, self.last_picked = math.nan, 0, 0
        self.gains.copy_(self.base)
        self.segment.zero_()
        self.state[self.state == _POOLED] = _OUTSIDE
        self.pool.clear()
        self._join(self._best_outside(self.pool.capacity // 2))

    def _best_outside(self, most: int) -> Tensor:
        """Places of the rows outside with the largest gains."""
        here = (self.state == _OUTSIDE).nonzero()[:, 0]
        if len(here) <= max(most, self.pool.capacity):
            most = min(len(here), self.pool.capacity)
        return here[torch.topk(self.gains[here], min(most, len(here))).indices]

    def _join(self, places: Tensor) -> None:
        """Put rows with true gains into the pool; the worst there make room."""
        if not len(places):
            return
        out = self.pool.make_room(len(places))
        if len(out):
            gone = self.pool.place[out]
            self.gains[gone] = self.pool.gain[out]
            self.segment[gone] = self._segment()
            self.state[gone] = _OUTSIDE
            self.pool.remove(out)
        places = places.sort().values
        self.pool.add(places, self.gains[places])
        self.state[places] = _POOLED
        self._bound = math.inf

    def _segment(self) -> int:
        """The number of the present moment."""
        if not torch.equal(self.sums[-1], self.sum):
            self.sums.append(self.sum.clone())
            self.sums_along.append(self.sum_along.clone())
        return len(self.sums) - 1

    def _bounds(self) -> Tensor:
        """What the gains [n] are at most, -inf where a row is not outside."""
        moved = torch.stack([self.sum - s for s in self.sums])
        along = torch.stack([self.sum_along - s for s in self.sums_along])
        square = moved.flatten(1).square().sum(1)
        rest = (square - along.square().sum(1)).clamp(min=0).add(_SLACK * square).sqrt()
        found = torch.empty_like(self.gains)
        for i in range(0, self.n, _CHUNK):
            part = slice(i, i + _CHUNK)
            segment = self.segment[part]
            lost = (self.along[part] @ along.T).gather(1, segment[:, None])[:, 0] - self.rest[part] * rest[segment]
            found[part] = torch.where(self.state[part] == _OUTSIDE, self.gains[part] - 2 * lost, -math.inf)
        return found

    def _choose(self) -> int:
        """The slot of the row to pick: the lowest row among those within the tolerance of the largest gain."""
        low = float(self.pool.gain.max())
        if self._bound >= low - 2 * self.tolerance:
            bounds = self._bounds()
            self._bound = float(bounds.max())
            if self._bound >= low - 2 * self.tolerance:
                return self._exchange(low, bounds)
        return self.pool.first_of(low - self.tolerance)

    def _exchange(self, low: float, bounds: Tensor) -> int:
        """Renew the gains of rows that may win, now or soon; the best of them join, the winner among them."""
        fall = (self.last_low - low) / max(1, self.picked - self.last_picked) if self.last_low == self.last_low else 0.0
        self.last_low, self.last_picked = low, self.picked
        least = low - max(4 * self.tolerance, _HORIZON * max(0.25 * self.unit, fall)) if low > -math.inf else -math.inf
        if len(self.sums) >= _SEGMENTS:
            least = -math.inf
        near = ((bounds >= least) & (self.state == _OUTSIDE)).nonzero()[:, 0]
        if least == -math.inf:
            self.sums, self.sums_along = [self.sum.clone()], [self.sum_along.clone()]
            self.segment.zero_()
        now = self._segment()
        self.gains[near] = self.base[near] - 2 * self.x.dots(self.sum[None], near.cpu().numpy())[:, 0]
        self.segment[near] = now
        mine = self.gains[near]
        best = max(low, float(mine.max()))
        tied = near[mine >= best - self.tolerance]
        chosen = mine >= least
        order = torch.topk(mine, min(_JOIN, self.pool.capacity // 2, int(chosen.sum()))).indices
        joining = near[order]
        winner = int(tied.min()) if len(tied) else self.n
        slot = self.pool.first_of(best - self.tolerance) if low >= best - self.tolerance else -1
        if slot >= 0 and int(self.pool.place[slot]) < winner:
            winner = int(self.pool.place[slot])
        if self.state[winner] == _OUTSIDE and not bool((joining == winner).any()):
            joining = torch.cat([joining[:-1], joining.new_tensor([winner])])
        self._join_keeping(joining, winner)
        return self.pool.slot_of(winner)

    def _join_keeping(self, places: Tensor, winner: int) -> None:
        """As `_join`, without letting go of the winner where it is in the pool and ties with better rows."""
        if int(self.state[winner]) != _POOLED:
            return self._join(places)
        slot = self.pool.slot_of(winner)
        gain = float(self.pool.gain[slot])
        self.pool.gain[slot] = math.inf
        self._join(places)
        self.pool.gain[slot] = gain

    def _pick(self, slot: int, place: int) -> None:
        self.sum += self.pool.row(slot).total()
        self.sum_along += self.along[place]
        self.state[place] = _GONE
        self.pool.pick(slot)
        self.picked += 1
        # What a row outside gains at most: minus its product with the row picked, by Cauchy-Schwarz and by the first
        # direction alone.
        low, high = (float(v) for v in self.least_along)
        along = float(self.along[place, 0])
        across = math.sqrt(max(0.0, float(self.x.squares[place]) - along**2))
        widest = self.longest
        gained = min(
            self.longest * math.sqrt(float(self.x.squares[place])), widest * across - min(low * along, high * along)
        )
        self._bound += 2 * gained + self.tolerance * 1e-3


def _weighted(rows: Group, weights: Tensor) -> Tensor:
    """Weighted sum of rows [d1, d2]."""
    m = rows.centre
    if m is None:
        return (rows.b * weights[:, None]).T @ rows.h
    return Group(rows.b, rows.h, Centre(m.b0, m.h0, m.c, weights, m.own)).total()
