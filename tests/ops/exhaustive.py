"""Graph-cut greedy as its definition reads: numpy, float64, every matrix written out. Knows nothing of the package."""

from __future__ import annotations

import itertools

import numpy as np

TIE = 1e-12
EQUAL_TO_MEAN = 1e-12


def similarities(factors, shifted=True, center=False):
    """s [n, n] of one group."""
    n = len(factors[0])
    phi = np.ones((n, 1))
    for x in factors:
        x = np.asarray(x, dtype=np.float64)
        phi = np.einsum("ia,ib->iab", phi, unit(x, 0.0)).reshape(n, phi.shape[1] * x.shape[1])
    if center and n:
        phi = unit(phi - phi.mean(0), EQUAL_TO_MEAN)
    c = phi @ phi.T
    return 0.5 + 0.5 * c if shifted else c


def unit(x, floor):
    """Rows of x with norm 1; rows of norm <= floor are zero."""
    x = x / np.maximum(np.abs(x).max(1, keepdims=True), np.finfo(np.float64).tiny) if floor == 0 else x
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > floor)


def bin_sizes(n, n_bins):
    return [len(part) for part in np.array_split(np.arange(n), n_bins)]


def greedy(s, sizes, lam=1.0, scale=1.0):
    """Rows in pick order, their gains, and for each pick how far its gain is from the plain maximum."""
    n = len(s)
    tolerance = TIE * max(1, n) * (lam + 2) * scale
    left = np.ones(n, dtype=bool)
    rows, gains, shortfall = [], [], []
    for size in sizes:
        remaining = np.flatnonzero(left)
        total = lam * s[remaining].sum(0)
        taken = np.zeros(n)
        for _ in range(size):
            gain = np.where(left, total - 2 * taken, -np.inf)
            best = gain.max()
            row = int(np.flatnonzero(gain >= best - tolerance)[0])
            rows.append(row)
            gains.append(gain[row])
            shortfall.append(best - gain[row])
            taken += s[row]
            left[row] = False
    return np.array(rows, dtype=np.int64), np.array(gains), np.array(shortfall)


def ranked(factors, offsets, sizes_of, lam=1.0, shifted=True, center=False):
    """The same for every group: rows are numbered over all groups."""
    rows, gains = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for g, (begin, end) in enumerate(itertools.pairwise(offsets)):
        s = similarities([x[begin:end] for x in factors], shifted, center)
        r, v, _ = greedy(s, sizes_of(g, end - begin), lam)
        rows.append(begin + r)
        gains.append(v)
    return np.concatenate(rows), np.concatenate(gains)
