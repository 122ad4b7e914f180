"""The ways to fit a `SampleQuantizer`: this paper's bins, or another selection method's ranking."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.progress import Progress
from dq_fast.select.given import Given, as_tensor_rows
from dq_fast.select.methods import METHODS, Evidence, select

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# This paper's method by the algorithm that computes it; all give the same bins.
ALGORITHMS = {"auto": "auto", "dq": "auto", "naive": "naive", "gram": "gram", "lazy": "lazy"}


@dataclass(frozen=True)
class Fit:
    """What a fit found out.

    Attributes:
        ranking: int64 [ranked], row numbers, group after group, within a group bin after bin in pick order.
        bin_of: int64 [n], the bin of every row; -1 where it was not ranked.
        gains: float64 [n], what every row was picked with; NaN where it was not ranked.
        weights: float64 [n], what every row stands for when training, 0 where it was not ranked; None: all alike.
        report: how it was done: method, seconds, and what the method tells of itself.
    """

    ranking: Ints
    bin_of: Ints
    gains: Floats
    weights: Floats | None = None
    report: dict[str, Any] = field(default_factory=dict)


def method_names() -> tuple[str, ...]:
    """Everything that `method` may be."""
    return (*ALGORITHMS, *METHODS)


def fit_bins(
    given: Given,
    *,
    n_bins: int,
    algorithm: str,
    lam: float,
    shifted: bool,
    center: bool,
    progress: Progress | None,
) -> Fit:
    """Bins by recursive graph-cut greedy within each group (section 3.2 of the paper), by `algorithm`."""
    begun = time.perf_counter()
    groups, factors = given.groups, given.factors.tensors
    if not groups.in_order:
        take = as_tensor_rows(groups.order)
        factors = tuple(f[take.to(f.device)] for f in factors)
    ranking, bin_of, gains = ops.graph_cut_bins(
        factors if len(factors) > 1 else factors[0],
        n_bins,
        offsets=torch.from_numpy(groups.offsets),
        lam=lam,
        shifted=shifted,
        center=center,
        method=algorithm,
        progress=progress,
    )
    n = len(given)
    of_row, gain_of_row = np.empty(n, np.int64), np.empty(n, np.float64)
    of_row[groups.order], gain_of_row[groups.order] = bin_of.cpu().numpy(), gains.cpu().numpy()
    report = {"method": "dq", "algorithm": algorithm, "seconds": time.perf_counter() - begun}
    return Fit(groups.order[ranking.cpu().numpy()], of_row, gain_of_row, report=report)


def fit_method(
    given: Given,
    *,
    method: str,
    max_keep: float,
    seed: int,
    options: dict[str, Any],
    progress: Progress | None,
) -> Fit:
    """A ranking by another selection method (`dq_fast.select.methods`), each group down to `max_keep` of its rows."""
    begun = time.perf_counter()
    n, groups = len(given), given.groups
    budgets = method_budgets(groups.sizes, max_keep)
    evidence = Evidence(
        factors=given.factors.tensors,
        features=given.features,
        logits=given.logits,
        labels=given.labels,
        groups=groups,
        budgets=budgets,
        seed=seed,
        progress=progress,
    )
    chosen = select(method, evidence, **options)
    bin_of, gains = np.full(n, -1, np.int64), np.full(n, np.nan)
    bin_of[chosen.ranking] = 0
    gains[chosen.ranking] = chosen.scores
    weights = None
    if chosen.weights is not None:
        weights = np.zeros(n)
        weights[chosen.ranking] = chosen.weights
    found = METHODS[method]
    report = {
        "method": method,
        "source": found.source,
        "nested": found.nested,
        "ranked": len(chosen.ranking),
        "seconds": time.perf_counter() - begun,
    }
    return Fit(np.asarray(chosen.ranking, np.int64), bin_of, gains, weights, report)


def method_budgets(sizes: Ints, max_keep: float) -> Ints:
    """How many rows of each group are ranked, int64 [groups]: their share rounded up, enough for every draw."""
    return np.minimum(sizes, np.array([math.ceil(max_keep * int(s) - 1e-9) for s in sizes], np.int64))


def check_whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`, or an InputError that names the parameter."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
