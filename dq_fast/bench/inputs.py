"""Inputs of the cases: gradient embeddings of real CIFAR-10 images where they are given, else a mixture made up."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dq_fast.bench.case import Setting
from dq_fast.errors import InputError

CLASSES, CLASS_ROWS, QUICK_CLASS_ROWS = 10, 5000, 100
WIDE = 512  # features of the ResNet-18 that the published code uses
CLUSTERS = 8  # a class of the made-up mixture

_MODEL = "resnet20_cifar"
_BATCHES = "cifar-10-batches-py"
_WEIGHTS = "resnet20*.th"


@dataclass(frozen=True)
class Embedded:
    """A gradient embedding, rows sorted by class.

    Attributes:
        b: float32 [n, C].
        h: float32 [n, D + 1].
        offsets: int64 [C + 1].
        source: where it comes from, in words.
    """

    b: Tensor
    h: Tensor
    offsets: Tensor
    source: str

    def of_class(self, c: int) -> tuple[Tensor, Tensor]:
        """The factors of one class."""
        rows = slice(int(self.offsets[c]), int(self.offsets[c + 1]))
        return self.b[rows].contiguous(), self.h[rows].contiguous()


def default_cache() -> Path:
    """Where embeddings are kept: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dq_fast" / "bench"


def cifar10(setting: Setting, wide: bool = False) -> Embedded:
    """CIFAR-10's training images through ResNet-20: factors 10 and 65 wide, or, `wide`, 10 and 513.

    A ResNet-18's 512 features need weights that nobody can be asked to have. So the wide factor is a fixed random layer
    on ResNet-20's 64 features, relu(f W) with normal W [64, 512]: real images, real clusters, the published width.
    """
    rows = QUICK_CLASS_ROWS if setting.quick else CLASS_ROWS
    if not setting.data:
        parts = [mixture(rows, WIDE if wide else 64, seed=c, label=c) for c in range(CLASSES)]
        b, h = (torch.cat(x) for x in zip(*parts))  # noqa: B905
        return Embedded(b, h, torch.arange(CLASSES + 1) * rows, "synthetic mixture")
    from dq_fast.embed import gradient_embedding

    features, logits, labels = _features(setting, rows)
    source = "CIFAR-10, ResNet-20"
    if wide:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(features.shape[1], WIDE, generator=generator) / features.shape[1] ** 0.5
        features = torch.relu(features @ weight)
        source += f", random ReLU layer to {WIDE}"
    b, h = gradient_embedding(logits, features, labels)
    order = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels, minlength=CLASSES)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return Embedded(b[order].contiguous(), h[order].contiguous(), offsets, source)


def _features(setting: Setting, class_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, logits, labels of the first rows of every class; embedded once, then read from the cache."""
    from dq_fast.data import Subset, open_source
    from dq_fast.embed import Embedding, embed, load_classifier
    from dq_fast.files import sha256_file

    batches, weights = _find(setting.data, _BATCHES), _find(setting.data, _WEIGHTS)
    source = open_source(f"cifar:{batches}", split="train")
    labels = np.asarray(source.labels)
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:class_rows] for c in range(CLASSES)]))
    part = Subset(source, chosen)
    key = hashlib.sha256(f"{source.fingerprint()} {sha256_file(weights)} {len(chosen)}".encode()).hexdigest()
    folder = setting.cache / f"cifar10-resnet20-{len(chosen)}-{key[:16]}"
    if not (folder / "embedding.json").exists():
        classifier = load_classifier(_MODEL, num_classes=CLASSES, weights=weights)
        embed(part, classifier, progress=setting.progress).save(folder)
    found = Embedding.load(folder)
    return tuple(torch.from_numpy(np.array(x)) for x in (found.features, found.logits, found.labels))  # type: ignore[return-value]


def _find(folders: tuple[Path, ...], pattern: str) -> Path:
    for folder in folders:
        for depth in ("", "*/"):
            found = sorted(folder.glob(depth + pattern))
            if found:
                return found[0]
        if folder.match(pattern):
            return folder
    raise InputError(
        f"--data must hold {pattern}, but none is in {', '.join(map(str, folders))}; "
        "leave --data out to measure on synthetic inputs"
    )


def mixture(n: int, width: int, *, seed: int, label: int = 0, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Factors of one made-up class: features in a few clusters after a ReLU, logits of a confident classifier.

    Returns b [n, classes] and h [n, width + 1], float32; b's direction is that of the cross-entropy gradient.
    """
    g = torch.Generator().manual_seed(seed)
    centre = torch.relu(torch.randn(CLUSTERS, width, generator=g)) + 0.2
    member = torch.randint(CLUSTERS, (n,), generator=g)
    h = torch.relu(centre[member] + 0.4 * torch.randn(n, width, generator=g))
    z = 2 * torch.randn(n, classes, generator=g)
    z[:, label] = -torch.inf  # the label's own logit does not matter for the direction
    b = torch.softmax(z, 1)
    b[:, label] = -1
    return b, torch.cat([torch.ones(n, 1), h], 1)


def isotropic(n: int, d: int, seed: int = 0) -> Tensor:
    """Normal rows float32 [n, d]: all nearly orthogonal, no bound excludes any of them."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def outer(b: Tensor, h: Tensor) -> Tensor:
    """The embedding itself: rows b (x) h, flattened, [n, d1 * d2]."""
    return (b[:, :, None] * h[:, None, :]).flatten(1).contiguous()
