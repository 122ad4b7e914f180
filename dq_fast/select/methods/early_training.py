"""Scores taken while networks train: GraNd, EL2N and forgetting events.

The papers train a network on the data from several initialisations. Here features are frozen and the network is the
linear head on them (heads.py): the scores say how hard a sample is for a linear classifier of these features.

GraNd and EL2N: Paul, Ganguli and Dziugaite 2021, "Deep Learning on a Data Diet: Finding Important Examples Early in
Training" (NeurIPS), Definitions 2.1 and 2.3. With p the softmax prediction, y the one-hot label and the
expectation over initialisations, after a few epochs:

    grand   E || gradient of the loss with respect to the weights ||  =  E ||p - y|| * ||[1, h]||
    el2n    E || p - y ||

The gradient of a head (weight and bias) is the outer product of p - y and [1, h], whose norm is the product of norms;
DeepCore averages over its repetitions too.

Forgetting: Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning" (ICLR),
sections 3 and 3.1, Algorithm 1. A forgetting event: the sample was right the last time that it was in a minibatch, and
is wrong now, both before the step. A sample that was never right counts as more than any that was (the paper:
infinitely many); here as the number of epochs, so that a mean over heads exists.

All train in O(heads * epochs * n * D * C).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Evidence, Method
from dq_fast.select.methods.heads import Heads, train_heads
from dq_fast.select.methods.scores import by_score, class_numbers, given, in_blocks


def el2n(features: Tensor, labels: Tensor, heads: Heads) -> Tensor:
    """Mean over the heads of the norm of the error p - y: float64 [n], in [0, sqrt(2)].

    Args:
        features: [n, D].
        labels: int64 [n].
        heads: what predicts.
    """
    return in_blocks(lambda x, y: _errors(x, y, heads), features, labels, name="features", width=_width(heads))


def grand(features: Tensor, labels: Tensor, heads: Heads) -> Tensor:
    """Mean over the heads of the norm of the loss gradient with respect to weight and bias: float64 [n].

    Args:
        features: [n, D].
        labels: int64 [n].
        heads: what predicts.
    """
    return in_blocks(
        lambda x, y: _errors(x, y, heads) * (1 + x.square().sum(1)).sqrt(),
        features,
        labels,
        name="features",
        width=_width(heads),
    )


def _width(heads: Heads) -> int:
    return heads.bias.numel() + heads.weight.shape[2]


def _errors(x: Tensor, y: Tensor, heads: Heads) -> Tensor:
    """Mean over the heads of ||p - y|| [n], without the cancellation of 1 - p_y."""
    p = torch.softmax(heads.logits(x), dim=2)
    label = y[None, :, None].expand(len(p), -1, 1)
    others = p.scatter(2, label, 0.0)
    return (others.square().sum(2) + others.sum(2).square()).sqrt().mean(0)


class Forgetting:
    """Counts forgetting events; called before every step of training, as `heads.Observer` says.

    Attributes:
        events: int64 [heads, n], forgetting events so far.
        learned: bool [heads, n], whether the sample was ever right.
    """

    def __init__(self, heads: int, n: int) -> None:
        self.events = torch.zeros(heads, n, dtype=torch.int64)
        self.learned = torch.zeros(heads, n, dtype=torch.bool)
        self._right = torch.zeros(heads, n, dtype=torch.bool)

    def __call__(self, rows: Tensor, right: Tensor) -> None:
        """Count the events of a minibatch: rows int64 [heads, b], whether each is right, bool [heads, b]."""
        forgotten = self._right.gather(1, rows) & ~right
        self.events.scatter_add_(1, rows, forgotten.long())
        self._right.scatter_(1, rows, right)
        self.learned.scatter_(1, rows, self.learned.gather(1, rows) | right)

    def scores(self, epochs: int) -> Tensor:
        """Mean over the heads of the events, `epochs` where a sample was never right: float64 [n]."""
        return torch.where(self.learned, self.events, epochs).double().mean(0)


def choose_hardest(
    score: Callable[[Tensor, Tensor, Heads], Tensor],
    evidence: Evidence,
    *,
    heads: int = 10,
    epochs: int = 10,
    batch_size: int = 256,
    learning_rate: float = 1.0,
    direction: str = "highest",
) -> Chosen:
    """The samples with the largest `score` (`grand` or `el2n`) first (or last: direction "lowest").

    `heads` initialisations, trained for `epochs`; 0 epochs is the score at initialisation. Scores are the expected
    norms.
    """
    features = given(evidence, "features")
    labels, trained = _trained(evidence, heads, epochs, batch_size, learning_rate)
    return by_score(evidence, score(features, labels, trained), direction)


def choose_forgetting(
    evidence: Evidence,
    *,
    heads: int = 5,
    epochs: int = 20,
    batch_size: int = 256,
    learning_rate: float = 1.0,
    direction: str = "highest",
) -> Chosen:
    """The samples forgotten most often first (or last: direction "lowest").

    Counted over `epochs` of training, mean of `heads` runs. Scores are the counts.
    """
    heads, epochs = checks.integer("heads", heads, 1), checks.integer("epochs", epochs, 1)
    count = Forgetting(heads, len(evidence))
    _trained(evidence, heads, epochs, batch_size, learning_rate, count)
    return by_score(evidence, count.scores(epochs), direction)


def _trained(
    evidence: Evidence,
    heads: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    observe: Forgetting | None = None,
) -> tuple[Tensor, Heads]:
    """The labels [n], and the heads trained on all samples: groups share their heads."""
    features = given(evidence, "features")
    labels, classes = class_numbers(evidence.labels, None if evidence.logits is None else evidence.logits.shape[1])
    if len(labels) == 0:
        nothing = torch.zeros(1, max(1, classes), features.shape[1], dtype=torch.float64)
        return labels, Heads(nothing, nothing.sum(2))
    return labels, train_heads(
        features,
        labels,
        classes,
        heads=heads,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=evidence.seed,
        observe=observe,
        progress=evidence.report,
    )


_NEEDS = frozenset({"features", "labels"})
METHODS = (
    Method("grand", _NEEDS, True, "Paul et al. 2021, Definition 2.1, on a linear head", partial(choose_hardest, grand)),
    Method("el2n", _NEEDS, True, "Paul et al. 2021, Definition 2.3, on a linear head", partial(choose_hardest, el2n)),
    Method("forgetting", _NEEDS, True, "Toneva et al. 2019, Algorithm 1, on a linear head", choose_forgetting),
)
