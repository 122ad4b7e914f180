"""All images of a shard at once: patches placed and means filled in by one gather instead of image by image.

Native (csrc/cpu/mosaic) where that was built, else numpy: the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dq_fast.ops.native import find
from dq_fast.store.layout import Pixels

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ShardImages:
    """The restored images of a shard, in its order; views of a few large arrays, read-only.

    Attributes:
        images: uint8 [h, w, 3] each.
        nbytes: memory behind them.
    """

    images: list[Pixels]
    nbytes: int


def restore_shard(patches: Pixels, starts: Ints, positions: Ints, sizes: Ints) -> ShardImages:
    """Images with the means of their kept pixels where patches were dropped: what `MeanFill` gives, to the bit.

    Args:
        patches: uint8 [m, p, p, 3], image after image.
        starts: int64 [n + 1], where each image's patches begin.
        positions: int64 [m], row-major grid positions within each image.
        sizes: int64 [n, 2], heights and widths.
    """
    native = getattr(find("cpu")[0], "restore_images", None)
    if native is not None:
        return _native(native, patches, starts, positions, sizes)
    m, patch = patches.shape[:2]
    n = len(sizes)
    grids = -(-sizes // patch)
    cells = grids.prod(axis=1)
    whole = bool((np.diff(starts) == cells).all())  # nothing was dropped: no means needed
    # A line of a patch is what is moved: the image's own, or one of a patch of its mean colour behind them.
    lines = np.empty((m + (0 if whole else n), patch, patch, 3), np.uint8)
    lines[:m] = patches
    if not whole:
        lines[m:] = _means(patches, starts, positions, sizes, grids)[:, None, None, :]
    flat = lines.reshape(len(lines) * patch, patch * 3)
    first_cell = np.concatenate([[0], np.cumsum(cells)])
    origin = np.repeat(m + np.arange(n), cells)  # of each cell of each image's grid: a patch, the mean unless kept
    origin[np.repeat(first_cell[:-1], np.diff(starts)) + positions] = np.arange(m)
    images: list[Pixels] = [np.empty(0, np.uint8)] * n
    nbytes = 0
    shapes, group = np.unique(grids, axis=0, return_inverse=True)
    for number, (rows, columns) in enumerate(shapes.tolist()):
        members = np.flatnonzero(group.ravel() == number)
        here = origin[first_cell[members][:, None] + np.arange(rows * columns)].reshape(-1, rows, 1, columns)
        canvas = _take(flat, here * patch + np.arange(patch)[:, None])
        canvas = canvas.reshape(len(members), rows * patch, columns * patch, 3)
        canvas.setflags(write=False)
        nbytes += canvas.nbytes
        for picture, i in zip(canvas, members.tolist(), strict=True):
            height, width = sizes[i].tolist()
            images[i] = picture[:height, :width]
    return ShardImages(images, nbytes)


def _native(restore: Callable[..., bool], patches: Pixels, starts: Ints, positions: Ints, sizes: Ints) -> ShardImages:
    """`restore_shard` by csrc/cpu/mosaic/restore.h."""
    patches = np.ascontiguousarray(patches)
    starts, positions, sizes = (np.ascontiguousarray(a, np.int64) for a in (starts, positions, sizes))
    n, ends = len(sizes), np.cumsum(3 * sizes.prod(axis=1))
    whole = starts.shape == (n + 1,) and starts[0] == 0 and starts[-1] == len(positions) == len(patches)
    if not whole or (np.diff(starts) < 1).any():
        raise ValueError(f"starts {starts} do not divide {len(patches)} patches at {len(positions)} places")
    pixels = np.empty(int(ends[-1]) if n else 0, np.uint8)
    offsets = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    pointers = (array.ctypes.data for array in (patches, starts, positions, sizes))
    if not restore(*pointers, n, patches.shape[1], offsets.ctypes.data, pixels.ctypes.data):
        raise ValueError("positions must ascend within each image's grid, at least one an image")
    pixels.setflags(write=False)
    parts = zip(offsets.tolist(), ends.tolist(), sizes.tolist(), strict=True)
    return ShardImages([pixels[a:b].reshape(h, w, 3) for a, b, (h, w) in parts], pixels.nbytes)


def _take(lines: Pixels, which: Ints) -> Pixels:
    """``lines[which]``, each line moved as one thing: 20 times as fast as byte by byte."""
    width = lines.shape[1]
    found = lines.view(f"V{width}")[:, 0].take(which)
    pixels: Pixels = found.view(np.uint8).reshape(*which.shape, width)
    return pixels


def _means(patches: Pixels, starts: Ints, positions: Ints, sizes: Ints, grids: Ints) -> Pixels:
    """Per image the mean of its kept pixels, rounded [n, 3]; what reaches over the image's edge does not count."""
    m, patch = patches.shape[:2]
    # lines are summed first, as long vectors; at most 2^32 / 255 pixels a patch
    total = patches.reshape(m, patch, patch * 3).sum(axis=1, dtype=np.uint16 if patch < 257 else np.uint32)
    sums = total.reshape(m, patch, 3).sum(axis=1, dtype=np.int64)
    image = np.repeat(np.arange(len(sizes)), np.diff(starts))
    columns = grids[image, 1]
    inside = np.stack([sizes[image, 0] - positions // columns * patch, sizes[image, 1] - positions % columns * patch])
    inside = np.minimum(inside, patch)
    partly = np.flatnonzero(inside.min(axis=0) < patch)
    if len(partly):
        y, x = np.arange(patch)[:, None], np.arange(patch)
        counted = (y < inside[0, partly, None, None]) & (x < inside[1, partly, None, None])
        sums[partly] = (patches[partly] * counted[..., None]).sum(axis=(1, 2), dtype=np.int64)
    counts = np.add.reduceat(inside.prod(axis=0), starts[:-1])
    return np.rint(np.add.reduceat(sums, starts[:-1], axis=0) / counts[:, None]).astype(np.uint8)
