"""The ways to fit a `SampleQuantizer`: this paper's bins, the official code's, or another method's ranking."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.progress import Progress, silent
from dq_fast.select.methods import METHODS, Evidence, select
from dq_fast.select.official import bin_numbers, official_bins
from dq_fast.select.plan import Plan
from dq_fast.select.quantizer.given import Given
from dq_fast.select.ranking import rank_bins
from dq_fast.select.settings import Settings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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


@dataclass(frozen=True)
class MethodPlan:
    """What another method than this paper's will do.

    Attributes:
        method: its name. source: the paper, and the equation or algorithm that is followed.
        needs: what it looks at. groups: number of groups. rows: rows in all. ranked: rows that it will rank.
    """

    method: str
    source: str
    needs: tuple[str, ...]
    groups: int
    rows: int
    ranked: int

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {**asdict(self), "needs": list(self.needs)}

    def __str__(self) -> str:
        looks = f"looks at {', '.join(self.needs)}" if self.needs else "looks at nothing but the groups"
        return f"{self.method}: {self.ranked} of {self.rows} rows in {self.groups} groups; {looks}\n- {self.source}"


def fit_bins(given: Given, settings: Settings, plan: Plan, progress: Progress | None) -> Fit:
    """Bins by recursive graph-cut greedy within each group (section 3.2 of the paper), as planned."""
    ranked = rank_bins(given.factors, given.groups, settings, plan, progress=progress)
    return Fit(ranked.ranking, ranked.bin_of, ranked.gains, report=dict(ranked.report))


def fit_official(given: Given, *, n_bins: int, algorithm: str, progress: Progress | None) -> Fit:
    """The published code's bins; in a bin of a group rows are ascending: theirs lose the pick order and the gains."""
    begun = time.perf_counter()
    groups = given.groups
    labels = None if groups.names is None else groups.of_row
    bins = official_bins(given.factors.tensors, labels, n_bins, method=algorithm, progress=progress or silent)
    bin_of = bin_numbers(bins, len(given))
    ranking = np.lexsort((bin_of, groups.of_row)).astype(np.int64)  # stable: ascending within
    report = {"algorithm": algorithm, "compat": "official", "seconds": time.perf_counter() - begun}
    return Fit(ranking, bin_of, np.full(len(given), np.nan), report=report)


def split_bins(fit: Fit, n_bins: int, *, official: bool = False) -> list[Ints]:
    """The rows of every bin: group after group in pick order; as the official files have them with `official`."""
    ranked_bin = fit.bin_of[fit.ranking]
    bins = [fit.ranking[ranked_bin == k] for k in range(n_bins)]
    return [*bins[:-1], np.sort(bins[-1])] if official else bins


def plan_method(given: Given, method: str, max_keep: float) -> MethodPlan:
    """What `fit_method` will do."""
    found = METHODS[method]
    needs = tuple(sorted("embedding" if name == "factors" else name for name in found.needs))
    ranked = int(method_budgets(given.groups.sizes, max_keep).sum())
    return MethodPlan(method, found.source, needs, len(given.groups), len(given), ranked)


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
