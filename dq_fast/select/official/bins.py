"""The official code's bins: their sizes, and its greedy choice."""

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
from dq_fast.select.groups import Groups

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
    groups = Groups.of(labels, n)
    order, class_sizes, edges = groups.order, groups.sizes, groups.offsets
    sizes = official_sizes(class_sizes, n_bins, fraction=fraction)
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
