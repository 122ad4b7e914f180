"""Appending: new rows of one group go into its bins by the gain that they have there.

Bin after bin, R = the rows of this and later bins and the new rows that no bin has taken yet, B = the rows the bin has;
the new row with the largest gain lam * sum_R s(x, j) - 2 * sum_B s(x, b) is added to B until the bin is full. Of the
old rows only their sums are needed: both parts of the gain are inner products with sums.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.ops.embedding import Group
from dq_fast.ops.graph_cut_torch import tie_tolerance, winner

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_GRAM_ROWS = 4096  # inner products of that many new rows are formed at once: 128 MB


def level(counts: Ints, more: int) -> Ints:
    """How many rows each bin gets, [bins], so that all are as equal as they can be; the first ones fill up first.

    Where sizes differ by at most one, larger first, they do so after, and are those of a fresh partition.
    """
    wanted = np.zeros(len(counts), np.int64)
    order = np.argsort(counts, kind="stable")
    ascending = counts[order]
    # The highest number of bins j (the emptiest) that `more` rows bring to one level of at least the j-th's size.
    needed = ascending * np.arange(1, len(counts) + 1) - np.cumsum(ascending)
    j = int(np.searchsorted(needed, more, side="right"))
    filled = np.sort(order[:j])
    height, left = divmod(more + int(counts[filled].sum()), j)
    wanted[filled] = height - counts[filled]
    # The rest, one each: to the bins at that height, first ones first.
    level_now = counts + wanted
    lowest = np.flatnonzero(level_now == height)[:left]
    wanted[lowest] += 1
    return wanted


def place(
    new: Group, counts: Ints, sums: Tensor, *, lam: float, shifted: bool, largest: float = 1.0
) -> tuple[Ints, Ints, Floats]:
    """Put the rows of `new` into the bins of their group.

    Args:
        new: the new rows, as the sums are of.
        counts: rows in each bin, [bins].
        sums: of the rows in each bin, float64 [bins, d1, d2].
        lam: weight of the first sum.
        shifted: similarities 1/2 + 1/2 of the inner products.
        largest: the largest |s| there can be.

    Returns:
        New rows in the order they were taken, int64 [m]; the bin of each of those, int64 [m]; its gain, float64 [m].
    """
    m, bins = len(new), len(counts)
    wanted = level(counts, m)
    unit = 0.5 if shifted else 1.0
    tolerance = tie_tolerance(int(counts.sum()) + m, lam, largest)
    gram = new.cosines(new) if m <= _GRAM_ROWS else None
    remaining, remaining_sum = int(counts.sum()) + m, sums.sum(0) + new.total()
    left = torch.ones(m, dtype=torch.bool)
    order, gains_taken = [], []
    for k in range(bins):
        gains = unit * new.dot(lam * remaining_sum - 2 * sums[k])
        if shifted:
            gains += 0.5 * (lam * remaining - 2 * int(counts[k]))
        gains = torch.where(left, gains, -math.inf)
        taken: list[int] = []
        for _ in range(int(wanted[k])):
            row, gain = winner(gains, tolerance)
            taken.append(row)
            gains_taken.append(gain)
            alike = new.cosines(new.take(torch.tensor([row])))[:, 0] if gram is None else gram[row]
            gains -= 2 * unit * alike + (1 if shifted else 0)
            gains[row] = -math.inf
        at = torch.tensor(taken, dtype=torch.int64)
        left[at] = False
        remaining -= int(counts[k]) + len(taken)
        remaining_sum = remaining_sum - sums[k] - new.take(at).total()
        order += taken
    return np.array(order, np.int64), np.repeat(np.arange(bins), wanted), np.array(gains_taken, np.float64)
