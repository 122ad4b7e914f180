"""Features in the plane: t-SNE, UMAP, or principal components."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError, missing_extra

PROJECTIONS = ("tsne", "umap", "pca")
TITLES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "two principal components"}
LEAST_POINTS = 8  # fewer are no cloud
_COMPONENTS = 50  # t-SNE's authors reduce to so many first (van der Maaten and Hinton 2008, section 4.2)
_PERPLEXITY = 30.0

Floats = NDArray[np.float64]


def check_projection(projection: str) -> None:
    """Refuse an unknown projection, or one whose package is missing, before anything is done for it."""
    if projection not in PROJECTIONS:
        raise InputError(f"projection must be one of {', '.join(PROJECTIONS)}, got {projection!r}")
    if projection == "tsne" and importlib.util.find_spec("sklearn") is None:
        raise missing_extra("scikit-learn", "report", "projection='tsne'")
    if projection == "umap" and importlib.util.find_spec("umap") is None:
        raise InputError("projection='umap' needs the package umap-learn; install it with: pip install umap-learn")


def draw_rows(candidates: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """At most `count` of the candidates, drawn evenly, ascending."""
    if len(candidates) <= count:
        return candidates
    return np.sort(np.random.default_rng(seed).choice(candidates, count, replace=False))


def in_plane(features: NDArray[np.floating], projection: str, seed: int) -> Floats | None:
    """Coordinates [n, 2] of features [n, d]; None where there is nothing to lay out (too few points, or all alike).

    Equal input and seed give equal coordinates on the same machine and versions.
    """
    check_projection(projection)
    x = np.asarray(features, np.float64)
    if len(x) < LEAST_POINTS or not np.isfinite(x).all() or not np.ptp(x, axis=0).any():
        return None
    x = principal(x, min(_COMPONENTS, *x.shape))
    if projection == "pca" or x.shape[1] < 2:
        return np.pad(x, ((0, 0), (0, 1)))[:, :2] if x.shape[1] < 2 else x[:, :2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads and seeds; nothing that changes the picture
        if projection == "umap":
            import umap  # type: ignore[import-not-found]

            return np.asarray(umap.UMAP(random_state=seed, n_jobs=1).fit_transform(x), np.float64)
        from sklearn.manifold import TSNE

        perplexity = min(_PERPLEXITY, (len(x) - 1) / 3)
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(x)
        return np.asarray(found, np.float64)


def principal(x: Floats, count: int) -> Floats:
    """Coordinates along the first principal axes, signs fixed (the largest weight of each axis is positive)."""
    centred = x - x.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:count]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    projected: Floats = centred @ axes.T
    return projected
