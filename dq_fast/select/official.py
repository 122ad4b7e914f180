"""The official Dataset Quantization code's bins and draws, value for value, and its files.

For comparing with published runs and for going on with their files. What it does otherwise than `SampleQuantizer`:

- Bin sizes: in round e every class gives round(f_e · n_c) of the n_c samples it has left, with
  f_e = round(N · fraction) / (samples left in all), both by banker's rounding; the last bin is what remains.
- A bin's rows are those of the greedy choice, class after class, ascending in a class (the pick order is lost); the
  last bin is ascending throughout.
- Draws: round(fraction · n) of every bin and class, with a generator seeded anew for every bin.

Source: the ICCV 2023 code (its quantize_sample and quantize_bin steps with balance on, and their defaults).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.progress import Progress, silent
from dq_fast.select.official_files import OfficialFiles, read_official, write_official

__all__ = [
    "OfficialFiles",
    "bin_numbers",
    "listing_order",
    "official_bins",
    "official_sample",
    "official_sizes",
    "read_official",
    "write_official",
]

Ints = NDArray[np.int64]

_ONE = 1e-5  # the official code takes the last bin as what remains where |fraction · bins - 1| is below this
_BLOCK_BYTES = 256 << 20  # rows of so many classes at a time are copied out: bounds memory, and still feeds all threads


def official_sizes(class_sizes: Any, n_bins: int = 10, *, fraction: float | None = None) -> Ints:
    """How many samples each class gives to each bin.

    Args:
        class_sizes: samples of each class, [classes].
        n_bins: number of bins, >= 1.
        fraction: of the whole set in each bin; None is 1 / n_bins. fraction · n_bins has to be 1 within 1e-5.

    Returns:
        int64 [n_bins, classes], columns summing to `class_sizes`.

    Raises:
        InputError: an argument that is not as above, or a class of which some bin would get nothing or more than there
            is: the official code stops there with an error.
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise InputError(f"n_bins must be a whole number of at least 1, got {n_bins!r}")
    fraction = 1 / n_bins if fraction is None else fraction
    if not abs(fraction * n_bins - 1) < _ONE:
        raise InputError(f"fraction must be 1 / n_bins = {1 / n_bins:.6g}, got {fraction!r}")
    left = np.asarray(class_sizes, np.int64).copy()
    size = round(int(left.sum()) * fraction)
    sizes = np.zeros((n_bins, len(left)), np.int64)
    for k in range(n_bins - 1):
        remaining = int(left.sum())
        share = size / remaining if remaining else 0.0
        for c, there in enumerate(left.tolist()):
            budget = round(share * there)
            if not 0 < budget <= there:
                raise InputError(
                    f"labels must have enough samples of each class for {n_bins} official bins, got a class (number "
                    f"{c}) with {there} left before bin {k}, which would give {budget}; take fewer bins, or not compat"
                )
            sizes[k, c] = budget
        left -= sizes[k]
    sizes[-1] = left
    return sizes


def official_bins(
    embedding: Any,
    labels: Any = None,
    n_bins: int = 10,
    *,
    fraction: float | None = None,
    method: str = "auto",
    progress: Progress = silent,
) -> list[Ints]:
    """The bins of the official code: greedy graph cut, λ = 1, on s = 1/2 + 1/2 · cos, bin after bin on what remains.

    Exact in float64 (theirs sums in float32, so that near ties may fall otherwise). Where it gives NaN, for a row of
    zeros, here the row's cosines are 0. Give it `gradient_embedding(..., loss="double_softmax")` for their embedding.

    Args:
        embedding: rows [n, d], tensor or array, or a tuple of factors [n, d_k].
        labels: class of each row, [n]; None is one group (their `balance` off).
        n_bins: number of bins, >= 1.
        fraction: see `official_sizes`.
        method: of `ops.graph_cut_greedy`; all give the same bins.
        progress: called as ``progress("bins", rows placed, n)``.

    Returns:
        n_bins int64 arrays of row numbers, each as the official file holds it: class after class in sorted order of the
        labels, ascending within a class; the last one ascending.

    Raises:
        InputError: arguments do not fit, or classes are too small (`official_sizes`).
    """
    factors = _factors(embedding)
    n = len(factors[0])
    group = np.zeros(n, np.int64) if labels is None else _class_numbers(labels, n)
    order = np.argsort(group, kind="stable")
    class_sizes = np.bincount(group, minlength=1)
    sizes = official_sizes(class_sizes, n_bins, fraction=fraction)
    edges = np.concatenate([[0], np.cumsum(class_sizes)])
    picked: list[list[Ints]] = [[] for _ in range(n_bins)]
    done = 0
    for first, stop in _blocks(class_sizes, factors):
        left = [order[edges[c] : edges[c + 1]] for c in range(first, stop)]
        for k in range(n_bins - 1):
            taken = _greedy(factors, left, sizes[k, first:stop], method)
            left = [np.setdiff1d(rows, some, assume_unique=True) for rows, some in zip(left, taken, strict=True)]
            picked[k] += taken
        picked[-1] += left
        done += int(class_sizes[first:stop].sum())
        progress("bins", done, n)
    bins = [np.concatenate(parts).astype(np.int64) for parts in picked]
    return [*bins[:-1], np.sort(bins[-1])]


def _greedy(factors: tuple[Tensor, ...], left: list[Ints], budgets: Ints, method: str) -> list[Ints]:
    """What each class gives to this bin, ascending."""
    rows = np.concatenate(left)
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in left])])
    take = torch.from_numpy(rows)
    parts = tuple(f[take.to(f.device)] for f in factors)
    indices, _ = ops.graph_cut_greedy(
        parts if len(parts) > 1 else parts[0], budgets.tolist(), offsets=torch.from_numpy(offsets), method=method
    )
    chosen = rows[indices.cpu().numpy()]
    return [np.sort(some) for some in np.split(chosen, np.cumsum(budgets)[:-1])]


def _blocks(class_sizes: Ints, factors: tuple[Tensor, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of classes whose rows fit a block; a class that does not comes alone."""
    row = sum(f.shape[1] * f.element_size() for f in factors)
    start, bytes_ = 0, 0
    for c, size in enumerate(class_sizes.tolist()):
        if c > start and bytes_ + size * row > _BLOCK_BYTES:
            yield start, c
            start, bytes_ = c, 0
        bytes_ += size * row
    yield start, len(class_sizes)


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
        group = _class_numbers(labels, len(labels))
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


def bin_numbers(bins: Sequence[Any], n: int) -> Ints:
    """The bin of each row, int64 [n], from bins that hold every row once (else InputError)."""
    every = np.concatenate([np.empty(0, np.int64), *(np.asarray(rows, np.int64) for rows in bins)])
    if len(every) != n or not np.array_equal(np.sort(every), np.arange(n)):
        raise InputError(
            f"bins must hold each of the {n} rows once, got {len(every)} entries, not all of them distinct rows"
        )
    bin_of = np.empty(n, np.int64)
    bin_of[every] = np.repeat(np.arange(len(bins)), [len(rows) for rows in bins])
    return bin_of


def _class_numbers(labels: Any, n: int) -> Ints:
    given = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if given.shape != (n,):
        raise InputError(f"labels must have one entry a row, shape ({n},), got shape {given.shape}")
    return np.unique(given, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _factors(embedding: Any) -> tuple[Tensor, ...]:
    given = embedding if isinstance(embedding, (tuple, list)) else (embedding,)
    factors = tuple(f.detach() if isinstance(f, Tensor) else torch.as_tensor(np.asarray(f)) for f in given)
    if (
        not factors
        or any(f.ndim != 2 for f in factors)
        or any(len(a) != len(b) for a, b in itertools.pairwise(factors))
    ):
        raise InputError(
            f"embedding must be 2-D [n, d] or a tuple of such, got shapes {[tuple(f.shape) for f in factors]}"
        )
    return factors
