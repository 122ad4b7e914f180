"""Features and logits of a whole source, in one pass."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dq_fast.data import BadImages, Source, read_batches
from dq_fast.embed.classifier import Classifier, check_device
from dq_fast.embed.gradient import gradient_embedding
from dq_fast.embed.precision import DTYPES, check_precision, computing
from dq_fast.errors import InputError
from dq_fast.files import atomic_write, read_json, write_json
from dq_fast.progress import Progress, silent

_FORMAT = 1
_ARRAYS = ("index", "labels", "features", "logits")


@dataclass
class Embedding:
    """What selection is computed from, one row a readable image, in source order.

    Attributes:
        ids: stable ids, n of them.
        index: int64 [n], positions in the source.
        labels: int64 [n].
        features: float32 [n, D], input of the classifier's last layer.
        logits: float32 [n, C].
        bad: {"id", "reason"} of every image that could not be read.
    """

    ids: list[str]
    index: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    bad: list[dict[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def factors(self, loss: str = "ce") -> tuple[Tensor, Tensor]:
        """The gradient embedding's factors b [n, C] and h [n, D + 1]; see `gradient_embedding`."""
        return gradient_embedding(
            torch.from_numpy(self.logits), torch.from_numpy(self.features), torch.from_numpy(self.labels), loss=loss
        )

    def with_head(self, head: torch.nn.Linear) -> Embedding:
        """The same features with the logits that `head` gives them."""
        weight, bias = head.weight.detach().cpu(), None if head.bias is None else head.bias.detach().cpu()
        logits = torch.nn.functional.linear(torch.from_numpy(self.features), weight, bias).numpy()
        return Embedding(self.ids, self.index, self.labels, self.features, logits, self.bad)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `features.npy`, `logits.npy`, `index.npy`, `labels.npy` and, last, `embedding.json` (ids, bad images).

        A killed process leaves a folder without `embedding.json`, which `load` refuses.
        """
        folder = Path(folder)
        with contextlib.suppress(FileNotFoundError):
            (folder / "embedding.json").unlink()
        for name in _ARRAYS:
            with atomic_write(folder / f"{name}.npy") as file:
                np.save(file, getattr(self, name), allow_pickle=False)
        shapes = {name: list(getattr(self, name).shape) for name in _ARRAYS}
        write_json(folder / "embedding.json", {"format": _FORMAT, "ids": self.ids, "bad": self.bad, "shapes": shapes})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Embedding:
        """Read what `save` wrote; features and logits are mapped from the disk, so that nothing is read before use."""
        folder = Path(folder)
        about: dict[str, Any] = read_json(folder / "embedding.json")
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            raise InputError(f"{folder / 'embedding.json'} must have format {_FORMAT}; embed again with this version")
        arrays = {}
        for name in _ARRAYS:
            path = folder / f"{name}.npy"
            try:
                # "c": changes stay in memory, and torch takes the array without a copy
                mode = "c" if name in ("features", "logits") and 0 not in about["shapes"][name] else None
                arrays[name] = np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[arg-type]
            except FileNotFoundError:
                raise InputError(f"there is no file {path}") from None
            except (ValueError, OSError) as error:
                raise InputError(f"{path} must be a whole npy file: {error}") from None
            if list(arrays[name].shape) != about["shapes"][name]:
                raise InputError(f"{path} must have shape {about['shapes'][name]}, got {list(arrays[name].shape)}")
        return cls(ids=about["ids"], bad=about["bad"], **arrays)


def check_embed_precision(name: str, precision: str, device: str | torch.device | None = None) -> None:
    """Refuse a precision that images are not embedded in; what depends on the processor is left to patch scores."""
    if precision not in DTYPES:
        raise InputError(f"{name} must be one of {', '.join(map(repr, DTYPES))}, got {precision!r}")
    check_precision(name, precision, device)


def embed(
    source: Source,
    classifier: Classifier,
    *,
    batch_size: int = 128,
    device: str | None = None,
    max_bad: float = 0.01,
    workers: int | None = None,
    precision: str = "float32",
    progress: Progress = silent,
) -> Embedding:
    """Run every image of a source through a classifier once.

    Args:
        source: where the images are.
        classifier: put into eval mode.
        batch_size: images a forward pass; on a CPU fewer where they are large (`Classifier.forward_size`), which is
            faster. Does not change the result beyond rounding.
        device: moves the classifier there; None leaves it where it is.
        max_bad: share of images that may be unreadable before the run stops.
        workers: reading threads; None lets the reader decide.
        precision: of the forward pass, "float32", "bfloat16" or (CUDA) "float16". There is no "auto": bins are rankings
            by differences of these rows, a pick changes those after it, and bfloat16's three digits change many.
        progress: called with ("embed", images done, images).

    Returns:
        The embedding, in source order, without the unreadable images (which it lists).

    Raises:
        InputError: too many unreadable images, or a model without a last linear layer.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if device is not None:
        classifier.module.to(check_device(device))
    check_embed_precision("precision", precision, classifier.device)
    classifier.module.eval()
    n = len(source)
    bad = BadImages(n, max_bad)
    index = np.empty(n, dtype=np.int64)
    features = logits = np.empty((0, 0), dtype=np.float32)
    done = 0
    batches = read_batches(
        source,
        np.arange(n, dtype=np.int64),
        batch_size=classifier.forward_size(batch_size),
        transform=classifier.resize,
        workers=workers,
        on_bad=bad,
    )
    progress("embed", 0, n)
    with torch.inference_mode(), computing(classifier.device, precision):
        for positions, images in batches:
            if len(positions) == 0:
                continue
            f, z = classifier.features_and_logits(classifier.normalize(torch.from_numpy(np.stack(images))))
            if done == 0:
                features = np.empty((n, f.shape[1]), dtype=np.float32)
                logits = np.empty((n, z.shape[1]), dtype=np.float32)
            rows = slice(done, done + len(positions))
            index[rows], features[rows], logits[rows] = positions, f.float().cpu().numpy(), z.float().cpu().numpy()
            done = rows.stop
            progress("embed", done + len(bad), n)
    if done == 0:
        features = np.empty((0, classifier.head.in_features), dtype=np.float32)
        logits = np.empty((0, classifier.num_classes), dtype=np.float32)
    index = index[:done]
    return Embedding(
        ids=[source.ids[i] for i in index.tolist()],
        index=index,
        labels=np.asarray(source.labels, dtype=np.int64)[index],
        features=features[:done],
        logits=logits[:done],
        bad=bad.records(),
    )
