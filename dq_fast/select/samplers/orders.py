"""In which order the rows of a cell are taken, and one order of all rows of which every draw is a beginning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dq_fast.select.samplers.cells import Cells

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_FLAT = 1e-12  # gains that spread less than this part of their size are equal up to rounding


def order_within(cells: Cells, within: str, *, seed: int, gains: Floats | None, pick: Ints | None, heat: float) -> Ints:
    """Row numbers, cell after cell, within a cell in the order in which they are taken.

    Args:
        cells: which cell each row is in.
        within: "random": at random. "first": by pick order. "gain": at random with the probabilities p ∝ exp(z / heat)
            for the next row among those left in the cell, z the row's gain less the cell's mean gain in units of the
            cell's standard deviation (0 where all are equal); drawn by Gumbel top-k (Kool, van Hoof and Welling 2019,
            "Stochastic Beams and Where to Find Them"): rows in falling order of z / heat + Gumbel noise.
        seed: of the randomness.
        gains: float64 [n], for "gain".
        pick: int64 [n], a number that grows with the pick order, for "first"; -1: after all others.
        heat: the temperature of "gain", > 0: towards 0 the largest gains first, large: uniform.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    if within == "random":  # a random order of all rows, stable-sorted by cell, is a random order within each cell
        shuffled = rng.permutation(len(cells.cell))
        return shuffled[np.argsort(cells.cell[shuffled], kind="stable")]
    if within == "first":
        assert pick is not None
        return np.lexsort((pick, pick < 0, cells.cell))
    assert gains is not None
    return np.lexsort((-(_standard(cells, gains) / heat + rng.gumbel(size=len(gains))), cells.cell))


def _standard(cells: Cells, gains: Floats) -> Floats:
    """Gains less their cell's mean, in units of their cell's standard deviation."""
    count = np.maximum(cells.sizes.reshape(-1), 1)
    mean = np.bincount(cells.cell, gains, minlength=len(count)) / count
    off = gains - mean[cells.cell]
    spread = np.sqrt(np.bincount(cells.cell, off * off, minlength=len(count)) / count)
    size = np.maximum(np.abs(mean), np.abs(gains).max(initial=0.0))
    spread = np.where(spread > _FLAT * size, spread, np.inf)
    return off / spread[cells.cell]


def nested_order(
    cells: Cells, by_cell: Ints, reach: Ints, bin_weights: Floats, class_weights: Floats, floors: Ints, seed: int
) -> Ints:
    """One order of the rows in reach; for every total, its beginning is the draw.

    A class's rows come in an order of their own, in which its bins take turns by weight: the j-th row of bin b comes at
    (j + u) / (weight · size), 0 < u < 1. u runs through a Latin square of bins and classes (shuffled by the seed), so
    that no bin comes first in all classes. Then classes take turns: the i-th row of a class at (i + v) / (weight ·
    size), v spread evenly over the classes. So at every total a class is within one sample of its share by
    `weighted_shares`. A class's first rows up to its floor come before everything else.

    Args:
        cells: which cell each row is in.
        by_cell: row numbers, cell after cell in the order in which each takes its rows.
        reach: how many rows of each cell can be drawn (its first ones), [bins, strata].
        bin_weights: relative rates of bins, [bins].
        class_weights: relative rates of classes, [strata].
        floors: [strata].
        seed: of the order in which bins and classes take turns.
    """
    n_bins, strata = cells.sizes.shape
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    square = (rng.permutation(n_bins)[:, None] + rng.permutation(strata)[None, :]) % n_bins
    turn = ((square + 0.5) / n_bins).reshape(-1)
    phase = (rng.permutation(strata) + 0.5) / strata
    pull = (bin_weights[:, None] * cells.sizes).reshape(-1)
    sizes = cells.sizes.reshape(-1)
    place = np.arange(len(by_cell)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn = place < np.repeat(reach.reshape(-1), sizes)
    rows, place = by_cell[drawn], place[drawn]
    cell = cells.cell[rows]
    stratum = cell % strata
    order = np.lexsort(((place + turn[cell]) / pull[cell], stratum))
    rows, stratum = rows[order], stratum[order]
    count = np.bincount(stratum, minlength=strata)
    number = np.arange(len(rows)) - (np.cumsum(count) - count)[stratum]
    at = (number + phase[stratum]) / (class_weights * cells.sizes.sum(0))[stratum]
    return rows[np.lexsort((phase[stratum], at, number >= floors[stratum]))]
