"""Uncertainty sampling: least confidence, entropy and margin of the predictions.

Settles 2009, "Active learning literature survey", on uncertainty sampling; the margin is that of Scheffer, Decomain and
Wrobel 2001, "Active hidden Markov models for information extraction". As a choice of training data: Coleman et al.
2020, "Selection via Proxy: Efficient Data Selection for Deep Learning" (ICLR). With p the softmax of a sample's
logits and p_(1) >= p_(2) its two largest entries:

    least-confidence   1 - p_(1)
    entropy            -sum_k p_k log p_k
    margin             1 - (p_(1) - p_(2))

The highest, the most uncertain, come first (DeepCore without class balance keeps the most certain). None is taken as a
difference from 1, which would round everything that a trained network is sure of to zero: 1 - p_(1) is the sum of the
other entries, and the margin is 2 p_(2) plus the sum of the rest. So samples with a probability of 1 - 1e-30 still have
their order.

O(n C) time, a block of rows in float64 at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Evidence, Method
from dq_fast.select.methods.scores import by_score, given, in_blocks


def least_confidence(logits: Tensor) -> Tensor:
    """One minus the largest probability: float64 [n] from logits [n, C], in [0, 1 - 1/C]."""
    return in_blocks(_but_the_largest, logits, name="logits")


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the prediction in nats: float64 [n] from logits [n, C], in [0, log C]."""
    return in_blocks(_entropy, logits, name="logits")


def margin(logits: Tensor) -> Tensor:
    """One minus the difference of the two largest probabilities: float64 [n] from logits [n, C], in [0, 1].

    With a single class the second probability is 0, and so is the score.
    """
    return in_blocks(_margin, logits, name="logits")


def _ordered(z: Tensor) -> Tensor:
    """Probabilities [n, C], the largest first."""
    return torch.softmax(z.sort(dim=1, descending=True).values, dim=1)


def _but_the_largest(z: Tensor) -> Tensor:
    return _ordered(z)[:, 1:].sum(1)


def _entropy(z: Tensor) -> Tensor:
    log_p = torch.log_softmax(z, dim=1)
    return -(log_p.exp() * log_p).sum(1)


def _margin(z: Tensor) -> Tensor:
    p = _ordered(z)
    return p[:, 1:].sum(1) + p[:, 1:2].sum(1)


def _method(name: str, score: Callable[[Tensor], Tensor], formula: str) -> Method:
    def choose(evidence: Evidence, *, direction: str = "highest") -> Chosen:
        """The most uncertain samples first (direction "highest"), or the most certain ("lowest")."""
        logits = given(evidence, "logits")
        if logits.shape[1] == 0:
            raise checks.bad("logits", "at least one class wide", checks.shape_of(logits))
        return by_score(evidence, score(logits), direction)

    return Method(name, frozenset({"logits"}), True, f"Settles 2009; Coleman et al. 2020: {formula}", choose)


METHODS = (
    _method("least-confidence", least_confidence, "1 - max_k p_k"),
    _method("entropy", entropy, "-sum_k p_k log p_k"),
    _method("margin", margin, "1 - (p_(1) - p_(2))"),
)
