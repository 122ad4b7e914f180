"""Training a classifier: the one loop that the feature extractor and the comparisons share."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dq_fast.data import Source
from dq_fast.embed.classifier import Classifier, check_device
from dq_fast.embed.loading import TrainingImages
from dq_fast.errors import InputError
from dq_fast.progress import Progress, silent


@dataclass(frozen=True)
class Recipe:
    """How to train: by default the usual CIFAR recipe, as in the paper.

    Attributes:
        epochs: passes over the images.
        batch_size: images an update; None is `default_batch_size`.
        lr: peak of the learning rate; None is 0.1 at batches of 128, and in proportion to the root of the batch size.
        momentum, nesterov, weight_decay: of SGD. Biases and norms decay too, as in the paper's code.
        warmup: share of all updates (at most one epoch of them) in which the rate rises linearly; then it falls to
            zero along a cosine.
        label_smoothing: of the cross-entropy.
        augment: shifts (small images) or random crops (large ones), and mirror images where the source allows them.
        pad: pixels of the shifts; None is an eighth of the smaller side, 4 at 32 pixels.
    """

    epochs: int = 10
    batch_size: int | None = None
    lr: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    warmup: float = 0.05
    label_smoothing: float = 0.0
    augment: bool = True
    pad: int | None = None

    def check(self) -> None:
        """Raise an InputError that names the first field with an impossible value."""
        for name, low, high in (
            ("epochs", 1, math.inf),
            ("batch_size", 1, math.inf),
            ("lr", 0, math.inf),
            ("momentum", 0, 1),
            ("weight_decay", 0, math.inf),
            ("warmup", 0, 1),
            ("label_smoothing", 0, 1),
            ("pad", 0, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} must lie in {low}..{high}, got {value}")

    def for_images(self, n: int, input_size: tuple[int, int]) -> Recipe:
        """The recipe with every None filled in for n images of a size."""
        batch = self.batch_size if self.batch_size is not None else default_batch_size(n)
        lr = self.lr if self.lr is not None else 0.1 * math.sqrt(batch / 128)
        pad = self.pad if self.pad is not None else max(1, round(min(input_size) / 8))
        return replace(self, batch_size=batch, lr=lr, pad=pad)


@dataclass
class FitResult:
    """What a training did.

    Attributes:
        history: one entry an epoch: epoch (from 1), loss and accuracy on the augmented training images while training,
            lr, seconds, and what `after_epoch` returned.
        steps: updates.
        images: readable training images.
        seconds: wall time of the epochs.
        recipe: the recipe with every value filled in.
        bad: {"id", "reason"} of every image that could not be read.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)
    bad: list[dict[str, str]] = field(default_factory=list)


def default_batch_size(n: int) -> int:
    """Images an update: 128 for large sets as in the paper, 64 and 32 for smaller ones, 16 below 1,000 images."""
    return 128 if n >= 20_000 else 64 if n >= 5_000 else 32 if n >= 1_000 else 16


def count_steps(n: int, epochs: int, batch_size: int | None = None) -> int:
    """Updates that `train_classifier` makes on n images."""
    return epochs * math.ceil(n / (default_batch_size(n) if batch_size is None else batch_size))


def train_classifier(
    classifier: Classifier,
    source: Source,
    *,
    epochs: int = 10,
    batch_size: int | None = None,
    lr: float | None = None,
    recipe: Recipe | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str | None = None,
    max_bad: float = 0.01,
    workers: int | None = None,
    labels: np.ndarray | None = None,
    after_epoch: Callable[[Classifier], dict[str, Any]] | None = None,
    progress: Progress = silent,
) -> FitResult:
    """Train a classifier in place; its state becomes "ready".

    The same seed gives the same bits on the same machine with the same number of threads, whatever the state of the
    global random generators, which are left as they were.

    Args:
        classifier: starts from its present weights.
        source: images and labels.
        epochs: passes over the images; this and the next two are ignored if `recipe` is given.
        batch_size: images an update; None is `default_batch_size`.
        lr: peak of the learning rate; None is the recipe's.
        recipe: all fields.
        steps: number of updates, instead of `epochs` (the last epoch may then be cut short).
        seed: of order, augmentation and dropout.
        device: moves the classifier there; None leaves it where it is.
        max_bad: share of unreadable images that stops the run.
        workers: reading threads.
        labels: int64 [n] to use instead of the source's.
        after_epoch: called with the classifier in eval mode after every epoch; what it returns joins the history.
        progress: called with ("train", images done, images in all).

    Raises:
        InputError: impossible settings, labels that the classifier has no output for, a loss that is not finite.
    """
    recipe = recipe or Recipe(epochs=epochs, batch_size=batch_size, lr=lr)
    recipe.check()
    if steps is not None and steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}")
    if device is not None:
        classifier.module.to(check_device(device))
    images = TrainingImages(
        source, classifier, labels=labels, max_bad=max_bad, workers=workers, augmented=recipe.augment, progress=progress
    )
    n = len(images)
    if n == 0:
        raise InputError(f"{_name(source)} must have at least one readable image to train on, got none")
    if images.labels.min() < 0 or images.labels.max() >= classifier.num_classes:
        raise InputError(
            f"labels must lie in 0..{classifier.num_classes - 1}, the classifier's classes, "
            f"got {images.labels.min()}..{images.labels.max()}"
        )
    recipe = recipe.for_images(n, classifier.input_size)
    assert recipe.batch_size is not None
    per_epoch = math.ceil(n / recipe.batch_size)
    total = recipe.epochs * per_epoch if steps is None else steps
    result = FitResult(images=n, recipe=asdict(recipe))
    with _own_randomness(seed, classifier.device):
        _run(classifier, images, recipe, result, total, per_epoch, seed, after_epoch, progress)
    result.bad = images.bad
    classifier.module.eval()
    classifier.state = "ready"
    return result


def _run(
    classifier: Classifier,
    images: TrainingImages,
    recipe: Recipe,
    result: FitResult,
    total: int,
    per_epoch: int,
    seed: int,
    after_epoch: Callable[[Classifier], dict[str, Any]] | None,
    progress: Progress,
) -> None:
    module, where = classifier.module, classifier.device
    assert recipe.lr is not None
    assert recipe.pad is not None
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        foreach=True,  # a model of many small tensors: one call for all
    )
    warmup = min(per_epoch, round(recipe.warmup * total))
    all_images = round(total / per_epoch * len(images))
    seen, epoch, started = 0, 0, time.perf_counter()
    progress("train", 0, all_images)
    while result.steps < total:
        epoch += 1
        epoch_started = time.perf_counter()
        module.train()
        # Sums stay on the device: reading a number back at every step would stall a GPU.
        loss_sum, right = torch.zeros((), device=where), torch.zeros((), dtype=torch.int64, device=where)
        epoch_seen, lr = 0, 0.0
        pad = recipe.pad if recipe.augment else -1
        for batch, targets in images.shuffled(per_epoch, pad=pad, seed=(seed, epoch)):
            lr = recipe.lr * schedule(result.steps, total, warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr
            targets = targets.to(where)
            logits = module(classifier.normalize(batch))
            loss = F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(batch)
            right += (logits.detach().argmax(1) == targets).sum()
            epoch_seen += len(batch)
            result.steps += 1
            progress("train", min(seen + epoch_seen, all_images), all_images)
            if result.steps == total:
                break
        if epoch_seen == 0:
            raise InputError(f"{_name(images.source)} has no readable image any more")
        seen += epoch_seen
        entry: dict[str, Any] = {
            "epoch": epoch,
            "loss": float(loss_sum) / epoch_seen,
            "accuracy": int(right) / epoch_seen,
            "lr": lr,
        }
        if not math.isfinite(entry["loss"]):
            raise InputError(f"training diverged in epoch {epoch} (loss {entry['loss']}): lower lr, now {recipe.lr:g}")
        if after_epoch is not None:
            module.eval()
            entry.update(after_epoch(classifier))
        entry["seconds"] = time.perf_counter() - epoch_started
        result.history.append(entry)
    result.seconds = time.perf_counter() - started


def _name(source: Source) -> str:
    return f"source {getattr(source, 'spec', type(source).__name__)}"


def schedule(step: int, total: int, warmup: int) -> float:
    """Factor of the learning rate at an update (from 0): linear rise over `warmup` updates, then half a cosine."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@contextlib.contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for dropout and the like, forbid kernels that add in random order, and restore both afterwards."""
    cuda = device.type == "cuda"
    devices = [device.index if device.index is not None else torch.cuda.current_device()] if cuda else []
    cudnn = torch.backends.cudnn
    flags = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32)
    with torch.random.fork_rng(devices=devices), flags:
        torch.manual_seed(seed)
        yield


@torch.inference_mode()
def accuracy(classifier: Classifier, images: TrainingImages, *, batch_size: int = 256) -> float:
    """Share of images whose largest logit is their label's."""
    module: nn.Module = classifier.module.eval()
    right = torch.zeros((), dtype=torch.int64, device=classifier.device)
    n = 0
    for batch, targets in images.batches(classifier.forward_size(batch_size)):
        right += (module(classifier.normalize(batch)).argmax(1) == targets.to(classifier.device)).sum()
        n += len(batch)
    return int(right) / n if n else math.nan
