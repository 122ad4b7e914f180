"""The sampler g(bin, ω) of Eq. 3: draws from the bins with exact totals.

The published code draws round(ω·n) of every (class, bin) cell, so its totals drift (6,200 of 50,000 instead of 6,250 at
12.5 %) and it draws every bin with the same generator state (`dq_fast.select.official` does so). Here the total is
exact, and bins and classes are both within one sample or two of their share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.select.samplers.cells import Cells, of_bins, of_classes
from dq_fast.select.samplers.orders import nested_order, order_within
from dq_fast.select.samplers.rates import SAMPLERS, Sampler, Settings
from dq_fast.select.samplers.shares import apportion, in_reach, least_of_classes, quotas, weighted_shares

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_WITHIN = ("random", "first", "gain")


def draw(
    bin_of: Ints,
    strata: Any,
    keep: float,
    *,
    n_bins: int,
    seed: int = 0,
    sampler: str = "uniform",
    gains: Any = None,
    ranking: Any = None,
    bin_weights: Any = None,
    class_weights: Any = None,
    floor: Any = 0,
    nested: bool = False,
    within: str | None = None,
    temperature: float = 1.0,
    early: float = 1.0,
    importance: Any = None,
    alpha: float = 0.5,
    difficulty: Any = None,
    strength: float = 1.0,
) -> Ints:
    """Draw rows without replacement from every bin, and in each from every stratum.

    Samplers (`SAMPLERS` says whose they are):
        "uniform": every bin and class at the same rate, at random.
        "first": every class at the same rate; of each the first picks over the bins in order, nothing at random.
        "gain": bins and classes as "uniform"; within a cell rows of larger gain are likelier, by Gumbel top-k: the next
            row with probability ∝ exp(z / temperature), z its standardised gain in the cell (`order_within`).
        "early": bins weighted by `early_weights`: the early bins at small keeps, uniform towards keep = 1.
        "adq": bins weighted by `adq_rates` of their `importance` (from `bin_importance`).
        "difficulty": classes weighted by `difficulty_rates` of their `difficulty` (from `class_difficulty`).

    Args:
        bin_of: bin of each row, [n], 0 to n_bins - 1.
        strata: stratum of each row (a class, say), [n], anything that can be sorted.
        keep: fraction of rows to keep, in (0, 1].
        n_bins: number of bins.
        seed: whole number >= 0; the same seed gives the same rows.
        sampler: see above.
        gains: the gain each row was picked with, [n]; looked at where rows are taken by gain.
        ranking: row numbers in pick order, group after group, a permutation of [n]; looked at where rows are taken by
            pick order. For the sampler "first" it may hold fewer rows: those that it does not hold are not drawn.
        bin_weights: relative rates of the bins, [n_bins], >= 0; they multiply the sampler's own. They say from which of
            its bins a class gives its share, not how much it gives. A bin gives all it has where its rate asks for
            more; one of weight 0 gives nothing. Not with "first".
        class_weights: relative rates of the classes: an array in sorted order of the labels, or a mapping from label
            to rate (1 for those not named). ``counts / sizes`` gives just these counts of each class.
        floor: at least so many of each class, or all that it has: one number, an array, or a mapping (0 for those not
            named). Bins are then, as with class weights, within two samples of their share, not one.
        nested: a smaller keep's rows are a subset of a larger one's, for the same seed and other arguments. Classes are
            then within one of their share, bins about so. Not with "early", whose rates change with keep.
        within: how rows are taken within a cell, "random", "first" (by pick order) or "gain"; None: the sampler's own.
        temperature: of "gain", > 0: towards 0 the largest gains first, large: uniform.
        early: see `early_weights`.
        importance: float [n_bins], for "adq".
        alpha: see `adq_rates`.
        difficulty: one number a class (as `class_weights`), for "difficulty".
        strength: see `difficulty_rates`.

    Returns:
        Row numbers, ascending, int64 [round(keep * n)].

    Raises:
        InputError: an argument that is not as above, or floors and weights that the total cannot meet.
    """
    _check_numbers(keep, seed, temperature)
    chosen = _sampler(sampler, nested, ranking=ranking, gains=gains, importance=importance, difficulty=difficulty)
    within = _within(chosen, within, bin_weights)
    cells = Cells.of(bin_of, strata, n_bins)
    n = len(cells.cell)
    total = round(float(keep) * n)
    pick = _pick_order(ranking, cells, partial=chosen.name == "first") if within == "first" else None
    gains = _gains(gains, n) if within == "gain" else None
    if chosen.name == "first":
        cells = cells.in_one_bin()
    settings = Settings(float(keep), early, alpha, importance, difficulty, strength)
    of_bin, of_class = _weights(chosen, cells, settings, bin_weights, class_weights)
    capacity = cells.sizes if pick is None or chosen.name != "first" else _ranked(cells, pick)
    floors = _floors(floor, cells)
    by_cell = order_within(cells, within, seed=int(seed), gains=gains, pick=pick, heat=temperature)
    if nested:
        reach = in_reach(cells.sizes, capacity, of_bin, of_class, total)
        floors = least_of_classes(floors, reach, total)
        every = nested_order(cells, by_cell, reach, of_bin, of_class, floors, int(seed))
        return np.sort(every[:total]).astype(np.int64)
    counts = _counts(cells, capacity, of_bin, of_class, floors, float(keep))
    sizes = cells.sizes.reshape(-1)
    place = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(by_cell[place < np.repeat(counts.reshape(-1), sizes)]).astype(np.int64)


def _counts(cells: Cells, capacity: Ints, of_bin: Floats, of_class: Floats, floors: Ints, keep: float) -> Ints:
    """How many rows each cell gives, [bins, strata]."""
    if capacity is cells.sizes and (of_bin == 1).all() and (of_class == 1).all() and not floors.any():
        return quotas(cells.sizes, keep)
    total = round(keep * int(cells.sizes.sum()))
    share = weighted_shares(cells.sizes, capacity, of_bin, of_class, floors, total)
    reach = in_reach(cells.sizes, capacity, of_bin, of_class, total)
    if floors.any() or (of_class != 1).any():  # classes are rounded first: none falls below its floor or exact share
        return apportion(share.T, reach.T, total).T
    return apportion(share, reach, total)


def _check_numbers(keep: Any, seed: Any, temperature: Any) -> None:
    if isinstance(keep, bool) or not isinstance(keep, (int, float, np.number)) or not 0 < keep <= 1:
        raise InputError(f"keep must be a fraction in (0, 1], got {keep!r}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"seed must be a whole number >= 0, got {seed!r}")
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"temperature must be a finite number > 0, got {temperature!r}")


def _sampler(name: str, nested: bool, **given: Any) -> Sampler:
    if name not in SAMPLERS:
        raise InputError(f"sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    sampler = SAMPLERS[name]
    missing = sorted(need for need in sampler.needs if given[need] is None)
    if missing:
        raise InputError(f"{missing[0]} must be given for the sampler {name!r}, got None")
    if nested and not sampler.nested:
        others = ", ".join(other.name for other in SAMPLERS.values() if other.nested)
        raise InputError(f"sampler must be one whose rates do not change with keep ({others}) to nest, got {name!r}")
    return sampler


def _within(sampler: Sampler, within: str | None, bin_weights: Any) -> str:
    if within is not None and within not in _WITHIN:
        raise InputError(f"within must be one of {', '.join(_WITHIN)}, or None, got {within!r}")
    if sampler.name == "first":
        if bin_weights is not None:
            raise InputError("bin_weights must be None with the sampler 'first', which takes the bins in order")
        if within not in (None, "first"):
            raise InputError(f"within must be 'first' or None with the sampler 'first', got {within!r}")
    return within or sampler.within


def _weights(
    sampler: Sampler, cells: Cells, settings: Settings, bin_weights: Any, class_weights: Any
) -> tuple[Floats, Floats]:
    """Relative rates of bins [bins] and of classes [strata]."""
    of_bin, of_class = (np.ones(size) for size in cells.sizes.shape)
    if sampler.bin_rates is not None:
        of_bin = of_bin * sampler.bin_rates(cells, settings)
    if sampler.class_rates is not None:
        of_class = of_class * sampler.class_rates(cells, settings)
    if bin_weights is not None:
        of_bin = of_bin * of_bins("bin_weights", bin_weights, len(of_bin))
    if class_weights is not None:
        of_class = of_class * of_classes("class_weights", class_weights, cells.names, 1.0)
    return of_bin, of_class


def _floors(floor: Any, cells: Cells) -> Ints:
    floors = of_classes("floor", floor, cells.names, 0.0)
    if (floors != np.rint(floors)).any():
        raise InputError(f"floor must be whole numbers, got {floors[floors != np.rint(floors)][0]}")
    return floors.astype(np.int64)


def _gains(gains: Any, n: int) -> Floats:
    if gains is None:
        raise InputError("gains must be given to take rows by gain, got None")
    given = np.asarray(gains, np.float64)
    if given.shape != (n,):
        raise InputError(f"gains must have one number a row, shape ({n},), got shape {given.shape}")
    if not np.isfinite(given).all():
        raise InputError(f"gains must be finite, got {given[~np.isfinite(given)][0]}")
    return given


def _pick_order(ranking: Any, cells: Cells, *, partial: bool) -> Ints:
    """A number for each row that grows with the pick order, bin after bin, [n]; -1 for rows that were not ranked."""
    if ranking is None:
        raise InputError("ranking must be given to take rows in pick order, got None")
    n, ranked = len(cells.cell), np.asarray(ranking)
    fits = ranked.ndim == 1 and (ranked.dtype.kind in "iu" or not ranked.size) and (partial or len(ranked) == n)
    if fits and ranked.size:
        fits = ranked.min() >= 0 and ranked.max() < n and np.bincount(ranked, minlength=n).max() <= 1
    if not fits:
        many = "distinct ones" if partial else "a permutation"
        raise InputError(f"ranking must be {many} of the {n} row numbers, got shape {ranked.shape}, or other numbers")
    pick = np.full(n, -1, np.int64)
    in_bins = ranked[np.argsort(cells.cell[ranked] // max(1, len(cells.names)), kind="stable")]
    pick[in_bins] = np.arange(len(ranked))
    return pick


def _ranked(cells: Cells, pick: Ints) -> Ints:
    """How many rows of each cell were ranked, [bins, strata]."""
    counted = np.bincount(cells.cell[pick >= 0], minlength=cells.sizes.size)
    return counted.reshape(cells.sizes.shape).astype(np.int64)
