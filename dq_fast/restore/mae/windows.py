"""What an MAE is trained on: windows of images with kept patterns, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.data import Source, read_batches
from dq_fast.errors import BadImageError, InputError
from dq_fast.restore.mae.model import MAEConfig
from dq_fast.restore.mae.patterns import ScoredImages, draw_kept
from dq_fast.restore.mae.recipe import MAERecipe

_ORDER, _PATTERN, _WINDOW, VALIDATION = range(4)  # streams of random numbers, each by its own seed


class Windows:
    """Windows of images and kept patterns, batch by batch; what comes at a step depends on seed and step alone."""

    def __init__(
        self, source: Source, scored: ScoredImages, rows: NDArray[np.int64], config: MAEConfig, recipe: MAERecipe
    ) -> None:
        self.source, self.scored, self.rows = source, scored, rows
        self.config, self.recipe = config, recipe
        self.per_epoch = max(1, len(rows) // recipe.batch_size)
        self.places = config.grid[0] * config.grid[1]

    def batches(self, first: int, last: int, workers: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """(uint8 images [b, rows·p, cols·p, 3], kept int64 [b, k]) of the steps first..last - 1."""
        step = first
        while step < last:
            epoch, at = divmod(step, self.per_epoch)
            order = np.random.default_rng([self.recipe.seed, _ORDER, epoch]).permutation(self.rows)
            ends = min(self.per_epoch, at + last - step)
            size = self.recipe.batch_size
            for images, scores in self._read(order[at * size : ends * size], size, epoch, workers):
                rng = np.random.default_rng([self.recipe.seed, _PATTERN, step])
                drop = float(rng.uniform(*self.recipe.drops))
                yield images, draw_kept(scores, self.places, drop, self.recipe.real_share, rng)
                step += 1

    def validation(self, drop: float) -> tuple[Tensor, Tensor]:
        """All images of `rows` with their scored patterns at a drop ratio."""
        images, scores = next(self._read(self.rows, len(self.rows), -1, 0))
        rng = np.random.default_rng([self.recipe.seed, VALIDATION])
        return images, draw_kept(scores, self.places, drop, 1.0, rng)

    def _read(
        self, rows: NDArray[np.int64], size: int, epoch: int, workers: int | None
    ) -> Iterator[tuple[Tensor, list[NDArray[np.float32]]]]:
        def unreadable(error: BadImageError) -> None:
            raise InputError(f"{error}; it could be read before: did {self.source.spec} change?")

        row_of = {int(self.scored.index[row]): int(row) for row in rows}
        read = read_batches(
            self.source,
            self.scored.index[rows],
            batch_size=size,
            transform=lambda image: image,
            workers=workers,
            on_bad=unreadable,
        )
        for positions, images in read:
            cut = [self._window(row_of[int(p)], epoch, image) for p, image in zip(positions, images, strict=True)]
            yield torch.from_numpy(np.stack([image for image, _ in cut])), [scores for _, scores in cut]

    def _window(self, row: int, epoch: int, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """A random window of the model's grid, mirrored half of the time; validation: the middle one."""
        (rows, cols), patch = self.config.grid, self.config.patch
        whole = self.scored.grids[row]
        height, width = int(whole[0]) * patch, int(whole[1]) * patch
        if image.shape[:2] != (height, width):  # the last patches reach over the edge: repeat it, as stores do
            over = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
            image = np.pad(image, over, mode="edge")
        top, left, mirrored = (int(whole[0]) - rows) // 2, (int(whole[1]) - cols) // 2, False
        if epoch >= 0:
            rng = np.random.default_rng([self.recipe.seed, _WINDOW, epoch, row])
            top, left = int(rng.integers(whole[0] - rows + 1)), int(rng.integers(whole[1] - cols + 1))
            mirrored = self.recipe.hflip and self.source.hflip and bool(rng.random() < 0.5)
        image = image[top * patch : (top + rows) * patch, left * patch : (left + cols) * patch]
        scores = np.zeros(0, np.float32)
        if self.scored.scores.size:
            scores = self.scored.window(row, top, left, (rows, cols))
            scores = scores[:, ::-1] if mirrored else scores
        return (image[:, ::-1] if mirrored else image), scores
