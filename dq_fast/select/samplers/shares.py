"""How many samples each cell (bin and class) gives: real shares, and whole numbers of exact total from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError

_WHOLE = 1e-9  # a share this near to a whole number is that number: 0.29 · 100 is 29, not 28.999999999999996

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def quotas(sizes: Ints, keep: float) -> Ints:
    """How many samples to draw from each cell at one rate for all.

    Args:
        sizes: samples in each cell, [bins, strata].
        keep: fraction of samples to keep, in (0, 1].

    Returns:
        int64 [bins, strata], at most `sizes`. They sum to exactly ``round(keep * sizes.sum())``; every bin's sum is its
        share ``keep * size`` rounded down or up, and so is every cell. The strata's running sums follow their shares
        from bin to bin (what a stratum was rounded down in one bin it gets back in the next), so that a class over all
        bins is within one or two samples of its share too.
    """
    return apportion(keep * sizes.astype(np.float64), sizes, round(keep * int(sizes.sum())))


def apportion(share: Floats, capacity: Ints, total: int) -> Ints:
    """Round shares to whole numbers of a given sum, rows of the table first.

    Args:
        share: real number wanted of each cell, [rows, columns], 0 to `capacity`; sums to `total` within 1.
        capacity: the most that each cell can give, [rows, columns].
        total: what the result has to sum to.

    Returns:
        int64 [rows, columns], at most `capacity`, sum `total`. Every row's sum is its share rounded down or up (largest
        remainders first, Hamilton's method), every cell its share rounded down or up; columns' running sums follow
        their shares from row to row.
    """
    nearest = np.rint(share)
    share = np.where(np.abs(share - nearest) < _WHOLE, nearest, share)
    counts = np.floor(share).astype(np.int64)
    of_row = share.sum(1)
    whole_of_row = np.floor(of_row + _WHOLE).astype(np.int64)
    # Largest remainders: which rows are rounded up.
    rows_up = total - int(whole_of_row.sum())
    order = np.argsort(-(of_row - whole_of_row), kind="stable")
    target = whole_of_row.copy()
    target[order[: max(0, rows_up)]] += 1
    owed = np.zeros(capacity.shape[1])  # share so far less draws so far, by column
    for k in range(capacity.shape[0]):
        fraction = share[k] - counts[k]
        owed += fraction
        up = int(target[k] - counts[k].sum())
        candidates = np.flatnonzero(counts[k] < np.minimum(capacity[k], np.ceil(share[k])))
        chosen = candidates[np.argsort(-owed[candidates], kind="stable")[: max(0, up)]]
        counts[k, chosen] += 1
        owed[chosen] -= 1
    return _settled(counts, share, capacity, total)


def _settled(counts: Ints, share: Floats, capacity: Ints, total: int) -> Ints:
    """`counts` with the sum `total`: what float rounding of many shares left over goes where it is least felt."""
    flat, wanted, room = counts.reshape(-1), share.reshape(-1), capacity.reshape(-1)
    while (short := total - int(flat.sum())) != 0:
        step = 1 if short > 0 else -1
        free = np.flatnonzero(flat < room if step > 0 else flat > 0)
        flat[free[np.argsort(step * (flat[free] - wanted[free]), kind="stable")[: abs(short)]]] += step
    return counts


def weighted_shares(
    sizes: Ints, capacity: Ints, bin_weights: Floats, class_weights: Floats, floors: Ints, total: int
) -> Floats:
    """Real shares of `total` by weight: first what each class gives, then from which of its bins (water filling).

    A class gives max(floor, min(what it has in reach, t · class weight · size)), with one t for all classes that
    follows from the total; of that each of its bins gives min(capacity, u · bin weight · size), with one u for the
    class. So the weights of bins leave the classes' shares as they are, also where small classes have few of the bins.

    Args:
        sizes: samples in each cell, [bins, strata].
        capacity: how many of them can be drawn.
        bin_weights: relative rates of bins, [bins], >= 0; where 0, nothing is drawn.
        class_weights: relative rates of classes, [strata], >= 0; where 0, nothing is drawn.
        floors: the least that each class gets, [strata]; cut to what it has in reach.
        total: the sum of all shares.

    Returns:
        float64 [bins, strata], at most `capacity`, sum `total` up to rounding.

    Raises:
        InputError: the floors ask for more than `total`, or fewer can be drawn.
    """
    reach = in_reach(sizes, capacity, bin_weights, class_weights, total)
    floors = least_of_classes(floors, reach, total)
    of_class = _class_shares(class_weights * sizes.sum(0), reach.sum(0), floors, total)
    pull = bin_weights[:, None] * sizes
    share = np.zeros(sizes.shape)
    for c in np.flatnonzero(of_class):
        share[:, c] = np.minimum(reach[:, c], levels(pull[:, c], reach[:, c], of_class[c : c + 1]) * pull[:, c])
    return share


def _class_shares(pull: Floats, reach: Ints, floors: Ints, total: int) -> Floats:
    """What each class gives, [strata]."""
    share = floors.astype(np.float64)
    free = np.ones(len(floors), bool)
    # A class that falls below its floor is taken out with its floor; that lowers the others' level, so that no class
    # has to be let in again.
    while free.any():
        level = levels(pull[free], reach[free], np.array([total - int(floors[~free].sum())]))
        share = np.where(free, np.minimum(reach, level * pull), floors)
        under = free & (share < floors)
        if not under.any():
            break
        free &= ~under
    return np.maximum(share, floors)


def levels(pull: Floats, reach: Ints, wanted: NDArray[Any]) -> Floats:
    """The levels t at which the sum over cells of min(reach, t · pull) is `wanted`; exact, as it is piecewise linear.

    Args:
        pull: >= 0, any shape.
        reach: >= 0, the same shape; 0 where pull is 0.
        wanted: numbers from 0 to the sum of reach, [k].

    Returns:
        float64 [k].
    """
    live = reach > 0
    full = reach[live] / pull[live]  # the level at which a cell gives all it has
    order = np.argsort(full)
    full, given, slope = full[order], np.cumsum(reach[live][order]), pull[live][order]
    # Summed from the end: what is left of tiny weights must not cancel against large ones.
    still = np.append(np.cumsum(slope[::-1])[::-1][1:], 0.0)
    return np.interp(wanted, np.append(0.0, given + full * still), np.append(0.0, full))


def least_of_classes(floors: Ints, reach: Ints, total: int) -> Ints:
    """The floors that can be met, [strata]: cut to what each class has in reach.

    Raises:
        InputError: together they are more than `total`.
    """
    least = np.minimum(floors, reach.sum(0))
    if int(least.sum()) > total:
        raise InputError(
            f"floor must leave room in the round(keep * n) = {total} samples, got floors of {int(least.sum())} in all; "
            "give a larger keep or a smaller floor"
        )
    return least


def in_reach(sizes: Ints, capacity: Ints, bin_weights: Floats, class_weights: Floats, total: int) -> Ints:
    """How many samples of each cell can be drawn, [bins, strata]: none where a weight is 0.

    Raises:
        InputError: together they are fewer than `total`.
    """
    reach = np.where(np.outer(bin_weights > 0, class_weights > 0), capacity, 0)
    if (there := int(reach.sum())) < total:
        n = int(sizes.sum())
        raise InputError(
            f"keep must be at most {there / n:.6g} here, got one of {total} samples: only {there} of {n} can be drawn, "
            "the others have the weight 0 or no rank"
        )
    return reach
