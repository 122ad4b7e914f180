"""The definitions on explicit rows and similarity matrices in float64: what the tests of selection compare with."""

from __future__ import annotations

import numpy as np

TIE = 1e-12


def rows_of(factors, *, similarity="cosine", center=False, mean=None):
    """Explicit rows [n, prod of d_k] of one group, normalised (and centred); with `mean` that mean is taken out."""
    phi = np.ones((len(factors[0]), 1))
    for factor in factors:
        x = np.asarray(factor, np.float64)
        if similarity == "cosine":
            x = unit(x)
        phi = (phi[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    if center:
        phi = phi - (phi.mean(0) if mean is None else mean)
        if similarity == "cosine":
            phi = unit(phi, floor=1e-12)
    return phi


def unit(x, floor=0.0):
    largest = np.abs(x).max(1, keepdims=True)
    scaled = x / np.where(largest > 0, largest, 1)
    norm = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.where(norm * largest > floor, scaled / np.where(norm > 0, norm, 1), 0)


def similarities(phi, *, shifted=True, similarity="cosine"):
    s = phi @ phi.T
    return 0.5 + 0.5 * s if shifted and similarity == "cosine" else s


def gain(s, x, remaining, picked, lam):
    return lam * s[x, remaining].sum() - 2 * s[x, picked].sum()


def tolerance(n, lam, s=None):
    return TIE * n * (lam + 2) * (1.0 if s is None else np.abs(s).max(initial=0))


def best_of(candidates, gains, tol):
    """The lowest candidate among those nearer to the best than the tolerance; candidates ascending."""
    return candidates[int(np.argmax(np.asarray(gains) >= max(gains) - tol))]


def greedy_bins(s, sizes, lam, tol):
    """Rows and gains of every bin, every gain from its definition for every pick."""
    left, bins = list(range(len(s))), []
    for size in sizes:
        picked, gains = [], []
        remaining = list(left)
        for _ in range(size):
            candidates = [i for i in remaining if i not in picked]
            all_gains = [gain(s, x, remaining, picked, lam) for x in candidates]
            picked.append(best_of(candidates, all_gains, tol))
            gains.append(all_gains[candidates.index(picked[-1])])
        left = [i for i in left if i not in picked]
        bins.append((picked, gains))
    return bins


def bin_sizes(n, n_bins):
    return [n // n_bins + (k < n % n_bins) for k in range(n_bins)]


def appended_bins(s, old_bins, sizes, lam, tol):
    """New rows of each bin: `old_bins` lists of rows, all others are new; `sizes` of the bins afterwards."""
    old = [row for picked in old_bins for row in picked]
    new, placed, result = [i for i in range(len(s)) if i not in old], [], []
    for k, size in enumerate(sizes):
        remaining = [row for later in old_bins[k:] for row in later] + [i for i in new if i not in placed]
        in_bin, taken = list(old_bins[k]), []
        while len(in_bin) < size:
            candidates = [i for i in new if i not in placed]
            gains = [gain(s, x, remaining, in_bin, lam) for x in candidates]
            row = best_of(candidates, gains, tol)
            taken.append((row, gains[candidates.index(row)]))
            in_bin.append(row)
            placed.append(row)
        result.append(taken)
    return result


def fitted(factors, labels, n_bins, *, lam=1.0, shifted=True, center=False, similarity="cosine"):
    """Ranking, bins and gains (by row) of all groups."""
    n = len(factors[0])
    labels = np.zeros(n, int) if labels is None else np.asarray(labels)
    ranking, bin_of, gains = [], np.empty(n, np.int64), np.empty(n)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        phi = rows_of([np.asarray(f)[rows] for f in factors], similarity=similarity, center=center)
        s = similarities(phi, shifted=shifted, similarity=similarity)
        tol = tolerance(len(rows), lam, s if similarity == "dot" else None)
        for k, (picked, gained) in enumerate(greedy_bins(s, bin_sizes(len(rows), n_bins), lam, tol)):
            ranking += rows[picked].tolist()
            bin_of[rows[picked]], gains[rows[picked]] = k, gained
    return np.array(ranking, np.int64), bin_of, gains
