"""The gradients of samples that gradient-matching methods compare: of the loss by the last linear layer."""

from __future__ import annotations

import torch
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.ops import checks
from dq_fast.select.methods.base import Evidence
from dq_fast.select.methods.products import check_finite

CHOICES = ("auto", "loss", "embedding")


def gradient_factors(evidence: Evidence, gradients: str) -> tuple[Tensor, ...]:
    """Factors of every row's gradient.

    Args:
        evidence: what is known of the rows.
        gradients: "loss": of the cross-entropy by weight and bias of the last linear layer, with the size it has:
            (softmax(logits) − onehot(label)) ⊗ [1, features]. "embedding": the embedding's rows as they are (those of
            `dq_fast.gradient_embedding` have gradients' directions but not their sizes). "auto": the former where
            features, logits and labels are given.

    Raises:
        InputError: another choice, evidence missing, or values that are not finite.
    """
    checks.one_of("gradients", gradients, CHOICES)
    features, logits, labels = evidence.features, evidence.logits, evidence.labels
    whole = features is not None and logits is not None and labels is not None
    if gradients == "loss" and not whole:
        raise InputError("features, logits and labels must be given for gradients='loss', got not all of them")
    if gradients == "embedding" or features is None or logits is None or labels is None:
        check_finite(evidence.factors)
        return evidence.factors
    label = torch.as_tensor(labels, device=logits.device, dtype=torch.int64)[:, None]
    if len(label) and not 0 <= int(label.min()) <= int(label.max()) < logits.shape[1]:
        raise checks.bad(
            "labels", f"0 to {logits.shape[1] - 1}, the logits' classes", f"{label.min()} to {label.max()}"
        )
    for name, x in (("features", features), ("logits", logits)):
        checks.finite_rows(name, x)
    # 1 − p of the label as the sum of the others: no digits lost for a sample the network is sure of.
    b = torch.softmax(logits.double(), dim=1)
    others = b.scatter(1, label, 0.0).sum(1, keepdim=True)
    b.scatter_(1, label, -others)
    h = torch.cat((torch.ones_like(features[:, :1]), features), dim=1)
    return b, h
