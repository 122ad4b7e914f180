"""Train a network on one set of images and test it on another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from dq_fast.data import SMALL_SIDE, Source
from dq_fast.embed.classifier import Classifier, load_classifier
from dq_fast.embed.fit import Recipe, accuracy, count_steps, default_batch_size, train_classifier
from dq_fast.embed.loading import TrainingImages
from dq_fast.embed.resnet import BUILTIN
from dq_fast.errors import InputError
from dq_fast.progress import Progress, silent

# Images that are looked at to learn how large a source's images are.
_PEEK = 16


@dataclass
class TrainResult:
    """What a training reached; every field is JSON-able.

    Attributes:
        last: test accuracy after the last epoch, 0..1: the figure to report.
        best: highest test accuracy after any epoch: what many papers report; it is chosen on the test set.
        best_epoch: the first epoch that reached `best`.
        history: per epoch: epoch, loss, accuracy (training images, augmented), test_accuracy, lr, seconds.
        seconds: wall time of training and testing.
        model, seed, recipe, steps: how it was trained.
        images, test_images: readable images.
        bad: {"id", "reason"} of every training and test image that could not be read.
        environment: torch version, device, threads.
    """

    last: float
    best: float
    best_epoch: int
    history: list[dict[str, Any]]
    seconds: float
    model: str
    seed: int
    recipe: dict[str, Any]
    steps: int
    images: int
    test_images: int
    bad: list[dict[str, str]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain dictionaries, lists, strings and numbers."""
        return asdict(self)


def train(
    train_source: Source,
    test_source: Source,
    *,
    model: str | Classifier = "resnet18_cifar",
    epochs: int = 200,
    batch_size: int | None = None,
    lr: float | None = None,
    recipe: Recipe | None = None,
    match_steps: int | None = None,
    seed: int = 0,
    device: str | None = None,
    input_size: tuple[int, int] | int | None = None,
    weights: str | None = None,
    pretrained: bool = False,
    max_bad: float = 0.01,
    workers: int | None = None,
    progress: Progress = silent,
) -> TrainResult:
    """Train a classifier and test it after every epoch.

    Args:
        train_source: a source, a store, or a subset of one.
        test_source: its classes must be among those of `train_source`; they are matched by name.
        model: a name for `load_classifier` (weights from `seed`), or a classifier, which is trained in place.
        epochs: passes over the images (the paper: 200).
        batch_size: images an update; None is `default_batch_size`.
        lr: peak of the learning rate; None is the recipe's.
        recipe: all of the recipe; `epochs`, `batch_size` and `lr` are then ignored.
        match_steps: number of images of the whole data set: a subset is trained with as many updates as the whole
            would be (and its batch size), so that small sets are not also trained less.
        seed: of initial weights, order and augmentation. The same seed gives the same result on the same machine and
            thread count.
        device: "cpu", "cuda", ...; None is the CPU, or where the given classifier is.
        input_size: (height, width) the network sees; None is the images' own for built-in networks where they are
            small and all of one size, and the model's otherwise.
        weights: local file to start from instead of random weights; see `load_classifier`.
        pretrained: start from weights that timm downloads.
        max_bad: share of unreadable images, of each source, that stops the run.
        workers: reading threads.
        progress: called with ("read", ...) and ("train", images done, images in all).

    Returns:
        Last and best test accuracy, and the history.
    """
    recipe = recipe or Recipe(epochs=epochs, batch_size=batch_size, lr=lr)
    recipe.check()
    test_labels = match_classes(train_source, test_source)
    if len(test_source) == 0:
        raise InputError("test source must have at least one image, got none")
    classifier = model if isinstance(model, Classifier) else None
    if classifier is None:
        assert isinstance(model, str)
        classifier = load_classifier(
            model,
            num_classes=len(train_source.class_names),
            weights=weights,
            pretrained=pretrained,
            input_size=common_size(train_source) if input_size is None and model in BUILTIN else input_size,
            seed=seed,
            device=device or "cpu",
        )
    steps = None
    if match_steps is not None:
        if match_steps < 1:
            raise InputError(f"match_steps must be a number of images, at least 1, got {match_steps}")
        size = recipe.batch_size or default_batch_size(match_steps)
        recipe = Recipe(**{**asdict(recipe), "batch_size": size})
        steps = count_steps(match_steps, recipe.epochs, size)
    test_images = TrainingImages(
        test_source,
        classifier,
        labels=test_labels,
        max_bad=max_bad,
        workers=workers,
        augmented=False,
        progress=progress,
    )
    fitted = train_classifier(
        classifier,
        train_source,
        recipe=recipe,
        steps=steps,
        seed=seed,
        device=device,
        max_bad=max_bad,
        workers=workers,
        after_epoch=lambda c: {"test_accuracy": accuracy(c, test_images)},
        progress=progress,
    )
    scores = [entry["test_accuracy"] for entry in fitted.history]
    best = max(scores)
    return TrainResult(
        last=scores[-1],
        best=best,
        best_epoch=scores.index(best) + 1,
        history=fitted.history,
        seconds=fitted.seconds,
        model=classifier.name,
        seed=seed,
        recipe=fitted.recipe,
        steps=fitted.steps,
        images=fitted.images,
        test_images=len(test_images),
        bad=[*fitted.bad, *test_images.bad],
        environment={
            "torch": torch.__version__,
            "device": str(classifier.device),
            "threads": torch.get_num_threads(),
        },
    )


def match_classes(train_source: Source, test_source: Source) -> np.ndarray:
    """Labels of the test images, int64 [n], in the training source's numbering; classes are matched by name."""
    number = {name: i for i, name in enumerate(train_source.class_names)}
    labels = np.asarray(test_source.labels, dtype=np.int64)
    used = np.unique(labels).tolist()
    unknown = [test_source.class_names[c] for c in used if test_source.class_names[c] not in number]
    if unknown:
        raise InputError(
            f"test classes must be among the training classes ({_some(train_source.class_names)}), "
            f"got {_some(unknown)} besides"
        )
    table = np.array([number.get(name, -1) for name in test_source.class_names], dtype=np.int64)
    return table[labels] if len(labels) else labels


def common_size(source: Source) -> tuple[int, int] | None:
    """(height, width) of a source's images where they are small and all of one size, judging by a few; else None."""
    n = len(source)
    positions = np.unique(np.linspace(0, max(0, n - 1), min(n, _PEEK)).astype(np.int64)).tolist()
    sizes = set()
    for i in positions:
        try:
            sizes.add(source.read(i).shape[:2])
        except InputError:  # unreadable: counted when it is really needed
            continue
    if len(sizes) != 1:
        return None
    height, width = sizes.pop()
    return (int(height), int(width)) if max(height, width) <= SMALL_SIDE else None


def _some(names: list[str]) -> str:
    more = ", …" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


__all__ = ["TrainResult", "common_size", "match_classes", "train"]
