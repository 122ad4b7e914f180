"""Which patches stay: scores of a source's images, and kept patterns for training drawn from them or at random."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dq_fast.data import BadImages, Source, read_batches
from dq_fast.embed import Classifier
from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.patches import PixelQuantizer, keep_top, kept_count, patch_grid
from dq_fast.progress import Progress, silent

SCORES_FILE = "scores.npz"

Grid = tuple[int, int]


@dataclass
class ScoredImages:
    """Readable images of a source with a score for every patch.

    Attributes:
        index: int64 [n], positions in the source.
        grids: int64 [n, 2], (rows, cols) of each image.
        offsets: int64 [n + 1]; image i's scores are ``scores[offsets[i]:offsets[i + 1]]``, row by row.
        scores: float32; empty where no classifier scored.
        bad: {"id", "reason"} of the unreadable ones.
    """

    index: NDArray[np.int64]
    grids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    scores: NDArray[np.float32]
    bad: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.index)

    def window(self, i: int, top: int, left: int, grid: Grid) -> NDArray[np.float32]:
        """Scores [rows, cols] of a window of image i, in patches."""
        whole = self.scores[self.offsets[i] : self.offsets[i + 1]].reshape(self.grids[i])
        return whole[top : top + grid[0], left : left + grid[1]]


def score_images(
    source: Source,
    classifier: Classifier | None,
    patch: int,
    *,
    variant: str = "paper",
    batch_size: int = 128,
    max_bad: float = 0.01,
    workers: int | None = None,
    progress: Progress = silent,
) -> ScoredImages:
    """Read every image once, and score its patches by GradCAM++ for its label (none without a classifier).

    Args:
        source: the images.
        classifier: whose last map is read, as when a store is packed; None only learns the images' sizes.
        patch: side of a patch, px.
        variant: of GradCAM++, see `PixelQuantizer`.
        batch_size: images a forward pass.
        max_bad: share of unreadable images that stops the run.
        workers: reading threads.
        progress: called with ("patch scores", images done, images in all).
    """
    bad = BadImages(len(source), max_bad)
    labels = np.asarray(source.labels, np.int64)
    resize: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    resize = (lambda image: image[:0]) if classifier is None else classifier.resize
    quantizer = None if classifier is None else PixelQuantizer(classifier.module, variant=variant)
    size = batch_size if classifier is None else classifier.forward_size(batch_size)
    index, grids, scores = [], [], []
    done = 0
    for positions, images in read_batches(
        source,
        np.arange(len(source)),
        batch_size=size,
        transform=lambda image: (patch_grid(image.shape[0], image.shape[1], patch), resize(image)),
        workers=workers,
        on_bad=bad,
    ):
        found = [grid for grid, _ in images]
        if quantizer is not None and classifier is not None:
            x = classifier.normalize(torch.from_numpy(np.stack([small for _, small in images])))
            of_batch = quantizer.scores(x, torch.from_numpy(labels[positions]), found)
            scores += [part.cpu().numpy() for part in of_batch]
        index.append(positions)
        grids += found
        done += len(positions)
        progress("patch scores", done + len(bad), len(source))
    if not index:
        raise InputError(f"source {source.spec} must have at least one readable image, got none")
    shapes = np.array(grids, np.int64)
    counts = shapes.prod(axis=1) if quantizer is not None else np.zeros(len(shapes), np.int64)
    return ScoredImages(
        np.concatenate(index),
        shapes,
        np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        np.concatenate(scores).astype(np.float32) if scores else np.zeros(0, np.float32),
        bad.records(),
    )


def digest_of(classifier: Classifier) -> str:
    """SHA-256, hex, of a classifier's weights and of how images enter it."""
    digest = hashlib.sha256(json.dumps(classifier.config(), sort_keys=True).encode())
    for name, value in classifier.module.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_scores(folder: Path, key: dict[str, Any], scored: ScoredImages) -> None:
    """Keep scores for a training that is continued; `key` tells what they were computed from."""
    arrays = {name: getattr(scored, name) for name in ("index", "grids", "offsets", "scores")}
    text = json.dumps({"key": key, "bad": scored.bad}, sort_keys=True)
    content = io.BytesIO()
    np.savez(content, text=np.frombuffer(text.encode(), np.uint8), **arrays)
    with atomic_write(folder / SCORES_FILE) as file:
        file.write(content.getvalue())


def load_scores(folder: Path, key: dict[str, Any]) -> ScoredImages | None:
    """What `save_scores` kept under this key, or None."""
    path = folder / SCORES_FILE
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            told = json.loads(file["text"].tobytes())
            if told["key"] != json.loads(json.dumps(key)):
                return None
            return ScoredImages(file["index"], file["grids"], file["offsets"], file["scores"], told["bad"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # broken: computed again


def draw_kept(
    scores: Sequence[NDArray[np.float32]], places: int, drop: float, real_share: float, rng: np.random.Generator
) -> torch.Tensor:
    """Kept places int64 [b, k], ascending: of each image the best scored, or as many at random.

    Args:
        scores: [P] of each image, row by row; empty ones where there are none.
        places: P.
        drop: θ; k is `kept_count`.
        real_share: chance of the scored pattern where there are scores.
        rng: decides.
    """
    noise = rng.random((len(scores), places), dtype=np.float32)
    real = rng.random(len(scores)) < real_share
    for row, (of_image, chosen) in enumerate(zip(scores, real.tolist(), strict=True)):
        if chosen and of_image.size:
            noise[row] = of_image.reshape(-1)
    return keep_top(torch.from_numpy(noise), kept_count(places, drop))
