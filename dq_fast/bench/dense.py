"""The published dense algorithm of Dataset Quantization, written from its description, in numpy and float32.

Per class and bin: gradients g [m, C (D + 1)] of the remaining samples, s = 1/2 + 1/2 cos, column sums over all pairs;
then naive greedy, one product of the picked gradient with all others for each pick; nine rounds for ten bins, the last
bin is what is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dense_bins(gradients: NDArray[np.float32], n_bins: int, lam: float = 1.0) -> NDArray[np.int64]:
    """Row numbers of all bins but the last, in pick order.

    Args:
        gradients: [n, d], no zero rows.
        n_bins: how many; bins of n // n_bins rows.
        lam: weight of representation.
    """
    size = len(gradients) // n_bins
    remaining = np.arange(len(gradients))
    ranking = []
    for _ in range(n_bins - 1):
        picked = dense_greedy(gradients[remaining], size, lam)
        ranking.append(remaining[picked])
        remaining = np.delete(remaining, picked)
    return np.concatenate(ranking) if ranking else np.empty(0, dtype=np.int64)


def dense_greedy(gradients: NDArray[np.float32], budget: int, lam: float) -> NDArray[np.int64]:
    """Rows of the largest gain, one after the other; the lowest row wins ties."""
    norms = np.linalg.norm(gradients, axis=1)

    def similarities(rows: NDArray[np.float32], of: NDArray[np.float32]) -> NDArray[np.float32]:
        return 0.5 + 0.5 * (rows @ gradients.T) / (of[:, None] * norms)

    sums = similarities(gradients, norms).sum(0)
    to_picked = np.zeros_like(sums)
    available = np.ones(len(gradients), dtype=bool)
    picked = np.empty(budget, dtype=np.int64)
    for k in range(budget):
        gain = np.where(available, lam * sums - 2 * to_picked, -np.inf)
        row = int(gain.argmax())
        picked[k], available[row] = row, False
        to_picked += similarities(gradients[row : row + 1], norms[row : row + 1])[0]
    return picked
