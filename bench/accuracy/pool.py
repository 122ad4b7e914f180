"""Pools: random parts of a training set that selections draw from, another one for every seed.

Most methods have nothing random in them. Their spread over pools is what tells luck from merit, and since all methods
choose from the same pools, differences between methods are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sets import FrozenSet
from torch import Tensor, nn

from dq_fast import gradient_embedding
from dq_fast.embed.head import fit_head

Ints = NDArray[np.int64]

LINEAR = ("logistic", "ridge")


@dataclass(frozen=True)
class PoolSpec:
    """How pools are drawn from a set.

    Attributes:
        name: of the pools; several can come from one set.
        of: the set's name in `sets.SETS`.
        rows: how many rows of the set a pool has (as many of each class as its share says).
        imbalance: the largest class has this many times the rows of the smallest, falling geometrically; 1: as it is.
        probes: what selections from them can be judged by.
        keeps, seeds: the fractions kept, and how many pools, where the command line does not say.
        contenders: names of `contenders.CONTENDERS`, what matters most first; none: all.
    """

    name: str
    of: str
    rows: int
    imbalance: float = 1.0
    probes: tuple[str, ...] = LINEAR
    keeps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
    seeds: int = 20
    contenders: tuple[str, ...] = ()


SPECS: dict[str, PoolSpec] = {
    spec.name: spec
    for spec in (
        PoolSpec("clothing128", "clothing128", 2_700),
        PoolSpec("cifar10-resnet20", "cifar10-resnet20", 5_000),
        PoolSpec("cifar10-resnet20-longtail", "cifar10-resnet20", 5_000, imbalance=20.0),
        PoolSpec("cifar10-lite0", "cifar10-lite0", 2_500),
        PoolSpec("cifar10-lite0-longtail", "cifar10-lite0", 2_500, imbalance=20.0),
        PoolSpec("mnist5k-pixels", "mnist5k-pixels", 2_000),
        PoolSpec(
            "cifar10-scratch",
            "cifar10-resnet20",
            10_000,
            probes=("scratch",),
            keeps=(0.1, 0.3),
            seeds=3,
            contenders=(
                "random",
                "dq 10 bins, gradient",
                "graph-cut once, gradient",
                "graph-cut once, gradient, centred",
                "dq 10 bins first, gradient, centred",
                "dq 10 bins early, gradient, centred",
                "dq 10 bins, gradient, centred",
                "herding, features",
            ),
        ),
    )
}


@dataclass(frozen=True)
class Pool:
    """Rows to choose from: float32 features [n, D], logits [n, C], labels, and the gradient embedding's factors."""

    rows: Ints
    labels: Ints
    features: Tensor
    logits: Tensor
    gradient: tuple[Tensor, Tensor]
    head: nn.Linear | None  # that was fitted to the pool, where the network has none for these classes


def draw_pool(frozen: FrozenSet, spec: PoolSpec, seed: int) -> Pool:
    """The pool of a seed."""
    rng = np.random.default_rng([seed, 20_230_810])
    counts = np.bincount(frozen.labels, minlength=frozen.classes)
    share = counts / counts.sum()
    if spec.imbalance > 1:
        share = spec.imbalance ** -(np.arange(frozen.classes) / (frozen.classes - 1))
        share = share / share.sum()
    wanted = np.minimum(np.rint(share * spec.rows).astype(int), counts)
    order = rng.permutation(frozen.classes) if spec.imbalance > 1 else np.arange(frozen.classes)
    rows = np.sort(
        np.concatenate([rng.permutation(np.flatnonzero(frozen.labels == c))[: wanted[k]] for k, c in enumerate(order)])
    )
    features, labels = torch.from_numpy(frozen.features[rows]), frozen.labels[rows]
    head = None
    if frozen.logits is None:
        head = fit_head(features, torch.from_numpy(labels), frozen.classes)
        with torch.no_grad():
            logits = head(features)
    else:
        logits = torch.from_numpy(frozen.logits[rows])
    gradient = gradient_embedding(logits, features, torch.from_numpy(labels))
    return Pool(rows, labels, features, logits, gradient, head)
