"""Graph cut on raw dot products without the matrix of them: exact, in float64, reading rows as seldom as bounds allow.

In blocks. The rows of largest gain are in a *pool*, whose dot products are known: some picks are made among them alone.
Then all other rows are looked at for all of these picks at once: bounds (`Outside`) leave few that may have been picked
instead, and those are read and decided exactly. The picks before the first that is wrong hold.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from dq_fast.ops.graph_cut_torch import bin_sizes, tie_tolerance
from dq_fast.select.dots.outside import DIRECTIONS, NUMBERS, SEGMENTS, Outside
from dq_fast.select.dots.pool import Pool
from dq_fast.select.dots.products import Ints, Products
from dq_fast.select.rows import Factors

_POOL = 1024  # rows at most
_LEAST_POOL = 64
_AHEAD = 4, 32, 256  # picks of a block: at least, at first, and at most
_CHOICE = 4  # rows of the pool for each of them, at least
_ROW = 8 * (DIRECTIONS + 2) + 120  # bytes a row of the group: projections, gains, places and copies on their way


def least_bytes(factors: Factors, rows: int) -> int:
    """Memory that ranking a group of so many rows takes, at the least."""
    numbers = int(np.prod(factors.widths, dtype=np.int64))
    return (
        _ROW * rows
        + 8 * numbers * (SEGMENTS + 2 * DIRECTIONS + 8)
        + 3 * 8 * NUMBERS
        + _pool_bytes(factors.widths, _LEAST_POOL)
    )


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
    n = len(products)
    largest = float(products.squares.max()) if n else 1.0
    blocks = _Blocks(products, lam, tie_tolerance(n, lam, largest), _capacity(products, room))
    ranking, gains, bin_of = np.empty(n, np.int64), np.empty(n), np.empty(n, np.int64)
    done = 0
    for k, size in enumerate(bin_sizes(n, n_bins)):
        end = done + size
        if size:
            blocks.outside.begin_bin()
        while done < end:
            places, gained = blocks.next(end - done)
            ranking[done : done + len(places)] = places
            gains[places], bin_of[places] = gained, k
            done += len(places)
            advance(len(places))
        if size:
            blocks.end_bin()
    return ranking, bin_of, gains


def _capacity(products: Products, room: int) -> int:
    """Rows of the pool that there is room for."""
    capacity = min(_POOL, len(products))
    free = room - least_bytes(products.factors, len(products))
    while capacity > _LEAST_POOL and _pool_bytes((products.d1, products.d2), capacity) > max(0, free):
        capacity //= 2
    return capacity


class _Blocks:
    """The picks of a group, block by block."""

    def __init__(self, products: Products, lam: float, tolerance: float, capacity: int) -> None:
        self.tolerance = tolerance
        self.pool = Pool(products, capacity)
        self.outside = Outside(products, lam, tolerance)
        self.ahead = _AHEAD[1]

    def next(self, most: int) -> tuple[Ints, NDArray[np.float64]]:
        """Places and gains of the next picks, at least one and at most so many."""
        self._fill()
        picks = self.pool.draw(min(most, self.ahead), self.tolerance)
        rows = self.pool.rows.take(torch.from_numpy(picks.slots).to(self.outside.device))
        good = self.outside.settle(picks, rows)
        self.pool.take(picks, good)
        self.ahead = min(_AHEAD[2], 2 * self.ahead) if good == len(picks) else max(_AHEAD[0], 2 * good)
        return picks.places[:good], picks.gains[:good]

    def end_bin(self) -> None:
        """All rows that are left are outside."""
        pool, outside = self.pool, self.outside
        outside.there[torch.from_numpy(pool.place[pool.used]).to(outside.device)] = True
        pool.remove(pool.used)
        outside.end_bin()

    def _fill(self) -> None:
        """The rows of largest gain come into the pool, the one to be picked next among them."""
        pool, outside = self.pool, self.outside
        bounds = outside.bounds()
        wanted = min(pool.capacity, max(_LEAST_POOL, _CHOICE * self.ahead), int(outside.there.sum()))
        if not wanted:
            return
        best = torch.topk(bounds, wanted).indices
        outside.renew(best)
        top = max(float(pool.gain.max()), float(outside.gains[best].max()))
        bounds[best] = -torch.inf
        more = (bounds >= top - 2 * self.tolerance).nonzero()[:, 0]
        outside.renew(more)
        coming = torch.cat([best, more])
        self._exchange(coming.cpu().numpy(), outside.gains[coming].cpu().numpy())

    def _exchange(self, coming: Ints, gains: NDArray[np.float64]) -> None:
        """Keep in the pool the best of its rows and of those that come, all with true gains; the lowest of equals."""
        pool, outside = self.pool, self.outside
        used = pool.used
        places = np.concatenate([pool.place[used], coming])
        gained = np.concatenate([pool.gain[used], gains])
        order = np.lexsort((places, -np.floor(gained / max(self.tolerance, 1e-300))))
        kept = np.zeros(len(places), bool)
        kept[order[: pool.capacity]] = True
        if len(places) > pool.capacity:
            tied = np.flatnonzero(gained >= gained.max() - self.tolerance)
            winner = tied[places[tied].argmin()]
            if not kept[winner]:
                kept[order[pool.capacity - 1]], kept[winner] = False, True
        gone = used[~kept[: len(used)]]
        back = torch.from_numpy(pool.place[gone]).to(outside.device)
        outside.there[back] = True
        if len(gone):
            outside.gains[back] = torch.from_numpy(pool.gain[gone]).to(outside.device)
            outside.segment[back] = outside.now()
        pool.remove(gone)
        joining = kept[len(used) :]
        pool.add(coming[joining], gains[joining])
        outside.there[torch.from_numpy(coming[joining]).to(outside.device)] = False
