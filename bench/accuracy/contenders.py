"""What is compared: selection methods, embeddings and samplers, each through `dq_fast.SampleQuantizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pool import Pool

from dq_fast import SampleQuantizer
from dq_fast.select import METHODS
from dq_fast.select.samplers import bin_importance, class_difficulty

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def _nothing(_: Pool) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Contender:
    """One way to choose samples.

    Attributes:
        name: in the table.
        embedding: "gradient" or "features".
        quantizer, sample: parameters of `SampleQuantizer` and of its `sample`.
        measured: further parameters of `sample`, that are computed from the pool and the fitted quantizer.
        options: of the method, from the pool.
        again: choose anew for every keep (methods whose weights, or picks, depend on how many are wanted).
        most: the largest keep it is asked for (methods that get slow).
    """

    name: str
    embedding: str = "gradient"
    quantizer: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    measured: Callable[[Pool, SampleQuantizer], dict[str, Any]] = lambda pool, fitted: {}
    options: Callable[[Pool], dict[str, Any]] = _nothing
    again: bool = False
    most: float = 1.0

    def choose(self, pool: Pool, keeps: tuple[float, ...], seed: int) -> Iterator[tuple[float, Ints, Floats | None]]:
        """For each keep: the rows of the pool, and their weights (mean 1) where the method gives weights."""
        embedding = pool.gradient if self.embedding == "gradient" else pool.features
        fitted = None
        for keep in sorted(keep for keep in keeps if keep <= self.most):
            if fitted is None or self.again:
                options = self.options(pool) or None
                settings = {
                    **self.quantizer,
                    "seed": seed,
                    "options": options,
                    **({"max_keep": keep} if self.again else {}),
                }
                fitted = SampleQuantizer(**settings).fit(
                    embedding, pool.labels, features=pool.features, logits=pool.logits
                )
            rows = fitted.sample(keep, seed=seed, **self.sample, **self.measured(pool, fitted))
            weights = None
            if self.again and fitted.weights_ is not None:
                weights = fitted.weights_[rows]
                weights = weights / weights.mean() if weights.sum() > 0 else None
            yield keep, rows, weights


def _bins(name: str, embedding: str, n_bins: int, center: bool, **sample: Any) -> Contender:
    return Contender(name, embedding, {"n_bins": n_bins, "center": center}, sample)


def _importance(pool: Pool, fitted: SampleQuantizer) -> dict[str, Any]:
    return {"importance": bin_importance(pool.gradient, fitted.bin_of_, pool.labels, n_bins=len(fitted.bins_))}


def _difficulty(pool: Pool, _: SampleQuantizer) -> dict[str, Any]:
    return {"difficulty": class_difficulty(pool.logits.numpy(), pool.labels)}


def _ours() -> Iterator[Contender]:
    """The bins of this paper and plain graph cut: embeddings, centring, samplers."""
    for embedding in ("gradient", "features"):
        for center in (False, True):
            kind = f"{embedding}{', centred' if center else ''}"
            yield _bins(f"dq 10 bins, {kind}", embedding, 10, center)
            yield _bins(f"graph-cut once, {kind}", embedding, 1, center, sampler="first")
            yield _bins(f"dq 10 bins early, {kind}", embedding, 10, center, sampler="early")
            yield _bins(f"dq 10 bins first, {kind}", embedding, 10, center, sampler="first")
    yield _bins("dq 10 bins early 3, gradient, centred", "gradient", 10, True, sampler="early", early=3.0)
    yield _bins("dq 10 bins by gain, gradient, centred", "gradient", 10, True, sampler="gain")
    paper = {"n_bins": 10}
    yield Contender("dq 10 bins adq, gradient", "gradient", paper, {"sampler": "adq"}, _importance)
    yield Contender("dq 10 bins difficulty, gradient", "gradient", paper, {"sampler": "difficulty"}, _difficulty)


def _own_head(pool: Pool) -> dict[str, Any]:
    return {} if pool.head is None else {"head": pool.head}


def _others() -> Iterator[Contender]:
    """The other selection methods, those that work on any embedding on both."""
    yield Contender("random", quantizer={"method": "random"})
    for name in ("facility-location", "k-center", "herding"):
        for embedding in ("gradient", "features"):
            yield Contender(f"{name}, {embedding}", embedding, {"method": name})
    yield Contender("craig", quantizer={"method": "craig"}, again=True, most=0.4)
    yield Contender("grad-match", quantizer={"method": "grad-match"}, again=True, most=0.4)
    for name in METHODS:
        method = METHODS[name]
        if "factors" not in method.needs and name != "random":
            options = _own_head if name == "deepfool" else _nothing
            yield Contender(name, "features", {"method": name}, options=options, again=not method.nested)


CONTENDERS: dict[str, Contender] = {contender.name: contender for contender in (*_others(), *_ours())}
