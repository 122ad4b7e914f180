"""The methods by their definitions: float64, exhaustive, on embeddings written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEAR = 1e-9  # relative: as good as equal


def written_out(factors: Sequence[object]) -> Array:
    """The product embedding [n, d1 * d2 * ...]."""
    rows = np.ones((len(factors[0]), 1))
    for f in factors:
        rows = (rows[:, :, None] * np.asarray(f, np.float64)[:, None, :]).reshape(len(rows), -1)
    return rows


def unit(x: Array) -> Array:
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)


def distances(x: Array) -> Array:
    return np.linalg.norm(x[:, None, :] - x[None, :, :], axis=2)


def shifted_cosines(x: Array) -> Array:
    return 0.5 + 0.5 * unit(x) @ unit(x).T


def greedy(n: int, budget: int, value: Callable[[list[int]], float], scale: float) -> tuple[list[int], list[float]]:
    """Picks that raise a set function the most, lowest row among equals; and by how much."""
    picks: list[int] = []
    gains: list[float] = []
    for _ in range(budget):
        now = value(picks)
        gain = np.array([-np.inf if x in picks else value([*picks, x]) - now for x in range(n)])
        picks.append(int(np.flatnonzero(gain >= gain.max() - NEAR * scale)[0]))
        gains.append(float(gain[picks[-1]]))
    return picks, gains


def facility_location(x: Array, budget: int) -> tuple[list[int], list[float]]:
    s = shifted_cosines(x)
    return greedy(len(x), budget, lambda rows: float(s[:, rows].max(1).sum()) if rows else 0.0, len(x))


def craig(x: Array, budget: int) -> tuple[list[int], Array]:
    d = distances(x)
    farthest = d.max() + 1

    def nearness(rows: list[int]) -> float:
        return float((farthest - d[:, rows].min(1)).sum()) if rows else 0.0

    picks, _ = greedy(len(x), budget, nearness, len(x) * farthest)
    weights = np.zeros(budget)
    for i in range(len(x) if budget else 0):
        to_picks = d[i, picks]
        weights[np.flatnonzero(to_picks <= to_picks.min() + NEAR * farthest)[0]] += 1
    return picks, weights


def herding(x: Array, budget: int) -> tuple[list[int], list[float]]:
    mean, scale = x.mean(0), float(np.abs(x).max()) + 1
    picks: list[int] = []
    apart: list[float] = []
    for k in range(1, budget + 1):
        left = [i for i in range(len(x)) if i not in picks]
        # Squared and times k², so that near-equal is meant as in the implementation's arithmetic.
        error = np.array([np.sum((k * mean - x[[*picks, i]].sum(0)) ** 2) for i in left])
        picks.append(left[int(np.flatnonzero(error <= error.min() + NEAR * scale**2)[0])])
        apart.append(float(np.linalg.norm(mean - x[picks].mean(0))))
    return picks, apart


def k_center(x: Array, budget: int) -> tuple[list[int], list[float]]:
    d = distances(x) ** 2
    to_mean = ((x - x.mean(0)) ** 2).sum(1)
    scale = NEAR * (1 + float((x**2).sum(1).max()))
    picks: list[int] = []
    apart: list[float] = []
    for _ in range(budget):
        if not picks:
            nearest, wanted = to_mean, -to_mean
        else:
            nearest = wanted = d[:, picks].min(1)
        wanted = np.where(np.isin(np.arange(len(x)), picks), -np.inf, wanted)
        picks.append(int(np.flatnonzero(wanted >= wanted.max() - scale)[0]))
        apart.append(float(np.sqrt(nearest[picks[-1]])))
    return picks, apart


def nnls(gram: Array, target: Array, ridge: float) -> Array:
    """min over w >= 0 of w'(gram + ridge)w - 2 target'w by trying every set of variables (at most 12)."""
    k = len(target)
    best, found = 0.0, np.zeros(k)
    for mask in range(1, 1 << k):
        on = [j for j in range(k) if mask >> j & 1]
        w = np.zeros(k)
        w[on] = np.linalg.lstsq(gram[np.ix_(on, on)] + ridge * np.eye(len(on)), target[on], rcond=None)[0]
        if w.min() < 0:
            continue
        value = float(w @ gram @ w + ridge * w @ w - 2 * target @ w)
        if value < best - 1e-13 * max(1.0, abs(best)):
            best, found = value, w
    return found


def grad_match(
    x: Array, budget: int, lam: float, solve: Callable[[Array, Array, float], Array] = nnls
) -> tuple[list[int], list[float], Array]:
    whole = x.sum(0)
    largest = float(np.abs(x @ whole).max())
    picks: list[int] = []
    scores: list[float] = []
    w = np.zeros(0)
    for _ in range(budget):
        left = x @ (whole - w @ x[picks] if picks else whole)
        left[picks] = -np.inf
        picks.append(int(np.flatnonzero(left >= left.max() - NEAR * largest)[0]))
        scores.append(float(left[picks[-1]]))
        w = solve(x[picks] @ x[picks].T, x[picks] @ whole, lam)
    return picks, scores, w
