"""Linear heads trained on frozen features: the networks of the methods that watch a network train.

Those papers train a network from several initialisations. On frozen features the network is the head, multinomial
logistic regression by minibatch SGD, and takes seconds: all heads train at once, a batched product a step.

Features are standardised (each to mean 0 and deviation 1) and divided by sqrt(D), so that a row has a squared norm of 1
on average and one learning rate fits all features. That is folded into the weights afterwards, which take plain
features. Training is in float64 where the features are, and in float32 otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.ops import checks
from dq_fast.progress import Progress, silent
from dq_fast.select.methods.scores import in_blocks

_CONSTANT = 1e-12
"""A feature whose deviation is this small a part of its mean is constant: it has weight 0."""

Observer = Callable[[Tensor, Tensor], None]
"""Called before every step with the minibatch's rows and whether each is classified right: int64 and bool [heads, b]"""


@dataclass(frozen=True)
class Heads:
    """Several linear heads.

    Attributes:
        weight: float64 [heads, C, D], for plain features.
        bias: float64 [heads, C].
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Logits of features [n, D]: float64 [heads, n, C]."""
        heads, classes, width = self.weight.shape
        flat = torch.addmm(self.bias.flatten(), features.double(), self.weight.reshape(heads * classes, width).T)
        return flat.view(len(features), heads, classes).transpose(0, 1)


@dataclass(frozen=True)
class Scale:
    """What standardises features: ``(x - mean) * factor``.

    Attributes:
        mean: float64 [D].
        factor: float64 [D], 1 / (deviation * sqrt(D)); 0 for a constant feature.
    """

    mean: Tensor
    factor: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scale:
        """That of features [n, D], n >= 1, read twice in blocks."""
        n, width = features.shape
        mean = in_blocks(lambda x: x.sum(0, keepdim=True), features, name="features").sum(0) / n
        square = in_blocks(lambda x: (x - mean).square().sum(0, keepdim=True), features, name="features").sum(0)
        deviation = (square / n).sqrt()
        varies = deviation > _CONSTANT * mean.abs()
        return cls(mean, torch.where(varies, 1 / (deviation * width**0.5), 0.0))

    def fold(self, weight: Tensor, bias: Tensor) -> Heads:
        """Heads that do on plain features what weight [heads, D, C] and bias [heads, C] do on standardised ones."""
        plain = weight.double().transpose(1, 2) * self.factor
        return Heads(plain, bias.double() - plain @ self.mean)


def train_heads(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    heads: int = 10,
    epochs: int = 10,
    batch_size: int = 256,
    learning_rate: float = 1.0,
    momentum: float = 0.9,
    seed: int = 0,
    observe: Observer | None = None,
    progress: Progress = silent,
) -> Heads:
    """Train linear heads from different initialisations on frozen features, each in its own random order of samples.

    Minibatch SGD with momentum and a constant learning rate on the mean cross-entropy; every epoch goes through all
    samples once, in a new order; the last minibatch of an epoch may be smaller. Weights start uniform in [-1, 1] (for
    standardised features over sqrt(D): as torch starts a linear layer), the bias at 0.

    O(heads * epochs * n * D * C) time; memory of a minibatch of every head.

    Args:
        features: [n, D], finite, n >= 1.
        labels: int64 [n], 0 to classes - 1.
        classes: C, at least 1.
        heads: how many, at least 1. Head k of a seed is the same whatever their number.
        epochs: at least 0; 0 leaves the initialisation.
        batch_size: at least 1.
        learning_rate: of the standardised features, see above.
        momentum: in [0, 1).
        seed: the same seed gives the same heads.
        observe: called before every step, as `Observer` says.
        progress: called as ``progress("heads", epochs done, epochs)``.

    Raises:
        InputError: an argument out of range, or features that are not finite.
    """
    heads, epochs = checks.integer("heads", heads, 1), checks.integer("epochs", epochs, 0)
    batch_size = checks.integer("batch_size", batch_size, 1)
    learning_rate, momentum = checks.real("learning_rate", learning_rate, 0), checks.real("momentum", momentum, 0)
    if momentum >= 1:
        raise checks.bad("momentum", "in [0, 1)", momentum)
    n, width = features.shape
    if n == 0:
        raise InputError("features must have at least one row to train a head on, got none")
    features = features.detach()
    scale = Scale.of(features)
    generators = [np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(heads)]
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    mean, factor = scale.mean.to(dtype), scale.factor.to(dtype)
    weight = torch.from_numpy(np.stack([g.uniform(-1, 1, (width, classes)) for g in generators])).to(dtype)
    bias = torch.zeros(heads, 1, classes, dtype=dtype)
    weight_step, bias_step = torch.zeros_like(weight), torch.zeros_like(bias)
    for epoch in range(epochs):
        order = torch.from_numpy(np.stack([g.permutation(n) for g in generators]))
        for rows in order.split(batch_size, dim=1):
            x = features.index_select(0, rows.reshape(-1)).to(dtype)  # a copy of the minibatches' rows
            x = x.sub_(mean).mul_(factor).view(heads, -1, width)
            y = labels[rows][:, :, None]
            z = torch.baddbmm(bias, x, weight)
            if observe is not None:
                observe(rows, z.argmax(2) == y[:, :, 0])
            error = torch.softmax(z, dim=2)
            error.scatter_add_(2, y, torch.full_like(y, -1, dtype=dtype)).div_(rows.shape[1])
            weight_step.mul_(momentum).baddbmm_(x.transpose(1, 2), error)
            bias_step.mul_(momentum).add_(error.sum(1, keepdim=True))
            weight.sub_(weight_step, alpha=learning_rate)
            bias.sub_(bias_step, alpha=learning_rate)
        progress("heads", epoch + 1, epochs)
    return scale.fold(weight, bias[:, 0])
