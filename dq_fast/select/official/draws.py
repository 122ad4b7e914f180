"""Draws from bins as the official code makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.select.groups import Groups

Ints = NDArray[np.int64]


def official_sample(bins: Sequence[Any], labels: Any, fraction: float, *, seed: int, first: int = 0) -> Ints:
    """Draw from the bins as the official code does.

    From every bin and, in it, from every class in sorted order, round(fraction · n) samples (banker's rounding: 12.5 %
    of CIFAR-10 are 6,200, not 6,250) by numpy's legacy generator, whose streams numpy keeps as they are: seeded with
    `seed` at the start of every bin, then one ``choice(rows, count, replace=False)`` a class. So cells of one size in
    two bins give the same places. Bins come in the order of their files' names (`listing_order`).

    Args:
        bins: row numbers of each bin, as in their files, in the order of the bins' numbers.
        labels: class of each row, [n]; None draws from each bin as a whole (their `balance` off).
        fraction: of each cell, in (0, 1].
        seed: 0 to 2**32 - 1 (theirs is of the time of day unless told).
        first: number of the first bin (0 in the official files), which the order of the names depends on.

    Returns:
        int64 row numbers, in the order that the official file holds: bin after bin, class after class, as drawn.

    Raises:
        InputError: an argument that is not as above.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float, np.number)) or not 0 < fraction <= 1:
        raise InputError(f"fraction must be in (0, 1], got {fraction!r}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    rows_of = [np.asarray(rows, np.int64) for rows in bins]
    group = None
    if labels is not None:
        group = Groups.of(labels, len(labels)).of_row
        over = [k for k, rows in enumerate(rows_of) if rows.size and not 0 <= rows.min() <= rows.max() < len(group)]
        if over:
            raise InputError(f"labels must have one entry for each row of the bins, got {len(group)} for bin {over[0]}")
    drawn: list[Ints] = [np.empty(0, np.int64)]
    for k in listing_order(len(rows_of), first):
        generator = np.random.RandomState(int(seed))
        rows = rows_of[k]
        cells = [rows] if group is None else [rows[group[rows] == c] for c in range(int(group.max(initial=-1)) + 1)]
        drawn += [generator.choice(cell, round(float(fraction) * len(cell)), replace=False) for cell in cells]
    return np.concatenate(drawn)


def listing_order(n_bins: int, first: int = 0) -> list[int]:
    """Which bin comes when where files are listed by name: 0, 1, 10, 11, 2, … of more than ten bins numbered from 0.

    Args:
        n_bins: number of bins.
        first: number of the first bin.

    Returns:
        Positions in the list of bins (0 is the bin with the number `first`).
    """
    return sorted(range(n_bins), key=lambda k: f"exp{k + first}.npy")
