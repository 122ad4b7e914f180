"""DeepFool: samples nearest to the decision boundary.

Moosavi-Dezfooli, Fawzi and Frossard 2016, "DeepFool" (CVPR), section 3.1; as a choice of samples Ducoffe and
Precioso 2018, "Adversarial Active Learning for Deep Networks: a Margin Based Approach". DeepFool walks to the boundary
of the linearised classifier; a linear head on features is linear, and its Eqs. 8 and 9 are exact in one step. With
f_k = <w_k, h> + b_k and c the predicted class:

    r = min over k != c of (f_c - f_k) / ||w_c - w_k||_2

the Euclidean distance in feature space from the sample to the boundary of its region. The nearest come first.
(The papers measure in pixels, by steps through the whole network; this is the exact distance for what is frozen.)

O(n C (D + C)) time and a fit of the head where none is given.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dq_fast.embed.head import fit_head
from dq_fast.errors import InputError
from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Evidence, Method
from dq_fast.select.methods.scores import by_score, check_finite, class_numbers, given, in_blocks


def boundary_distance(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Distance of each sample to the decision boundary of a linear head, in the features' units: float64 [n].

    Infinite where no other class can be reached: a single class, or weights that are equal with a bias that is not.

    Args:
        features: [n, D].
        weight: [C, D].
        bias: [C].
    """
    weight, bias = weight.double(), bias.double()
    apart = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")

    def distance(x: Tensor) -> Tensor:
        f = x @ weight.T + bias
        predicted = f.argmax(1)
        gap = f.gather(1, predicted[:, None]) - f
        norm = apart[predicted]
        away = torch.where((norm > 0) | (gap == 0), gap / torch.where(norm > 0, norm, 1.0), torch.inf)
        return away.scatter(1, predicted[:, None], torch.inf).amin(1)

    return in_blocks(distance, features, name="features", width=max(len(weight), features.shape[1]))


def choose(evidence: Evidence, *, head: Any = None, direction: str = "lowest") -> Chosen:
    """The samples nearest to the decision boundary first (or last: direction "highest").

    `head` is a linear layer, or its weight [C, D] and bias [C]; None fits one to features and labels (regularised
    multinomial logistic regression, `dq_fast.embed.head.fit_head`). Scores are the distances.
    """
    features = given(evidence, "features")
    weight, bias = _fitted(evidence, features) if head is None else _parts(head)
    if weight.ndim != 2 or weight.shape[1] != features.shape[1] or bias.shape != weight.shape[:1] or not len(bias):
        expected = f"a linear layer, or weight [C, {features.shape[1]}] and bias [C]"
        raise checks.bad("head", expected, f"shapes {tuple(weight.shape)} and {tuple(bias.shape)}")
    checks.finite_rows("head", torch.cat([weight, bias[:, None]], 1))
    return by_score(evidence, boundary_distance(features, weight, bias), direction)


def _parts(head: Any) -> tuple[Tensor, Tensor]:
    if isinstance(head, nn.Linear):
        bias = torch.zeros(head.out_features) if head.bias is None else head.bias
        return head.weight.detach(), bias.detach()
    if isinstance(head, (tuple, list)) and len(head) == 2:
        return torch.as_tensor(head[0]).detach(), torch.as_tensor(head[1]).detach()
    raise checks.bad("head", "a linear layer, or its weight [C, D] and bias [C]", type(head).__name__)


def _fitted(evidence: Evidence, features: Tensor) -> tuple[Tensor, Tensor]:
    if evidence.labels is None:
        raise InputError("labels must be given for method 'deepfool' to fit a head on, got none; or give head=")
    labels, classes = class_numbers(evidence.labels, None if evidence.logits is None else evidence.logits.shape[1])
    if len(labels) == 0:
        return torch.zeros(classes, features.shape[1]), torch.zeros(classes)
    check_finite("features", features)
    fitted = fit_head(features, labels, classes)
    return fitted.weight.detach(), fitted.bias.detach()


METHODS = (
    Method(
        "deepfool",
        frozenset({"features"}),
        True,
        "Moosavi-Dezfooli et al. 2016, Eqs. 8 and 9, on a linear head",
        choose,
    ),
)
