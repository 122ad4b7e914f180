"""The gradient embedding of the Dataset Quantization paper, as two factors that never underflow.

A sample's embedding is the gradient of its loss with respect to the last linear layer: b for the bias and b ⊗ h for the
weight, C(D + 1) numbers. With ĥ = [1, h] it is the outer product b ⊗ ĥ, so that cosines factorise exactly:
cos(i, j) = cos(b_i, b_j) · cos(ĥ_i, ĥ_j). Only b's direction matters. The gradient itself underflows to zero for
samples that a trained network is sure of (about 3 % of CIFAR-10 in float32), its direction does not: each row is
computed up to a positive factor that is divided out before any exponential is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dq_fast.errors import InputError

LOSSES = ("ce", "double_softmax")

# Rows of logits held in float64 at once (times the number of classes): 32 MiB a temporary.
_CHUNK_NUMBERS = 1 << 22


def gradient_embedding(logits: Tensor, features: Tensor, labels: Tensor, *, loss: str = "ce") -> tuple[Tensor, Tensor]:
    """Factors of the loss gradient with respect to the last linear layer.

    Args:
        logits: [n, C], any float dtype, finite.
        features: [n, D], input of the last linear layer, finite.
        labels: int [n], 0 <= label < C.
        loss: "ce" is cross-entropy (the paper, DeepCore): b ∝ softmax(z) − onehot(y). "double_softmax" is cross-entropy
            applied to softmax(z), as the official Dataset Quantization code ran: b ∝ p ⊙ (g − ⟨p, g⟩) with
            p = softmax(z), g = softmax(p) − onehot(y).

    Returns:
        b [n, C] and h [n, D + 1] = [1, features], float64 where the input is float64 and float32 otherwise. Rows of b
        have the gradient's direction and a size of their own: the largest entry lies between 1 / C and about 2 in
        absolute value, whatever the logits. With a single class the gradient is zero and has no direction; b is −1
        there, so that cosines are those of the features.

    Raises:
        InputError: a wrong shape, dtype, loss or label, or a number that is not finite (named by row).
    """
    logits, features, labels = torch.as_tensor(logits), torch.as_tensor(features), torch.as_tensor(labels)
    _check(logits, features, labels, loss)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    h_dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    direction = _cross_entropy if loss == "ce" else _double_softmax
    labels = labels.to(logits.device, torch.int64)
    b = torch.empty(logits.shape, dtype=dtype, device=logits.device)
    step = max(1, _CHUNK_NUMBERS // max(1, logits.shape[1]))
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        b[rows] = direction(logits[rows].double(), labels[rows])
    h = torch.empty((len(features), features.shape[1] + 1), dtype=h_dtype, device=features.device)
    h[:, 0] = 1
    h[:, 1:] = features
    return b, h


def _cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Rows of b [n, C] from logits z [n, C] float64 and labels y [n].

    The gradient is softmax(z) − onehot(y) = (1 − p_y)·(softmax over the other classes; −1 at the label); the factor
    1 − p_y, which is what underflows, is left out.
    """
    label = y[:, None]
    others = z.scatter(1, label, -torch.inf)
    return torch.softmax(others, dim=1).scatter(1, label, -1.0)


def _double_softmax(z: Tensor, y: Tensor) -> Tensor:
    """Rows of b [n, C] from logits z [n, C] float64 and labels y [n].

    b_k = p_k Σ_j p_j (g_k − g_j) with g = q − onehot(y). Split into sums of terms of one sign, each known by its
    logarithm, where m is the off-label class with the largest logit, D_k = q_m − q_k >= 0, ρ = 1 − p_y and
    D̄ = Σ_{j ≠ y} (p_j / ρ) D_j:

        b_y = −p_y Σ_{j ≠ y} p_j (1 + q_j − q_y)
        b_k =  p_k p_y (1 + q_k − q_y)  +  p_k ρ D̄  −  p_k ρ D_k          for k ≠ y

    (1 + q_j − q_y is at least ½.) The largest logarithm of the row is subtracted from all before they are
    exponentiated. Were it one of p_k ρ D_k, then p_m ρ D̄, from which nothing is subtracted (D_m = 0), is at least
    1 / (C − 1) of it: no row comes out as zero, and no row loses its leading digits.
    """
    classes = z.shape[1]
    label = y[:, None]
    if classes == 1:
        return torch.full_like(z, -1.0)
    z = z - z.amax(1, keepdim=True)
    others = z.scatter(1, label, -torch.inf)
    log_p = torch.log_softmax(z, 1)
    log_p_y = log_p.gather(1, label)
    log_rho = torch.logsumexp(others, 1, keepdim=True) - torch.logsumexp(z, 1, keepdim=True)
    log_share = torch.log_softmax(others, 1)  # log p_j / ρ, −inf at the label
    q = torch.softmax(log_p.exp(), 1)

    # t = p_m − p_k = ρ · share_m · (1 − exp(z_k − z_m)); D_k = q_m − q_k = q_k · expm1(t), with t perhaps below 1e-308
    z_m, share_m = others.amax(1, keepdim=True), log_share.amax(1, keepdim=True)
    log_t = log_rho + share_m + torch.log(-torch.expm1(others - z_m))
    t = log_t.exp()
    ratio = torch.where(t > 1e-8, torch.expm1(t) / t.clamp(min=1e-8), 1 + t / 2)  # expm1(t) / t
    log_d = (q.log() + log_t + ratio.log()).scatter(1, label, -torch.inf)
    log_d_mean = torch.logsumexp(log_share + log_d, 1, keepdim=True)

    log_pull = torch.log1p(q - q.gather(1, label)).scatter(1, label, -torch.inf)  # log of 1 + q_j − q_y
    log_p_rho = log_p + log_rho
    up = log_p + log_p_y + log_pull
    spread_up = (log_p_rho + log_d_mean).scatter(1, label, -torch.inf)
    spread_down = log_p_rho + log_d
    at_label = torch.logsumexp(up, 1, keepdim=True)
    scale = torch.stack((up, spread_up, spread_down)).amax((0, 2), keepdim=True)[0]
    scale = torch.maximum(scale, at_label)
    b = (up - scale).exp() + (spread_up - scale).exp() - (spread_down - scale).exp()
    return b.scatter(1, label, -(at_label - scale).exp())


def _check(logits: Tensor, features: Tensor, labels: Tensor, loss: str) -> None:
    if loss not in LOSSES:
        raise InputError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    for name, x in (("logits", logits), ("features", features)):
        if x.ndim != 2 or not x.is_floating_point():
            raise InputError(f"{name} must be 2-D floating point, got shape {tuple(x.shape)} of {x.dtype}")
    n, classes = logits.shape
    if features.shape[0] != n or labels.shape != (n,):
        raise InputError(
            "logits [n, C], features [n, D] and labels [n] must have the same n, "
            f"got {tuple(logits.shape)}, {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels must be integers, got {labels.dtype}")
    if classes == 0:
        raise InputError("logits must have at least one class, got shape " + str(tuple(logits.shape)))
    if n and (labels.min() < 0 or labels.max() >= classes):
        wrong = int(((labels < 0) | (labels >= classes)).nonzero()[0, 0])
        raise InputError(f"labels must lie in 0..{classes - 1}, got {int(labels[wrong])} in row {wrong}")
    for name, x in (("logits", logits), ("features", features)):
        finite = torch.isfinite(x).all(1)
        if not finite.all():
            rows = (~finite).nonzero()[:5, 0].tolist()
            raise InputError(f"{name} must be finite, got NaN or infinity in {int((~finite).sum())} rows, first {rows}")
