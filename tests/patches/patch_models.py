"""Small models whose heads do and do not allow the closed form."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F


class SmallNet(nn.Module):
    """A CNN of the ResNet-20 kind: one activation module for all places, functional pooling, one linear layer."""

    def __init__(self, width=12, classes=7):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Conv2d(width, 2 * width, 3, stride=4, padding=1)
        self.activation = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.activation(self.norm(self.stem(x)))
        x = self.activation(self.body(x))
        return self.linear(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))


class Head(nn.Module):
    """SmallNet's body with another head, which must not be taken for the closed form."""

    def __init__(self, kind, classes=7):
        super().__init__()
        net = SmallNet(classes=classes)
        self.body = nn.Sequential(net.stem, net.norm, nn.ReLU(), net.body)
        self.kind = kind
        self.extra = nn.LayerNorm(24) if kind == "norm" else nn.Linear(24, 24)
        self.linear = nn.Linear(24 * (8 * 8 if kind == "flatten" else 1), classes)

    def forward(self, x):
        x = self.body(x)
        if self.kind == "inplace":
            x = F.relu_(x)
        pooled = F.adaptive_max_pool2d(x, 1).flatten(1) if self.kind == "max" else x.mean((2, 3))
        if self.kind == "flatten":
            return self.linear(x.flatten(1))
        if self.kind == "relu":
            return self.linear(F.relu(pooled))
        if self.kind == "relu6":
            return self.linear(F.relu6(pooled))
        if self.kind in ("norm", "two linears"):
            return self.linear(self.extra(pooled))
        if self.kind == "softmax":
            return self.linear(pooled).softmax(1)
        return self.linear(pooled)
