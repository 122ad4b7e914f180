"""How representative and how diverse a bin is, from sums of embeddings: no similarity of two rows is formed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def bin_importance(embedding: Any, bin_of: Ints, strata: Any, *, n_bins: int) -> Floats:
    """Importance of every bin, the sum of its normalised representativeness and diversity.

    With s = 1/2 + 1/2 · cos and all means over rows of the same class:
    Rep_n = mean of s over (row of bin n, row of any bin), Div_n = 1 - mean of s over pairs of two rows of bin n
    (where a bin has no pairs, the mean of the other bins' Div); Rep^ = Rep / sum of Rep and Div^ likewise, I = Rep^ +
    Div^. By sums S of normalised rows over a bin and class: the cosines of all its pairs sum to ‖S‖² - sum of ‖row‖²,
    those with the class to ⟨S, S_class⟩.

    ADQ's own Rep is the texture level of the images' patches and its Div a contrastively trained discriminator's
    similarity; both need the images and a training. These are the same two questions asked of the embedding.

    Args:
        embedding: rows [n, d], tensor or array, or a tuple of factors [n, d_k] (their product is meant, and formed for
            sums only: float64 [d_1, d_2, ...] for each bin).
        bin_of: bin of each row, [n], 0 to n_bins - 1.
        strata: class of each row, [n]; means are taken within classes.
        n_bins: number of bins.

    Returns:
        float64 [n_bins], sum 2; 0 for a bin without rows.

    Raises:
        InputError: shapes or lengths do not fit.

    Source:
        The rates are those of Li et al., "Adaptive Dataset Quantization", arXiv 2412.16895; see `adq_rates`.
    """
    factors = _factors(embedding)
    bins, labels = np.asarray(bin_of), np.asarray(strata)
    n = len(factors[0])
    if bins.shape != (n,) or labels.shape != (n,):
        raise InputError(f"bin_of and labels must have one entry a row, ({n},), got {bins.shape} and {labels.shape}")
    if n and not 0 <= bins.min() <= bins.max() < n_bins:
        raise InputError(f"bin_of must be whole numbers from 0 to {n_bins - 1}, got {bins.min()} to {bins.max()}")
    names, stratum = np.unique(labels, return_inverse=True)
    order = np.lexsort((bins, stratum.reshape(-1)))
    edges = np.concatenate(
        [[0], np.cumsum(np.bincount(stratum.reshape(-1) * n_bins + bins, minlength=len(names) * n_bins))]
    )
    with_class, class_pairs, within, pairs = np.zeros((4, n_bins))
    for c in range(len(names)):
        cells = [order[edges[c * n_bins + k] : edges[c * n_bins + k + 1]] for k in range(n_bins)]
        sums = [_sum(factors, rows) for rows in cells]
        whole = torch.stack([total for total, _ in sums]).sum(0)
        sizes = np.array([len(rows) for rows in cells], np.float64)
        with_class += [float((total * whole).sum()) for total, _ in sums]
        class_pairs += sizes * sizes.sum()
        within += [float(total.square().sum()) - own for total, own in sums]
        pairs += sizes * (sizes - 1)
    representative = np.where(class_pairs > 0, 0.5 + 0.5 * with_class / np.maximum(class_pairs, 1), 0.0)
    diverse = np.maximum(0.5 - 0.5 * within / np.maximum(pairs, 1), 0.0)
    diverse = np.where(pairs > 0, diverse, diverse[pairs > 0].mean() if (pairs > 0).any() else 1.0)
    diverse = np.where(class_pairs > 0, diverse, 0.0)
    return _normalised(representative, class_pairs > 0) + _normalised(diverse, class_pairs > 0)


def _normalised(scores: Floats, present: NDArray[np.bool_]) -> Floats:
    """Scores divided by their sum; equal ones where all are 0."""
    total = float(scores.sum())
    return scores / total if total > 0 else present / max(1, int(present.sum()))


def _sum(factors: tuple[Tensor, ...], rows: Ints) -> tuple[Tensor, float]:
    """Sum of the normalised rows of the product embedding, flat, and the sum of their squared lengths (1, or 0)."""
    take = torch.from_numpy(rows)
    parts = [_directions(f[take.to(f.device)]) for f in factors]
    own = torch.stack([(p.square().sum(1) > 0) for p in parts]).all(0)
    total = parts[0]
    for part in parts[1:-1]:
        total = (total[:, :, None] * part[:, None, :]).flatten(1)
    summed = total.sum(0) if len(parts) == 1 else (total.T @ parts[-1]).flatten()
    return summed, float(own.sum())


def _directions(x: Tensor) -> Tensor:
    x = x.double().cpu()
    largest = x.abs().amax(1, keepdim=True) if x.shape[1] else x.new_zeros(len(x), 1)
    x = x / torch.where(largest > 0, largest, 1.0)
    norm = x.square().sum(1, keepdim=True).sqrt()
    return x / torch.where(norm > 0, norm, 1.0)


def _factors(embedding: Any) -> tuple[Tensor, ...]:
    given = embedding if isinstance(embedding, (tuple, list)) else (embedding,)
    factors = tuple(f.detach() if isinstance(f, Tensor) else torch.as_tensor(np.asarray(f)) for f in given)
    if not factors or any(f.ndim != 2 or len(f) != len(factors[0]) for f in factors):
        raise InputError(
            f"embedding must be 2-D [n, d] or a tuple of such, got shapes {[tuple(f.shape) for f in factors]}"
        )
    return factors
