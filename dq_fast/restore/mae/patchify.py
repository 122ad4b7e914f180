"""Images to patches and back, and smooth fills, for batches."""

from __future__ import annotations

import torch
from torch import Tensor

_RELAXATIONS = 16  # a scale


def to_patches(images: Tensor, patch: int) -> Tensor:
    """[b, rows·p, cols·p, c] to [b, rows·cols, p·p·c]: patches row by row, pixels row by row, channels last."""
    b, height, width, channels = images.shape
    x = images.reshape(b, height // patch, patch, width // patch, patch, channels)
    return x.transpose(2, 3).reshape(b, -1, patch * patch * channels)


def to_images(patches: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """The inverse of `to_patches`."""
    b, _, numbers = patches.shape
    x = patches.reshape(b, grid[0], grid[1], patch, patch, numbers // patch**2)
    return x.transpose(2, 3).reshape(b, grid[0] * patch, grid[1] * patch, -1)


def smooth_fill(images: Tensor, kept: Tensor) -> Tensor:
    """Fill what is missing with a smooth surface through the kept pixels.

    Every scale, half as large as the one before, is the mean of its kept pixels; the coarsest has no holes; back up,
    holes are the coarser scale enlarged bilinearly, and relaxed towards the mean of their four neighbours (Laplace's
    equation; a few steps a scale are enough, as in multigrid). Linear in the kept pixels.

    Args:
        images: float [b, h, w, c]; missing pixels may hold anything finite.
        kept: [b, h, w], 1 or 0 (or bool); every image has a kept pixel.

    Returns:
        [b, h, w, c], kept pixels as they were.
    """
    # Pixels first, images last in memory: a neighbour is then one long vector away (20 times as fast as pooling).
    mask = kept.to(images.dtype).permute(1, 2, 0)[..., None].contiguous()
    return _fill(images.permute(1, 2, 0, 3).contiguous() * mask, mask).permute(2, 0, 1, 3)


def _fill(x: Tensor, kept: Tensor) -> Tensor:
    """X [h, w, b, c], zero where kept [h, w, b, 1] is."""
    height, width = x.shape[:2]
    if height == 1 and width == 1:
        return x
    share = _blocks(kept)
    filled = _fill(_blocks(x) / share.clamp(min=1), (share > 0).to(x.dtype))
    missing = 1 - kept
    filled = x + missing * _enlarged(_enlarged(filled, 0), 1)[:height, :width]
    for _ in range(_RELAXATIONS):
        around = _shifted(filled, 0) + _shifted(filled, 1)
        filled = x + missing * around.mul_(0.25)
    return filled


def _blocks(x: Tensor) -> Tensor:
    """Sums of blocks of 2 x 2; odd sides end in narrower blocks."""
    for axis in (0, 1):
        pairs = x.shape[axis] // 2
        even, odd = x.narrow(axis, 0, 2 * pairs).unflatten(axis, (pairs, 2)).unbind(axis + 1)
        x = torch.cat([even + odd, x.narrow(axis, 2 * pairs, x.shape[axis] - 2 * pairs)], axis)
    return x


def _enlarged(x: Tensor, axis: int) -> Tensor:
    """Twice as long along an axis, bilinearly, borders repeated."""
    before, after = _neighbours(x, axis)
    return torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1).flatten(axis, axis + 1)


def _shifted(x: Tensor, axis: int) -> Tensor:
    before, after = _neighbours(x, axis)
    return before + after


def _neighbours(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """What comes before and after along an axis; the ends are their own neighbours."""
    last = x.shape[axis] - 1
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], axis)
    after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
    return before, after


def gather_patches(patches: Tensor, places: Tensor) -> Tensor:
    """Patches [b, P, n] at places int64 [b, k]: [b, k, n]."""
    return torch.gather(patches, 1, places[..., None].expand(-1, -1, patches.shape[2]))
