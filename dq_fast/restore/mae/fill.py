"""Dropped patches predicted by an MAE, as a `Fill`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.embed.classifier import check_device
from dq_fast.restore.fill import Fill, Mask, Pixels
from dq_fast.restore.mae.checkpoints import load_mae
from dq_fast.restore.mae.model import MAE, dropped_places, unnormalize_patches
from dq_fast.restore.mae.patchify import gather_patches, smooth_fill, to_images, to_patches

BATCH = 64  # windows a forward pass; more are no faster on a CPU


@dataclass
class _Window:
    """Part of an image of at most the model's grid.

    Attributes:
        image: number of the image in the batch.
        top, left: its first patch.
        grid: (rows, cols), patches.
        kept: places in it of the patches without a dropped pixel.
    """

    image: int
    top: int
    left: int
    grid: tuple[int, int]
    kept: NDArray[np.int64]


class MAEFill(Fill):
    """Dropped pixels as an MAE predicts them from the patches that are whole.

    Images are cut into the model's patches, whatever the patches of the store were; a patch with any dropped pixel
    counts as missing, and only its dropped pixels are replaced. Images larger than the model's grid are restored
    window by window (windows overlap where the grid does not divide the image, and their predictions are averaged);
    smaller ones by the upper left part of the positions. A window without any whole patch gets the smooth fill of the
    image around it.

    Args:
        checkpoint: for `load_mae`, or a model.
        device: "cpu", "cuda", …
        batch_size: windows a forward pass.
    """

    def __init__(
        self, checkpoint: str | os.PathLike[str] | MAE, *, device: str = "cpu", batch_size: int = BATCH
    ) -> None:
        self.model = (checkpoint if isinstance(checkpoint, MAE) else load_mae(checkpoint)).eval()
        self.device = check_device(device)
        self.model.to(self.device)
        self.batch_size = batch_size

    def __call__(self, image: Pixels, dropped: Mask) -> Pixels:  # noqa: D102
        return self.batch([image], [dropped])[0]

    @torch.inference_mode()
    def batch(self, images: Sequence[Pixels], dropped: Sequence[Mask]) -> list[Pixels]:  # noqa: D102
        padded = [_padded(image, mask, self.model.config.patch) for image, mask in zip(images, dropped, strict=True)]
        bases = self._smooth([image for image, _ in padded], [mask for _, mask in padded])
        sums = [np.zeros(image.shape, np.float32) for image, _ in padded]
        counts = [np.zeros(mask.shape, np.float32) for _, mask in padded]
        groups: dict[tuple[tuple[int, int], int], list[_Window]] = {}
        for i, (_, mask) in enumerate(padded):
            for window in self._windows(i, mask):
                groups.setdefault((window.grid, len(window.kept)), []).append(window)
        for windows in groups.values():
            for begin in range(0, len(windows), self.batch_size):
                self._predict(windows[begin : begin + self.batch_size], padded, bases, sums, counts)
        return [
            _pasted(image, mask, total, count, base)
            for image, mask, total, count, base in zip(images, dropped, sums, counts, bases, strict=True)
        ]

    def _smooth(self, images: list[Pixels], dropped: list[Mask]) -> list[NDArray[np.float32]]:
        """Smooth fills, float32 [h, w, 3]; images of one size together."""
        found: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(images)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(i)
        for members in sizes.values():
            x = torch.from_numpy(np.stack([images[i] for i in members])).to(self.device).float()
            kept = torch.from_numpy(np.stack([~dropped[i] for i in members])).to(self.device)
            for i, filled in zip(members, smooth_fill(x, kept).cpu().numpy(), strict=True):
                found[i] = filled
        return found

    def _windows(self, image: int, dropped: Mask) -> list[_Window]:
        """The windows of an image that have something to predict, and something to predict it from."""
        patch = self.model.config.patch
        rows, cols = dropped.shape[0] // patch, dropped.shape[1] // patch
        missing: Mask = np.asarray(dropped.reshape(rows, patch, cols, patch).any(axis=(1, 3)))
        grid = min(rows, self.model.config.grid[0]), min(cols, self.model.config.grid[1])
        found = []
        for top in window_starts(rows, grid[0]):
            for left in window_starts(cols, grid[1]):
                part = missing[top : top + grid[0], left : left + grid[1]]
                if part.any() and not part.all():
                    found.append(_Window(image, top, left, grid, np.flatnonzero(~part)))
        return found

    def _predict(
        self,
        windows: list[_Window],
        padded: list[tuple[Pixels, Mask]],
        bases: list[NDArray[np.float32]],
        sums: list[NDArray[np.float32]],
        counts: list[NDArray[np.float32]],
    ) -> None:
        """Add the predictions of equally large windows, with equally many kept patches, to `sums` and `counts`."""
        model, patch = self.model, self.model.config.patch
        grid = windows[0].grid
        areas = [
            np.s_[w.top * patch : (w.top + grid[0]) * patch, w.left * patch : (w.left + grid[1]) * patch]
            for w in windows
        ]

        def patches_of(pictures: list[NDArray[np.float32]] | list[Pixels]) -> Tensor:
            stack = np.stack([pictures[w.image][area] for w, area in zip(windows, areas, strict=True)])
            return model.normalize(to_patches(torch.from_numpy(stack).to(self.device), patch))

        kept = torch.from_numpy(np.stack([w.kept for w in windows])).to(self.device)
        missing = dropped_places(kept, grid[0] * grid[1])
        visible = gather_patches(patches_of([image for image, _ in padded]), kept)
        base = None
        if model.config.base != "none" or model.config.norm_pix:
            base = gather_patches(patches_of(bases), missing)
        predicted = model(visible, kept, grid, base if model.config.base != "none" else None)
        if base is not None and model.config.norm_pix:
            # A dropped patch's own mean and variance are gone: the smooth fill's mean, the kept patches' variance.
            variance = visible.var(-1).mean(1)[:, None, None]
            predicted = unnormalize_patches(predicted, base.mean(-1, keepdim=True), variance)
        pixels = model.denormalize(predicted).clamp_(0, 255)
        whole = pixels.new_zeros(len(windows), grid[0] * grid[1], pixels.shape[2])
        whole.scatter_(1, missing[..., None].expand_as(pixels), pixels)
        pictures = to_images(whole, grid, patch).cpu().numpy()
        filled = pixels.new_zeros(len(windows), grid[0] * grid[1]).scatter_(1, missing, 1.0)
        shares = filled.view(-1, *grid).repeat_interleave(patch, 1).repeat_interleave(patch, 2).cpu().numpy()
        for window, area, picture, share in zip(windows, areas, pictures, shares, strict=True):
            sums[window.image][area] += picture
            counts[window.image][area] += share


def window_starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover 0..length - 1, evenly spread, as few as cover it."""
    count = math.ceil(length / window)
    if count == 1:
        return [0]
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _padded(image: Pixels, dropped: Mask, patch: int) -> tuple[Pixels, Mask]:
    """Image and mask with whole patches: the last row and column repeated, as stores do."""
    over = (0, -image.shape[0] % patch), (0, -image.shape[1] % patch)
    if over == ((0, 0), (0, 0)):
        return image, dropped
    return np.pad(image, (*over, (0, 0)), mode="edge"), np.pad(dropped, over, mode="edge")


def _pasted(
    image: Pixels, dropped: Mask, total: NDArray[np.float32], count: NDArray[np.float32], base: NDArray[np.float32]
) -> Pixels:
    """The image with its dropped pixels from the predictions, or from the base where there are none."""
    height, width = dropped.shape
    total, count, base = total[:height, :width], count[:height, :width], base[:height, :width]
    found = np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], base)
    filled = np.rint(np.clip(found, 0, 255)).astype(np.uint8)
    return np.where(dropped[..., None], filled, image)
