"""Sources and networks small enough to train in a test."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from dq_fast.data import Source
from dq_fast.errors import BadImageError


class Blobs(Source):
    """Images whose class is told by which corner is bright; some of them can be unreadable."""

    def __init__(
        self,
        n: int,
        *,
        size: tuple[int, int] = (8, 8),
        classes: int = 4,
        seed: int = 0,
        bad: tuple[int, ...] = (),
        hflip: bool = False,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.kind, self.spec, self.hflip = "npz", f"blobs{n}", hflip
        self.ids = [f"{i:07d}" for i in range(n)]
        self.labels = rng.permutation(np.arange(n) % classes).astype(np.int64)
        self.class_names = [f"corner {c}" for c in range(classes)]
        h, w = size
        self.images = rng.integers(0, 120, (n, h, w, 3), dtype=np.uint8)
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            y, x = (label // 2 % 2) * (h // 2), (label % 2) * (w // 2)
            image[y : y + h // 2, x : x + w // 2] += 120
        self.bad = set(bad)
        self.reads = 0

    def read(self, i: int) -> np.ndarray:
        self.reads += 1
        if i in self.bad:
            raise BadImageError(self.ids[i], "torn")
        return self.images[i]

    def size_of(self, i: int) -> int:
        return self.images[i].nbytes


def tiny_net(num_classes: int = 4) -> nn.Module:
    """Two convolutions, global average pooling over quarters of the map, one linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(32, num_classes),
    )


@pytest.fixture(autouse=True)
def tiny_module() -> Iterator[None]:
    """Make `tiny_nets:tiny_net` importable, the way a user's own module is."""
    module = types.ModuleType("tiny_nets")
    module.tiny_net = tiny_net  # type: ignore[attr-defined]
    module.no_linear = lambda: nn.Conv2d(3, 4, 1)  # type: ignore[attr-defined]
    module.not_a_net = lambda: 3  # type: ignore[attr-defined]
    sys.modules["tiny_nets"] = module
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: more threads only get into each other's way
    yield
    torch.set_num_threads(threads)
    del sys.modules["tiny_nets"]


@pytest.fixture
def blobs() -> type[Blobs]:
    return Blobs
