"""Classifiers that are trained on a selection's features and judged on the test part: what a selection is worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeClassifier

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

COMPONENTS = 256
"""Wider features are read through their leading principal components in the pool: all probes of a pool see the same."""

_CONSTANT = 1e-6  # a feature whose deviation is smaller tells nothing


class View:
    """Features as the probes see them: standardised by the pool, rotated to its leading components where they are wide.

    Nothing of it looks at labels, nor at the test part.
    """

    def __init__(self, pool: Floats, components: int = COMPONENTS) -> None:
        self._mean = pool.mean(0, dtype=np.float64)
        deviation = pool.std(0, dtype=np.float64)
        self._scale = np.where(deviation > _CONSTANT, 1 / np.maximum(deviation, _CONSTANT), 0.0)
        self._axes = None
        if pool.shape[1] > components:
            x = (pool - self._mean) * self._scale
            values, vectors = np.linalg.eigh(x.T @ x / len(x))
            self._axes = vectors[:, np.argsort(-values)[:components]]

    def __call__(self, features: Floats) -> Floats:
        """`features` [n, D] as the probes see them, float32."""
        x = (features - self._mean) * self._scale
        return np.asarray(x if self._axes is None else x @ self._axes, np.float32)


def logistic(x: Floats, y: Ints, weights: NDArray[np.float64] | None) -> Callable[[Floats], Ints]:
    """Multinomial logistic regression: mean cross-entropy + 1e-2 / 2 · ‖W‖² (as `dq_fast.embed` fits heads)."""
    model = LogisticRegression(C=1 / (1e-2 * len(y)), max_iter=300, tol=1e-4)
    return model.fit(x, y, sample_weight=weights).predict


def ridge(x: Floats, y: Ints, weights: NDArray[np.float64] | None) -> Callable[[Floats], Ints]:
    """Ridge regression on one-hot labels, penalty 1e-2 a sample."""
    return RidgeClassifier(alpha=1e-2 * len(y)).fit(x, y, sample_weight=weights).predict


PROBES: dict[str, Callable[[Floats, Ints, NDArray[np.float64] | None], Callable[[Floats], Ints]]] = {
    "logistic": logistic,
    "ridge": ridge,
}


def accuracy(
    probe: str, x: Floats, y: Ints, test_x: Floats, test_y: Ints, weights: NDArray[np.float64] | None
) -> float:
    """Test accuracy, in per cent, of a probe trained on rows x with labels y (and weights, mean 1)."""
    if len(np.unique(y)) < 2:  # nothing to train: whatever it says is that class
        return 100 * float((test_y == y[0]).mean())
    return 100 * float((PROBES[probe](x, y, weights)(test_x) == test_y).mean())
