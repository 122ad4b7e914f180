"""Where pixels go: the grid of an image, its patches, and the mosaic of a shard."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def grid_of(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches that cover an image; the last ones may reach over its edge.

    The grid of `dq_fast.patches.patch_grid`, here without torch: reading a store does not need it.
    """
    return -(-height // patch), -(-width // patch)


def cut_patches(image: Pixels, positions: NDArray[np.int64], patch: int) -> Pixels:
    """The patches of `image` [h, w, 3] at row-major grid `positions` [k] -> [k, patch, patch, 3].

    Patches that reach over the edge repeat the image's last row and column.
    """
    height, width = image.shape[:2]
    rows, columns = grid_of(height, width, patch)
    if rows * patch != height or columns * patch != width:
        image = np.pad(image, ((0, rows * patch - height), (0, columns * patch - width), (0, 0)), mode="edge")
    tiles = image.reshape(rows, patch, columns, patch, 3).swapaxes(1, 2)
    kept: Pixels = tiles[positions // columns, positions % columns]
    return kept


def place_patches(
    patches: Pixels, positions: NDArray[np.int64], height: int, width: int, patch: int
) -> tuple[Pixels, NDArray[np.bool_]]:
    """The inverse of `cut_patches`: image [h, w, 3], 0 where nothing is known, and the mask [h, w] of those pixels."""
    rows, columns = grid_of(height, width, patch)
    image = np.zeros((rows * patch, columns * patch, 3), np.uint8)
    dropped = np.ones((rows * patch, columns * patch), bool)
    at = positions // columns, positions % columns
    image.reshape(rows, patch, columns, patch, 3).swapaxes(1, 2)[at] = patches
    dropped.reshape(rows, patch, columns, patch).swapaxes(1, 2)[at] = False
    return image[:height, :width], dropped[:height, :width]


def mosaic_grid(n_patches: int) -> tuple[int, int]:
    """Rows and columns of the near-square mosaic of `n_patches`: columns = ceil(sqrt(n)), rows = ceil(n / columns)."""
    columns = int(np.ceil(np.sqrt(n_patches)))
    while columns * columns < n_patches:  # the square root of a large number may round down
        columns += 1
    while (columns - 1) * (columns - 1) >= n_patches > 0:  # or up
        columns -= 1
    return -(-n_patches // columns), columns


def lay_out(patches: Pixels) -> Pixels:
    """A mosaic [rows·p, columns·p, c] of patches [m, p, p, c], row after row; cells left over are 0."""
    m, patch, _, channels = patches.shape
    rows, columns = mosaic_grid(m)
    cells = np.zeros((rows * columns, patch, patch, channels), np.uint8)
    cells[:m] = patches
    whole = cells.reshape(rows, columns, patch, patch, channels).swapaxes(1, 2)
    return np.ascontiguousarray(whole).reshape(rows * patch, columns * patch, channels)


def take_apart(mosaic: Pixels, n_patches: int, patch: int) -> Pixels:
    """The inverse of `lay_out`: [rows·p, columns·p, c] -> [m, p, p, c]."""
    rows, columns = mosaic_grid(n_patches)
    cells = mosaic.reshape(rows, patch, columns, patch, mosaic.shape[2]).swapaxes(1, 2)
    patches: Pixels = cells.reshape(rows * columns, patch, patch, mosaic.shape[2])[:n_patches]
    return patches


def reordered(patches: Pixels, order: NDArray[np.int64] | None) -> Pixels:
    """Patch c of `patches` [m, ...] as patch ``order[c]``: out of the mosaic's order, into the images'."""
    if order is None:
        return patches
    found = np.empty_like(patches)
    found[order] = patches
    return found
