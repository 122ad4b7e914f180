"""Contextual diversity: samples whose predictions confuse classes in different ways.

Agarwal et al. 2020, "Contextual Diversity for Active Learning" (ECCV), the core-set strategy CDAL-CS. The paper mixes
the softmax predictions of all regions of an image that are predicted as one class, and compares two images by the
symmetric divergence of their mixtures; then it picks k-center greedily by that distance. In classification an image is
one region and its mixture is its prediction p (its weights cancel):

    d(i, j) = 1/2 KL(p_i || p_j) + 1/2 KL(p_j || p_i) = 1/2 sum_k (p_ik - p_jk) (log p_ik - log p_jk)
    next    = argmax over x of min over picked b of d(x, b)

Left out of the paper's distance is the factor that counts only classes that both images are predicted as: with one
region an image it would be 0 between all images of different classes, and so would the smallest distance once two
classes have a pick. (DeepCore's leaves it out, too.)

O(n C) time a pick, O(n C) memory for a group.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dq_fast.select.methods.base import Chosen, Counter, Evidence, Ints, Method, Picks, by_group
from dq_fast.select.methods.scores import given, in_blocks


class _Predictions:
    """Predictions of n samples, class by class, so that sums over classes run over long rows.

    Attributes:
        p: float64 [C, n].
        log_p: float64 [C, n], finite also where p underflows.
    """

    def __init__(self, logits: Tensor) -> None:
        self.log_p = in_blocks(lambda z: torch.log_softmax(z, 1), logits, name="logits").T.contiguous()
        self.p = self.log_p.exp()
        self._work = torch.empty_like(self.p), torch.empty_like(self.p)

    def distances(self, p: Tensor, log_p: Tensor) -> Tensor:
        """Symmetric divergence of every sample from a prediction [C], in nats: float64 [n].

        Every term is at least 0, so that nothing cancels: equal predictions have distance 0 exactly.
        """
        difference, log_difference = self._work
        torch.sub(self.p, p[:, None], out=difference)
        torch.sub(self.log_p, log_p[:, None], out=log_difference)
        return difference.mul_(log_difference).sum(0).mul_(0.5)


def choose(evidence: Evidence) -> Chosen:
    """Pick the sample whose prediction diverges most from those of all picked so far.

    The paper starts from a labelled set (and its code from a random sample); here the first pick of a group is the
    sample nearest to the group's mean prediction. Scores are distances to the nearest earlier pick in nats; the first
    pick's is its distance from the mean. Ties go to the lowest row; samples predicted as a pick is come last, in row
    order.
    """
    logits = given(evidence, "logits")

    def pick(rows: Ints, budget: int, counter: Counter) -> Picks:
        return _pick(logits[torch.from_numpy(rows)], budget, counter)

    return by_group(evidence, "contextual-diversity", pick)


def _pick(logits: Tensor, budget: int, counter: Counter) -> Picks:
    samples = _Predictions(logits)
    log_mean = torch.logsumexp(samples.log_p, 1) - math.log(len(logits))
    apart = samples.distances(log_mean.exp(), log_mean)
    i = int(apart.argmin())
    order, scores = np.empty(budget, np.int64), np.empty(budget)
    order[0], scores[0] = i, float(apart[i])
    apart.fill_(torch.inf)
    counter()
    for k in range(1, budget):
        torch.minimum(apart, samples.distances(samples.p[:, i], samples.log_p[:, i]), out=apart)
        apart[i] = -torch.inf  # picked: stays below all others
        i = int(apart.argmax())
        order[k], scores[k] = i, float(apart[i])
        counter()
    return Picks(order, scores)


METHODS = (
    Method(
        "contextual-diversity", frozenset({"logits"}), True, "Agarwal et al. 2020, CDAL-CS: k-center greedy", choose
    ),
)
