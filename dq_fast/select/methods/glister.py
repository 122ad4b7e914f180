"""GLISTER: samples whose gradients raise the log-likelihood of a validation set.

Killamsetty et al. 2021, "GLISTER: Generalization based Data Subset Selection for Efficient and Robust Learning" (AAAI),
the inner problem of GLISTER-ONLINE: choose S to maximise the validation log-likelihood after one gradient step on S,

    max over S of LL_V(theta_S),   theta_S = theta + eta * sum over e in S of grad LL_T(e, theta)

greedily, each gain taken to first order (the paper's Taylor approximation):

    gain(e) = eta * < grad LL_T(e, theta), grad LL_V(theta_S) >

The gradients of the samples are those at theta, as in the formula; the gradient of the validation set is taken anew at
theta_S as picks are made (DeepCore never does, which makes it a ranking by one fixed direction). The paper takes it r
times in a choice of k samples, k / r picks in between: r = `rounds` here; as many rounds as picks is greedy itself.

Parameters are the last linear layer, as in the paper: with h = [1, features] and p the softmax prediction,
grad LL(e) is the outer product of h_e and y_e - p_e. theta need not be known: logits at theta_S are the given logits
plus h * (theta_S - theta).

O(rounds * (n + v) * D * C) time; memory of the features in float64, up to 1 GiB (larger ones are converted a block at a
time), and O((n + v) * C).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Counter, Evidence, Floats, Ints, Method
from dq_fast.select.methods.scores import check_finite, class_numbers, given, in_blocks

_HOLD_NUMBERS = 1 << 27
"""Features with at most this many numbers are held in float64 (1 GiB) rather than converted in every round."""


class _Samples:
    """Samples with features, logits and labels; sums go over them in blocks."""

    def __init__(self, features: Tensor, logits: Tensor, labels: Tensor, name: str = "") -> None:
        check_finite(f"{name}features", features)
        check_finite(f"{name}logits", logits)
        self.features = features.double() if features.numel() <= _HOLD_NUMBERS else features
        self.logits, self.labels = logits, labels

    def errors(self) -> Tensor:
        """Errors y - p at the given logits: float64 [n, C]."""
        return self._in_blocks(_errors, self.logits, self.labels)

    def gradient(self, moved: Tensor) -> Tensor:
        """Mean gradient [D + 1, C] of the log-likelihood where the parameters have moved by [D + 1, C], bias first."""

        def block(x: Tensor, z: Tensor, y: Tensor) -> Tensor:
            return _outer(x, _errors(torch.addmm(z + moved[0], x, moved[1:]), y))[None]

        return self._in_blocks(block, self.features, self.logits, self.labels).sum(0) / len(self.labels)

    def gains(self, errors: Tensor, direction: Tensor) -> Tensor:
        """Inner product of each sample's gradient with a direction [D + 1, C]: float64 [n]."""

        def block(x: Tensor, e: Tensor) -> Tensor:
            return (torch.addmm(direction[0], x, direction[1:]) * e).sum(1)

        return self._in_blocks(block, self.features, errors)

    def curvature(self) -> float:
        """At least the largest eigenvalue of the Hessian of the mean cross-entropy: half the mean of ||[1, h]||^2."""
        squares = self._in_blocks(lambda x: 1 + x.square().sum(1), self.features)
        return 0.5 * float(squares.mean())

    def _in_blocks(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        return in_blocks(function, *rows, name=None, width=self.features.shape[1] + self.logits.shape[1])


def _errors(z: Tensor, y: Tensor) -> Tensor:
    """Errors y - p [n, C] of logits and labels."""
    return (-torch.softmax(z, 1)).scatter_add_(1, y[:, None], torch.ones(len(y), 1, dtype=torch.float64))


def _outer(x: Tensor, e: Tensor) -> Tensor:
    """Sum over samples of the outer products of [1, h] and y - p: [D + 1, C]."""
    return torch.cat([e.sum(0, keepdim=True), x.T @ e])


def choose(evidence: Evidence, *, validation: Any = None, rounds: int = 100, step: float = 1.0) -> Chosen:
    """The samples whose gradients raise the log-likelihood of the validation set most.

    All groups are filled together, for one set of parameters: a round takes the highest gains of all samples whose
    group has room left. Scores are the gains in nats a validation sample, as predicted to first order.

    Args:
        evidence: features, logits and labels; logits are those of the network at theta.
        validation: features [v, D], logits [v, C] and labels [v] of the validation set; None: all samples
            themselves, the log-likelihood of the training set.
        rounds: how often the validation gradient is taken, at most once a pick.
        step: eta times the number of picks, in units of one over the curvature of the validation loss (an upper bound
            of it: a step of 1 on a representative choice does not overshoot). In these units a step means the
            same for any budget and any scale of the features.
    """
    rounds, step = checks.integer("rounds", rounds, 1), checks.real("step", step, 0)
    features, logits = given(evidence, "features"), given(evidence, "logits")
    labels, _ = class_numbers(evidence.labels, logits.shape[1])
    pool = _Samples(features, logits, labels)
    against = pool if validation is None else _validation(validation, features.shape[1], logits.shape[1])
    budget = int(np.sum(evidence.budgets))
    if budget == 0:
        return Chosen(np.empty(0, np.int64), np.empty(0))

    eta = step / against.curvature() / budget
    of_row, left = evidence.groups.of_row, np.array(evidence.budgets, np.int64)
    errors = pool.errors()
    moved = torch.zeros(features.shape[1] + 1, logits.shape[1], dtype=torch.float64)
    free = np.ones(len(evidence), bool)
    picks, scores = [], []
    counter = Counter(evidence, "glister")
    rounds = min(rounds, budget)
    for k in range(rounds):
        gains = eta * pool.gains(errors, against.gradient(moved)).numpy()
        rows = _best(gains, of_row, left, free, (k + 1) * budget // rounds - k * budget // rounds)
        free[rows] = False
        left -= np.bincount(of_row[rows], minlength=len(left))
        some = torch.from_numpy(rows)
        moved += eta * _outer(pool.features[some].double(), errors[some])
        picks.append(rows)
        scores.append(gains[rows])
        counter(len(rows))
    ranking = np.concatenate(picks)
    by_group = np.argsort(of_row[ranking], kind="stable")
    return Chosen(ranking[by_group], np.concatenate(scores)[by_group])


def _best(gains: Floats, of_row: Ints, left: Ints, free: np.ndarray[Any, np.dtype[np.bool_]], count: int) -> Ints:
    """The `count` free rows with the highest gains, not more of a group than it has `left`; the highest first."""
    rows = np.flatnonzero(free & (left[of_row] > 0))
    rows = rows[np.argsort(-gains[rows], kind="stable")]
    group = of_row[rows]
    grouped = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=len(left))
    place = np.empty(len(rows), np.int64)
    place[grouped] = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rows[place < left[group]][:count]


def _validation(given_set: Any, width: int, classes: int) -> _Samples:
    if not isinstance(given_set, (tuple, list)) or len(given_set) != 3:
        raise checks.bad("validation", "features [v, D], logits [v, C] and labels [v]", type(given_set).__name__)
    features, logits = torch.as_tensor(given_set[0]), torch.as_tensor(given_set[1])
    labels, _ = class_numbers(np.asarray(given_set[2]), classes)
    if features.shape != (len(labels), width) or logits.shape != (len(labels), classes) or not len(labels):
        expected = f"features [v, {width}], logits [v, {classes}] and labels [v], v >= 1"
        raise checks.bad(
            "validation", expected, f"{tuple(features.shape)}, {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return _Samples(features, logits, labels, "validation ")


METHODS = (
    Method(
        "glister",
        frozenset({"features", "logits", "labels"}),
        False,
        "Killamsetty et al. 2021, greedy with Taylor approximation, last layer",
        choose,
    ),
)
