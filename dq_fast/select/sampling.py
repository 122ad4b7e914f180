"""The sampler g(bin, ω) of Eq. 3: uniform in every bin, with exact totals.

The published code draws round(ω·n) of every (class, bin) cell, so its totals drift (6,200 of 50,000 instead of 6,250 at
12.5 %) and it draws every bin with the same generator state. Here the total is exact, and bins and classes are both
within one sample of their share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError

_WHOLE = 1e-9  # a share this near to a whole number is that number: 0.29 · 100 is 29, not 28.999999999999996

Ints = NDArray[np.int64]


def quotas(sizes: Ints, keep: float) -> Ints:
    """How many samples to draw from each cell.

    Args:
        sizes: samples in each cell, [bins, strata].
        keep: fraction of samples to keep, in (0, 1].

    Returns:
        int64 [bins, strata], at most `sizes`. They sum to exactly ``round(keep * sizes.sum())``; every bin's sum is its
        share ``keep * size`` rounded down or up, and so is every cell. The strata's running sums follow their shares
        from bin to bin (what a stratum was rounded down in one bin it gets back in the next), so that a class over all
        bins is within one or two samples of its share too.
    """
    share = keep * sizes.astype(np.float64)
    nearest = np.rint(share)
    share = np.where(np.abs(share - nearest) < _WHOLE, nearest, share)
    counts = np.floor(share).astype(np.int64)
    of_bin = share.sum(1)
    whole_of_bin = np.floor(of_bin + _WHOLE).astype(np.int64)
    # Largest remainders: which bins are rounded up.
    bins_up = round(keep * int(sizes.sum())) - int(whole_of_bin.sum())
    order = np.argsort(-(of_bin - whole_of_bin), kind="stable")
    target = whole_of_bin.copy()
    target[order[: max(0, bins_up)]] += 1
    owed = np.zeros(sizes.shape[1])  # share so far less draws so far, by stratum
    for k in range(sizes.shape[0]):
        fraction = share[k] - counts[k]
        owed += fraction
        up = int(target[k] - counts[k].sum())
        candidates = np.flatnonzero(counts[k] < np.minimum(sizes[k], np.ceil(share[k])))
        chosen = candidates[np.argsort(-owed[candidates], kind="stable")[: max(0, up)]]
        counts[k, chosen] += 1
        owed[chosen] -= 1
    return counts


def draw(bin_of: Ints, strata: Ints, keep: float, *, n_bins: int, seed: int = 0) -> Ints:
    """Draw uniformly without replacement from every bin, and in each from every stratum.

    Args:
        bin_of: bin of each row, [n], 0 to n_bins - 1.
        strata: stratum of each row (a class, say), [n], any integers.
        keep: fraction of rows to keep, in (0, 1].
        n_bins: number of bins.
        seed: the same seed gives the same rows.

    Returns:
        Row numbers, ascending, int64 [round(keep * n)].

    Raises:
        InputError: `keep` is not in (0, 1], or the lengths differ.
    """
    if not 0 < keep <= 1:
        raise InputError(f"keep must be a fraction in (0, 1], got {keep!r}")
    if bin_of.shape != strata.shape:
        raise InputError(f"labels must have one entry a row, {bin_of.shape[0]}, got {strata.shape[0]}")
    names, stratum = np.unique(strata, return_inverse=True)
    cell = bin_of * len(names) + stratum
    sizes = np.bincount(cell, minlength=n_bins * len(names))
    counts = quotas(sizes.reshape(n_bins, len(names)), keep).reshape(-1)
    # One pass for all cells: a random order of all rows, stable-sorted by cell, is a random order within each cell.
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(bin_of))
    by_cell = shuffled[np.argsort(cell[shuffled], kind="stable")]
    place = np.arange(len(by_cell)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(by_cell[place < np.repeat(counts, sizes)]).astype(np.int64)
