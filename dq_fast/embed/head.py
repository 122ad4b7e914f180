"""The last linear layer of a classifier: found, fitted on frozen features, and replaced."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dq_fast.errors import InputError

# Rows of features taken to float64 at once.
_CHUNK = 16_384
# Standardised features are divided by their deviation; one that is smaller than this is constant and gets weight 0.
_CONSTANT = 1e-12


def find_head(module: nn.Module, num_classes: int) -> str | None:
    """Name of the last registered ``nn.Linear`` with `num_classes` outputs, or None."""
    names = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and part.out_features == num_classes
    ]
    return names[-1] if names else None


def last_linear(module: nn.Module) -> str | None:
    """Name of the last registered ``nn.Linear`` of any width, or None."""
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    return names[-1] if names else None


def replace_head(module: nn.Module, name: str, head: nn.Linear) -> nn.Module:
    """Put `head` where the linear layer `name` is; returns the module (the head itself where `name` is "")."""
    if not name:
        return head
    old = module.get_submodule(name)
    assert isinstance(old, nn.Linear)
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, head.to(old.weight))
    if hasattr(module, "num_classes"):
        module.num_classes = head.out_features  # type: ignore[assignment]
    return module


def fit_head(
    features: Tensor, labels: Tensor, num_classes: int, *, l2: float = 1e-2, max_iterations: int = 200
) -> nn.Linear:
    """Multinomial logistic regression on frozen features.

    Minimises mean cross-entropy + ½·l2·‖W‖² over features standardised to mean 0 and deviation 1 (the bias is free), by
    L-BFGS from zero in float64, then folds the standardisation into weight and bias: the layer takes plain features.
    Deterministic. Features are converted piece by piece, so that memory stays that of the input.

    Args:
        features: [n, D], finite, n >= 1.
        labels: int [n], in 0..num_classes − 1; a class without samples ends with a low bias.
        num_classes: C.
        l2: strength of the penalty.
        max_iterations: steps of L-BFGS.

    Returns:
        A linear layer, float32, D to C.
    """
    n, width = features.shape
    if n == 0 or labels.shape != (n,):
        raise InputError(f"labels must be [n] with n >= 1 rows of features, got {tuple(labels.shape)} for {n} rows")
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise InputError(f"labels must lie in 0..{num_classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    features, labels = features.detach(), labels.to(features.device, torch.int64)
    mean = torch.zeros(width, dtype=torch.float64, device=features.device)
    square = torch.zeros_like(mean)
    for rows in features.split(_CHUNK):
        mean += rows.double().sum(0) / n
    for rows in features.split(_CHUNK):
        square += (rows.double() - mean).square().sum(0) / n
    deviation = square.sqrt()
    if not bool(torch.isfinite(deviation).all()):
        raise InputError("features must be finite, got NaN or infinity")
    scale = torch.where(deviation > _CONSTANT * (1 + mean.abs()), 1 / deviation, torch.zeros_like(deviation))

    weight = torch.zeros(num_classes, width, dtype=torch.float64, device=features.device, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
    )

    @torch.no_grad()
    def loss_and_gradient() -> Tensor:
        loss = 0.5 * l2 * weight.square().sum()
        weight_grad, bias_grad = l2 * weight, torch.zeros_like(bias)
        for rows, targets in zip(features.split(_CHUNK), labels.split(_CHUNK), strict=True):
            x = (rows.double() - mean) * scale
            logits = x @ weight.T + bias
            loss += F.cross_entropy(logits, targets, reduction="sum") / n
            error = (logits.softmax(1) - F.one_hot(targets, num_classes)) / n
            weight_grad += error.T @ x
            bias_grad += error.sum(0)
        weight.grad, bias.grad = weight_grad, bias_grad
        return loss

    optimizer.step(loss_and_gradient)  # type: ignore[arg-type]
    head = nn.Linear(width, num_classes, device=features.device)
    with torch.no_grad():
        folded = weight * scale
        head.weight.copy_(folded)
        head.bias.copy_(bias - folded @ mean)
    return head
