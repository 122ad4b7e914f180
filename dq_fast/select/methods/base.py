"""What a selection method is given, what it returns, and how it is described."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.ops import checks
from dq_fast.progress import Progress, silent
from dq_fast.select.groups import Groups

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EVIDENCE = ("features", "logits", "labels")
"""What a method may need beside the embedding."""

_TELL_SECONDS = 0.1


@dataclass(frozen=True)
class Evidence:
    """What is known of n samples, and how many of them to choose.

    Attributes:
        factors: tensors [n, d_k]; the embedding of a row is the outer product of its factors' (one: itself).
        features: [n, D], the inputs of the classifier's last linear layer, or None.
        logits: [n, C], or None.
        labels: int64 [n], the class of each row as a number from 0 to C - 1, or None.
        groups: rows are chosen within each of these.
        budgets: int64 [groups], how many rows to choose from each group, 0 to its size.
        seed: for methods that draw.
        progress: called as ``progress(method, rows chosen, rows to choose)``, or None.
    """

    factors: tuple[Tensor, ...]
    groups: Groups
    budgets: Ints
    features: Tensor | None = None
    logits: Tensor | None = None
    labels: Ints | None = None
    seed: int = 0
    progress: Progress | None = None

    def __len__(self) -> int:
        return len(self.groups.order)

    @property
    def report(self) -> Progress:
        """The progress to call: the given one, or one nobody listens to."""
        return silent if self.progress is None else self.progress

    def check(self) -> None:
        """Raise where shapes and lengths do not belong together.

        Raises:
            InputError: naming the argument, what was expected, and what came.
        """
        n = len(self)
        if self.factors:
            rows = checks.factors(self.factors)[0].shape[0]
            if rows != n:
                raise checks.bad("embedding", f"of the {n} rows of the groups", f"{rows} rows")
        for name in ("features", "logits"):
            x = getattr(self, name)
            if x is not None and (x.ndim != 2 or len(x) != n):
                raise checks.bad(name, f"2-D with the {n} rows of the groups", checks.shape_of(x))
        if self.labels is not None and np.shape(self.labels) != (n,):
            raise checks.bad("labels", f"one for each of the {n} rows", f"shape {np.shape(self.labels)}")
        budgets, sizes = np.asarray(self.budgets), self.groups.sizes
        if budgets.shape != sizes.shape or budgets.dtype.kind not in "iu":
            raise checks.bad(
                "budgets", f"one integer for each of the {len(sizes)} groups", f"{budgets.dtype} {budgets.shape}"
            )
        wrong = np.flatnonzero((budgets < 0) | (budgets > sizes))
        if len(wrong):
            g = wrong[0]
            raise checks.bad("budgets", f"0 to {sizes[g]}, the rows of group {g}", str(budgets[g]))


@dataclass(frozen=True)
class Chosen:
    """The rows that a method chose.

    Attributes:
        ranking: int64 [sum of budgets], row numbers, group after group, within a group in the order they were picked.
        scores: float64 [sum of budgets], what each was picked with, in the same order; the method says what it is.
        weights: float64 [sum of budgets], what each stands for when training on the choice, or None: all alike.
    """

    ranking: Ints
    scores: Floats
    weights: Floats | None = None


@dataclass(frozen=True)
class Method:
    """One selection method.

    Attributes:
        name: as users write it.
        needs: which of "factors", "features", "logits", "labels" must be given.
        nested: whether the choice with a smaller budget is the beginning of the choice with a larger one.
        source: the paper, and the equation or algorithm that is followed.
        run: chooses; keyword-only parameters after the evidence are the method's options.
    """

    name: str
    needs: frozenset[str]
    nested: bool
    source: str
    run: Callable[..., Chosen]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the method's options."""
        parameters = inspect.signature(self.run).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def __call__(self, evidence: Evidence, **options: object) -> Chosen:
        """Check what is given, and choose.

        Raises:
            InputError: evidence that the method needs is missing or does not fit, or an option it does not have.
        """
        evidence.check()
        missing = [name for name in ("factors", *EVIDENCE) if name in self.needs and not _given(evidence, name)]
        if missing:
            names = ["embedding" if name == "factors" else name for name in missing]
            raise InputError(f"{names[0]} must be given for method {self.name!r}, got none; give {', '.join(names)}")
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            has = ", ".join(self.options) or "none"
            raise checks.bad("options", f"those of method {self.name!r} ({has})", repr(unknown[0]))
        return self.run(evidence, **options)


def _given(evidence: Evidence, name: str) -> bool:
    value = getattr(evidence, name)
    return value is not None and not (name == "factors" and not value)


def first_best(values: Tensor, tolerance: float) -> int:
    """The lowest index whose value is within `tolerance` of the largest of `values` [n], n >= 1."""
    return int((values >= values.max() - tolerance).to(torch.uint8).argmax())


def highest(evidence: Evidence, scores: Tensor | Floats) -> Chosen:
    """The rows with the highest scores of each group, highest first; among equals the lowest row.

    Args:
        evidence: groups and budgets.
        scores: [n], float64 taken as it is; no NaN.
    """
    values = np.asarray(scores.detach().cpu().double() if isinstance(scores, Tensor) else scores, np.float64)
    picked = []
    for g, budget in enumerate(evidence.budgets):
        rows = evidence.groups.rows(g)
        picked.append(rows[np.argsort(-values[rows], kind="stable")[:budget]])
    ranking = np.concatenate([np.empty(0, np.int64), *picked])
    return Chosen(ranking, values[ranking])


class Counter:
    """Counts the rows picked and tells the listener, not more often than anybody can read."""

    def __init__(self, evidence: Evidence, name: str) -> None:
        self._report, self._name, self._total = evidence.progress, name, int(np.sum(evidence.budgets))
        self._done, self._last = 0, 0.0

    def __call__(self, rows: int = 1) -> None:
        """That many more rows were picked."""
        self._done += rows
        if self._report is not None and (self._done >= self._total or time.monotonic() - self._last > _TELL_SECONDS):
            self._last = time.monotonic()
            self._report(self._name, self._done, self._total)


@dataclass(frozen=True)
class Picks:
    """What was picked in one group: positions among its rows in pick order, scores and weights (see `Chosen`)."""

    order: Ints
    scores: Floats
    weights: Floats | None = None


def by_group(
    evidence: Evidence, name: str, pick: Callable[[Ints, int, Counter], Picks], *, weighted: bool = False
) -> Chosen:
    """Pick in one group after the other.

    Args:
        evidence: groups and budgets.
        name: of the method, for the progress.
        pick: called as ``pick(rows, budget, counter)`` with a group's row numbers where the budget is not 0; calls the
            counter for every row it picks.
        weighted: whether picks have weights.
    """
    counter = Counter(evidence, name)
    none = np.empty(0)
    rankings, scores, weights = [none.astype(np.int64)], [none], [none]
    for g, budget in enumerate(evidence.budgets):
        if budget:
            rows = evidence.groups.rows(g)
            picks = pick(rows, int(budget), counter)
            rankings.append(rows[picks.order])
            scores.append(picks.scores)
            if picks.weights is not None:
                weights.append(picks.weights)
    return Chosen(np.concatenate(rankings), np.concatenate(scores), np.concatenate(weights) if weighted else None)
