"""What is compared: selection methods, embeddings and samplers, each through `dq_fast.SampleQuantizer`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pool import Pool

from dq_fast import SampleQuantizer
from dq_fast.select import METHODS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contender:
    """One way to choose samples.

    Attributes:
        name: in the table.
        embedding: "gradient" or "features".
        quantizer, sample: parameters of `SampleQuantizer` and of its `sample`.
        again: choose anew for every keep (methods whose weights, or picks, depend on how many are wanted).
        most: the largest keep it is asked for (methods that get slow).
    """

    name: str
    embedding: str = "gradient"
    quantizer: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    again: bool = False
    most: float = 1.0

    def choose(self, pool: Pool, keeps: tuple[float, ...], seed: int) -> Iterator[tuple[float, Ints, Floats | None]]:
        """For each keep: the rows of the pool, and their weights (mean 1) where the method gives weights."""
        embedding = pool.gradient if self.embedding == "gradient" else pool.features
        fitted = None
        for keep in sorted(keep for keep in keeps if keep <= self.most):
            if fitted is None or self.again:
                settings = {**self.quantizer, "seed": seed, **({"max_keep": keep} if self.again else {})}
                fitted = SampleQuantizer(**settings).fit(
                    embedding, pool.labels, features=pool.features, logits=pool.logits
                )
            rows = fitted.sample(keep, seed=seed, **self.sample)
            weights = None
            if self.again and fitted.weights_ is not None:
                weights = fitted.weights_[rows]
                weights = weights / weights.mean() if weights.sum() > 0 else None
            yield keep, rows, weights


def _bins(name: str, embedding: str, n_bins: int, center: bool, **sample: Any) -> Contender:
    return Contender(name, embedding, {"n_bins": n_bins, "center": center}, sample)


def _all() -> Iterator[Contender]:
    yield Contender("random", quantizer={"method": "random"})
    for embedding in ("gradient", "features"):
        for center in (False, True):
            kind = f"{embedding}{', centred' if center else ''}"
            yield _bins(f"dq 10 bins, {kind}", embedding, 10, center)
            yield _bins(f"graph-cut once, {kind}", embedding, 1, center, sampler="first")
            yield _bins(f"dq 10 bins early, {kind}", embedding, 10, center, sampler="early")
            yield _bins(f"dq 10 bins first, {kind}", embedding, 10, center, sampler="first")
    for name in METHODS:
        if name in ("random", "graph-cut"):
            continue
        method = METHODS[name]
        weighted = name in ("craig", "grad-match")
        again = weighted or not method.nested
        most = 0.4 if name == "grad-match" else 1.0
        if "factors" in method.needs:
            for embedding in ("gradient", "features"):
                yield Contender(f"{name}, {embedding}", embedding, {"method": name}, again=again, most=most)
        else:
            yield Contender(name, "features", {"method": name}, again=again, most=most)


CONTENDERS: dict[str, Contender] = {contender.name: contender for contender in _all()}
