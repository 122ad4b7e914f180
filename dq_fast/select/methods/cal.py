"""Contrastive active learning (CAL): samples whose neighbours are predicted otherwise.

Margatina, Vernikos, Barrault and Aletras 2021, "Active Learning by Acquiring Contrastive Examples" (EMNLP). With
N(i) the k nearest neighbours of sample i in feature space (Euclidean distance) and p the softmax predictions:

    s_i = 1/k * sum over l in N(i) of KL(p_l || p_i)

The highest come first (DeepCore picks the lowest).

The paper has a pool to choose from and a labelled set, and looks for neighbours in the labelled set: give that as
``labelled=``. Choosing from a data set, there is no such second set: then neighbours are sought among all other samples
of the data set, of whatever group (a class's neighbours in other classes are what tells its contrastive examples).

O(n m D) time for m samples to look among, in blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Evidence, Method
from dq_fast.select.methods.neighbours import nearest
from dq_fast.select.methods.scores import by_score, given, in_blocks


def contrast(logits: Tensor, neighbours: Tensor, among: Tensor) -> Tensor:
    """Mean divergence of each sample's neighbours' predictions from its own, in nats: float64 [n].

    Args:
        logits: [n, C].
        neighbours: int64 [n, k], rows of `among`; k = 0 gives zeros.
        among: logits [m, C] of the samples that neighbours are among, finite.
    """
    if neighbours.shape[1] == 0:
        return torch.zeros(len(logits), dtype=torch.float64)
    width = logits.shape[1] * neighbours.shape[1]

    def score(z: Tensor, rows: Tensor) -> Tensor:
        own = torch.log_softmax(z, 1)[:, None, :]
        theirs = torch.log_softmax(among[rows].double(), 2)
        return (theirs.exp() * (theirs - own)).sum(2).mean(1)

    return in_blocks(score, logits, neighbours, name="logits", width=width)


def choose(
    evidence: Evidence, *, k: int = 10, labelled: tuple[Tensor, Tensor] | None = None, direction: str = "highest"
) -> Chosen:
    """The samples whose neighbours' predictions differ most from their own first (or last: direction "lowest").

    `k` neighbours (the paper's 10), sought among all other samples, or in `labelled`: features [m, D] and logits
    [m, C]. Scores are the mean divergences in nats.
    """
    features, logits = given(evidence, "features"), given(evidence, "logits")
    if checks.integer("k", k, 1) and labelled is None:
        neighbours = torch.from_numpy(nearest(features, k))
        return by_score(evidence, contrast(logits, neighbours, logits), direction)
    if not isinstance(labelled, (tuple, list)) or len(labelled) != 2:
        raise checks.bad("labelled", "features [m, D] and logits [m, C]", type(labelled).__name__)
    their_features, their_logits = (torch.as_tensor(x) for x in labelled)
    if their_logits.ndim != 2 or their_logits.shape != (len(their_features), logits.shape[1]) or not len(their_logits):
        expected = f"features [m, D] and logits [m, {logits.shape[1]}], m >= 1"
        raise checks.bad("labelled", expected, f"{tuple(their_features.shape)} and {tuple(their_logits.shape)}")
    checks.finite_rows("labelled logits", their_logits)
    neighbours = torch.from_numpy(nearest(features, k, their_features))
    return by_score(evidence, contrast(logits, neighbours, their_logits), direction)


METHODS = (
    Method("cal", frozenset({"features", "logits"}), True, "Margatina et al. 2021, CAL", choose),
)  # fmt: skip
