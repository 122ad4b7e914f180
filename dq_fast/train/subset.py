"""Random subsets: the baseline that every selection has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dq_fast.data import Source, Subset
from dq_fast.errors import InputError


def random_subset(
    source: Source,
    n: int,
    seed: int = 0,
    *,
    stratified: bool = True,
    per_class: Sequence[int] | np.ndarray | None = None,
) -> Subset:
    """Draw n images uniformly without replacement.

    Args:
        source: what to draw from.
        n: how many; exactly as many are drawn.
        seed: decides the draw; the same for every platform and source with the same labels.
        stratified: every class keeps its share of the source, rounded so that the total is n (largest remainders
            first, then the lower class). False: n of all images, whatever their class.
        per_class: how many of each class instead, as long as `class_names`; they must sum to n. For a baseline of the
            same size per class as another set.

    Returns:
        The subset, in source order.

    Raises:
        InputError: more images asked for than there are.
    """
    labels = np.asarray(source.labels, dtype=np.int64)
    if not 0 <= n <= len(labels):
        raise InputError(f"n must lie in 0..{len(labels)}, the number of images, got {n}")
    rng = np.random.default_rng(seed)
    if per_class is None and not stratified:
        return Subset(source, np.sort(rng.permutation(len(labels))[:n]))
    sizes = np.bincount(labels, minlength=len(source.class_names))
    counts = np.asarray(per_class, dtype=np.int64) if per_class is not None else _proportional(sizes, n)
    if counts.shape != sizes.shape or int(counts.sum()) != n:
        raise InputError(f"per_class must be {len(sizes)} counts that sum to {n}, got {counts.tolist()}")
    if (counts > sizes).any() or (counts < 0).any():
        c = int(np.flatnonzero((counts > sizes) | (counts < 0))[0])
        raise InputError(
            f"per_class must ask class {source.class_names[c]!r} for 0..{sizes[c]} images, got {int(counts[c])}"
        )
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:count] for c, count in enumerate(counts.tolist())]
    return Subset(source, np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64))


def _proportional(sizes: np.ndarray, n: int) -> np.ndarray:
    """Counts that sum to n, in proportion to sizes: largest remainder, in whole numbers."""
    total = int(sizes.sum())
    if total == 0:
        return np.zeros_like(sizes)
    counts, remainders = np.divmod(sizes * n, total)
    counts[np.argsort(-remainders, kind="stable")[: n - int(counts.sum())]] += 1
    return counts
