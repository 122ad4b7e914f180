"""Residual networks for small images.

``resnet20_cifar`` ... ``resnet56_cifar``: He et al. 2016 (arXiv:1512.03385), section 4.2: three stages of 16, 32 and 64
channels with n blocks each (depth 6n + 2) and parameter-free shortcuts (option A: subsample, pad channels with zeros).
Parameter names are those of the common CIFAR-10 checkpoints (``conv1``, ``layer1.0.conv1``, ..., ``linear``).

``resnet18_cifar``: the four-stage ResNet-18 with a 3 x 3 stem and no max pooling (512 features), which the Dataset
Quantization paper trains on 32 x 32 images.

All end in global average pooling and one linear layer, take any input size from 1 x 1 upwards, and offer the few
methods that users of timm expect (``forward_features``, ``forward_head``, ``get_classifier``, ``reset_classifier``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "SmallResNet",
    "resnet18_cifar",
    "resnet20_cifar",
    "resnet32_cifar",
    "resnet44_cifar",
    "resnet56_cifar",
]

# Channel means and deviations of ImageNet: what the published CIFAR-10 checkpoints of these networks were trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, new channels zero, half of them before and half after the old ones."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        before = (channels - in_channels) // 2
        self.stride = stride
        self.padding = (before, channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [b, in_channels, h, w] to [b, channels, ceil(h / stride), ceil(w / stride)]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.padding))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = (
                nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
                if projection
                else PadShortcut(in_channels, channels, stride)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map x [b, in_channels, h, w] to [b, channels, h', w']."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class SmallResNet(nn.Module):
    """A residual network with a 3 x 3 stem.

    Args:
        blocks: number of blocks of each stage.
        widths: channels of each stage; every stage but the first halves the map.
        num_classes: width of the logits.
        in_chans: channels of the images.
        projection: whether shortcuts that change shape are 1 x 1 convolutions (else option A).
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        projection: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = widths[-1]
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        self.stages = [f"layer{i + 1}" for i in range(len(blocks))]
        for i, (name, count, width) in enumerate(zip(self.stages, blocks, widths, strict=True)):
            stage = []
            for j in range(count):
                stage.append(BasicBlock(channels, width, 2 if i > 0 and j == 0 else 1, projection))
                channels = width
            self.add_module(name, nn.Sequential(*stage))
        self.linear = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map x [b, in_chans, h, w] to the last activation map [b, num_features, h', w'], not negative."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for name in self.stages:
            x = getattr(self, name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Activation map -> logits [b, num_classes], or the pooled features [b, num_features] with `pre_logits`."""
        x = x.mean((2, 3))
        return x if pre_logits else cast(Tensor, self.linear(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [b, in_chans, h, w] to logits [b, num_classes]."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.linear

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last linear layer by a fresh one with `num_classes` outputs."""
        self.num_classes = num_classes
        self.linear = nn.Linear(self.num_features, num_classes).to(self.linear.weight)


def _cifar(depth: int, num_classes: int, in_chans: int) -> SmallResNet:
    count = (depth - 2) // 6
    return SmallResNet([count] * 3, [16, 32, 64], num_classes=num_classes, in_chans=in_chans)


def resnet20_cifar(num_classes: int = 10, in_chans: int = 3) -> SmallResNet:
    """ResNet-20 for small images: 0.27 million parameters, 64 features."""
    return _cifar(20, num_classes, in_chans)


def resnet32_cifar(num_classes: int = 10, in_chans: int = 3) -> SmallResNet:
    """ResNet-32 for small images: 0.46 million parameters, 64 features."""
    return _cifar(32, num_classes, in_chans)


def resnet44_cifar(num_classes: int = 10, in_chans: int = 3) -> SmallResNet:
    """ResNet-44 for small images: 0.66 million parameters, 64 features."""
    return _cifar(44, num_classes, in_chans)


def resnet56_cifar(num_classes: int = 10, in_chans: int = 3) -> SmallResNet:
    """ResNet-56 for small images: 0.85 million parameters, 64 features."""
    return _cifar(56, num_classes, in_chans)


def resnet18_cifar(num_classes: int = 10, in_chans: int = 3) -> SmallResNet:
    """ResNet-18 with a 3 x 3 stem and no max pooling: 11.2 million parameters, 512 features."""
    return SmallResNet([2, 2, 2, 2], [64, 128, 256, 512], num_classes=num_classes, in_chans=in_chans, projection=True)


BUILTIN = {
    make.__name__: make for make in (resnet20_cifar, resnet32_cifar, resnet44_cifar, resnet56_cifar, resnet18_cifar)
}
"""The networks of this file by name; each is called with num_classes."""
