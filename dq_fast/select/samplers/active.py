"""Class counts found by training: more of classes whose error still falls, fewer of those that are learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.select.samplers.shares import apportion, weighted_shares

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def active_class_counts(
    errors_of: Callable[[Ints], Any], class_sizes: Any, keep: float, *, start: float = 0.5, rounds: int = 4
) -> Ints:
    """How many samples of each class to keep, by measuring what more samples do to each class's error.

    Every class starts with the same part of its samples, in all `start` of the total. Then in each round the errors are
    measured, and a round's equal part of what is left goes to the classes in proportion to how far their error fell
    since the last measurement (in the first round, and where none fell: in proportion to the errors; where all are 0:
    to what the classes have left). Classes that hold all they have are passed over.

    Draw by the result with ``draw(..., class_weights=counts / class_sizes)``: that gives just these counts.

    Args:
        errors_of: takes counts int64 [classes], trains on a draw of so many of each class and returns each class's
            error on other data, [classes], >= 0 (a rate or a loss). Called `rounds` times.
        class_sizes: samples of each class, [classes].
        keep: fraction of all samples to keep, in (0, 1].
        start: part of the total that is given before anything is measured, in (0, 1].
        rounds: how many measurements, >= 1.

    Returns:
        int64 [classes], at most `class_sizes`, sum exactly ``round(keep * sum of class_sizes)``.

    Raises:
        InputError: an argument, or what `errors_of` returns, is not as above.

    Source:
        After Zhao, Shang, Wu and Yan, "Dataset Quantization with Active Learning based Adaptive Sampling" (DQAS), arXiv
        2407.07268 (ECCV 2024): class-wise start, then rounds led by the reduction of error. Their choice of samples
        within a class, round sizes and training are not reproduced: what trains is up to `errors_of`.
    """
    sizes = np.asarray(class_sizes, np.int64)
    if sizes.ndim != 1 or (sizes < 0).any():
        raise InputError(f"class_sizes must be numbers >= 0, one a class, got {class_sizes!r}")
    if not 0 < keep <= 1 or not 0 < start <= 1:
        raise InputError(f"keep and start must be in (0, 1], got {keep!r} and {start!r}")
    if isinstance(rounds, bool) or not isinstance(rounds, (int, np.integer)) or rounds < 1:
        raise InputError(f"rounds must be a whole number of at least 1, got {rounds!r}")
    total = round(keep * int(sizes.sum()))
    counts = _given(np.zeros_like(sizes), sizes, sizes.astype(np.float64), round(start * total))
    before = None
    for k in range(rounds):
        errors = _errors(errors_of(counts.copy()), len(sizes))
        need = errors if before is None else np.maximum(before - errors, 0)
        counts = _given(counts, sizes, need if need.any() else errors, (total - int(counts.sum())) // (rounds - k))
        before = errors
    return counts


def _given(counts: Ints, sizes: Ints, need: Floats, more: int) -> Ints:
    """`counts` with `more` samples shared out by need; by what classes have left where those in need have too few."""
    left = sizes - counts
    needy = np.where(need > 0, left, 0)
    first = min(more, int(needy.sum()))
    for amount, pull in ((first, need), (more - first, np.ones(len(need)))):
        if amount:
            room = np.where(pull > 0, sizes - counts, 0)
            # a class's weight is a rate of what it has left: need / room makes its share follow the need alone
            weights = pull / np.maximum(room, 1) if pull is need else pull
            share = weighted_shares(room[None], room[None], np.ones(1), weights, np.zeros(len(need), np.int64), amount)
            counts = counts + apportion(share, room[None], amount)[0]
    return counts


def _errors(values: Any, classes: int) -> Floats:
    errors = np.asarray(values, np.float64)
    if errors.shape != (classes,) or not (np.isfinite(errors) & (errors >= 0)).all():
        raise InputError(f"errors_of must return {classes} finite numbers >= 0, one a class, got {values!r}")
    return errors
