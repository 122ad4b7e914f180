"""The score methods by their definitions: float64, one sample and one pair at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def least_confidence(z: Array) -> Array:
    return np.array([1 - max(p) for p in softmax(z)])


def entropy(z: Array) -> Array:
    return np.array([-sum(a * math.log(a) for a in p if a > 0) for p in softmax(z)])


def margin(z: Array) -> Array:
    scores = []
    for p in softmax(z):
        first, second = sorted([*p, 0.0], reverse=True)[:2]
        scores.append(1 - (first - second))
    return np.array(scores)


def error_norm(x: Array, y: NDArray[np.int64], weight: Array, bias: Array) -> Array:
    p = softmax(x @ weight.T + bias)
    p[np.arange(len(y)), y] -= 1
    return np.linalg.norm(p, axis=1)


def gradient_norm(x: Array, y: NDArray[np.int64], weight: Array, bias: Array) -> Array:
    """Norm of the whole gradient of each sample's cross-entropy, the outer product written out."""
    p = softmax(x @ weight.T + bias)
    p[np.arange(len(y)), y] -= 1
    return np.array([np.linalg.norm(np.outer(e, [1, *h])) for e, h in zip(p, x, strict=True)])


def forgetting(right: NDArray[np.bool_]) -> float:
    """Events in the history [epochs] of one sample."""
    if not right.any():
        return float(len(right))
    return float(sum(before and not now for before, now in itertools.pairwise(right)))


def kl(p: Array, q: Array) -> float:
    return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def nearest(x: Array, k: int, among: Array | None = None) -> list[list[int]]:
    others = x if among is None else among
    found = []
    for i, row in enumerate(x):
        order = sorted((float(((other - row) ** 2).sum()), j) for j, other in enumerate(others))
        found.append([j for _, j in order if among is not None or j != i][:k])
    return found


def cal(x: Array, z: Array, k: int, labelled: tuple[Array, Array] | None = None) -> Array:
    p = softmax(z)
    theirs = p if labelled is None else softmax(labelled[1])
    neighbours = nearest(x, k, None if labelled is None else labelled[0])
    return np.array([np.mean([kl(theirs[j], p[i]) for j in near]) for i, near in enumerate(neighbours)])


def deepfool(x: Array, weight: Array, bias: Array) -> Array:
    scores = []
    for h in x:
        f = weight @ h + bias
        c = int(np.argmax(f))
        others = [k for k in range(len(f)) if k != c]
        scores.append(min(abs(f[k] - f[c]) / np.linalg.norm(weight[k] - weight[c]) for k in others))
    return np.array(scores)


def contextual_diversity(z: Array, budget: int) -> tuple[list[int], list[float]]:
    p = softmax(z)
    mean = p.mean(0)

    def apart(a: Array, b: Array) -> float:
        return 0.5 * kl(a, b) + 0.5 * kl(b, a)

    from_mean = [apart(row, mean) for row in p]
    picks, scores = [int(np.argmin(from_mean))], [min(from_mean)]
    while len(picks) < budget:
        least = [-1.0 if i in picks else min(apart(row, p[b]) for b in picks) for i, row in enumerate(p)]
        picks.append(int(np.argmax(least)))
        scores.append(max(least))
    return picks, scores


def log_likelihood(x: Array, z: Array, y: NDArray[np.int64], moved: Array) -> float:
    """Mean log-likelihood where the head's parameters [D + 1, C] have moved."""
    p = softmax(z + np.c_[np.ones(len(x)), x] @ moved)
    return float(np.mean([math.log(p[i, label]) for i, label in enumerate(y)]))


def gradient_of(x: Array, z: Array, y: int) -> Array:
    """Gradient [D + 1, C] of one sample's log-likelihood."""
    return np.outer([1, *x], np.eye(len(z))[y] - softmax(z))


def validation_gradient(x: Array, z: Array, y: NDArray[np.int64], moved: Array) -> Array:
    """Gradient of the mean log-likelihood, by central differences of the definition."""
    gradient, step = np.zeros_like(moved), 1e-6
    for at in np.ndindex(moved.shape):
        there = moved.copy()
        there[at] += step
        up = log_likelihood(x, z, y, there)
        there[at] -= 2 * step
        gradient[at] = (up - log_likelihood(x, z, y, there)) / (2 * step)
    return gradient


def glister(
    x: Array, z: Array, y: NDArray[np.int64], budget: int, eta: float, validation: tuple[Array, Array, Array]
) -> tuple[list[int], list[float]]:
    """Greedy, the validation gradient taken anew before every pick."""
    moved = np.zeros((x.shape[1] + 1, z.shape[1]))
    picks: list[int] = []
    scores: list[float] = []
    own = [gradient_of(x[i], z[i], int(y[i])) for i in range(len(x))]
    while len(picks) < budget:
        direction = validation_gradient(*validation, moved)
        gains = [-np.inf if i in picks else eta * float((g * direction).sum()) for i, g in enumerate(own)]
        picks.append(int(np.argmax(gains)))
        scores.append(gains[picks[-1]])
        moved += eta * own[picks[-1]]
    return picks, scores
