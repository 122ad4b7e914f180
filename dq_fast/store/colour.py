"""Colour of 4:2:0 JPEG mosaics: planes doubled within each patch, then RGB; in 16-bit integers.

Native (csrc/cpu/mosaic) where that was built: 1.0 ms of processor time for 1,024 x 1,024 px; else numpy, the same bits:
7 ms, in bands of some rows of patches, since whole mosaics would wait for memory and single rows for Python.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dq_fast.ops.native import find
from dq_fast.store.jpeg import planes_of_tall
from dq_fast.store.layout import Pixels, reordered, take_apart

_BAND = 1 << 17  # px; measured on a 1,024-px mosaic: 2^15 takes 7.8 ms, 2^16 6.4, 2^17 5.6, 2^18 5.2

Shorts = NDArray[np.int16]


def rgb(luma: Pixels, half: Pixels, patch: int) -> Pixels:
    """RGB [h, w, 3] of a mosaic from its Y [h, w] and, at half its size, YCbCr [h/2, w/2, 3].

    Chroma is interpolated within each patch as docs/STORE.md says, exactly. RGB is that of JFIF with 8 bits for the
    coefficients: at most 0.63 off the real number, 97 % of values the nearest, no bias.
    """
    height, width = luma.shape
    if patch % 2 or height % patch or width % patch or half.shape != (height // 2, width // 2, 3):
        raise ValueError(f"planes {luma.shape} and {half.shape} are none of patches of {patch} px")
    out = np.empty((height, width, 3), np.uint8)
    native = getattr(find("cpu")[0], "mosaic_rgb", None)
    if native is not None:
        luma, half = np.ascontiguousarray(luma), np.ascontiguousarray(half)
        native(luma.ctypes.data, half.ctypes.data, height, width, patch, out.ctypes.data)
        return out
    step = max(1, _BAND // (width * patch)) * patch
    for top in range(0, height, step):
        chroma = half[top // 2 : (top + step) // 2, :, 1:].astype(np.int16) - np.int16(128)
        blue, red = (doubled(np.ascontiguousarray(chroma[..., c]), patch // 2) for c in range(2))
        _convert(luma[top : top + step].astype(np.int16), blue, red, out[top : top + step])
    return out


def patches_of_tall(pixels: Pixels, n_patches: int, patch: int, order: NDArray[np.int64] | None = None) -> Pixels:
    """The patches [m, p, p, 3] of a mosaic from the YCbCr pixels [2h, w/2, 3 or 4] of `dq_fast.store.jpeg.as_tall`.

    Cell c's becomes patch ``order[c]``, a permutation of all m; without one they stay as they are in the mosaic.
    """
    height, width, step = pixels.shape[0] // 2, pixels.shape[1] * 2, pixels.shape[2]
    native = getattr(find("cpu")[0], "mosaic_patches", None)
    if native is None:
        return reordered(take_apart(rgb(*planes_of_tall(pixels), patch), n_patches, patch), order)
    if patch % 16 or pixels.shape[0] % (2 * patch) or width % patch or step not in (3, 4) or pixels.dtype != np.uint8:
        raise ValueError(f"pixels {pixels.shape} are none of a mosaic of patches of {patch} px")
    if not 0 < n_patches <= height * width // patch**2:
        raise ValueError(f"patches must be from 1 to {height * width // patch**2}, got {n_patches}")
    order = np.arange(n_patches) if order is None else np.ascontiguousarray(order, np.int64)
    if order.shape != (n_patches,) or order.min() < 0 or order.max() >= n_patches:
        raise ValueError(f"order must be a permutation of {n_patches}")
    out = np.empty((n_patches, patch, patch, 3), np.uint8)
    pixels = np.ascontiguousarray(pixels)
    native(pixels.ctypes.data, step, order.ctypes.data, n_patches, width, patch, out.ctypes.data)
    return out


def doubled(plane: Shorts, side: int) -> Shorts:
    """A plane [h, w] of side x side cells at twice its size: weights 3/4 and 1/4 along each axis, rounded half up.

    At a cell's edges its own value stands for the neighbour's. Values are from -128 to 255.
    """
    height, width = plane.shape
    cells = plane.reshape(height // side, side, width)
    three = cells * np.int16(3)
    down = np.empty((height // side, side, 2, width), np.int16)
    np.add(three[:, 1:], cells[:, :-1], out=down[:, 1:, 0])
    np.add(three[:, 0], cells[:, 0], out=down[:, 0, 0])
    np.add(three[:, :-1], cells[:, 1:], out=down[:, :-1, 1])
    np.add(three[:, -1], cells[:, -1], out=down[:, -1, 1])
    lines = down.reshape(2 * height, width)
    three = lines * np.int16(3) + np.int16(8)
    left, right = np.empty_like(lines), np.empty_like(lines)
    left.ravel()[1:] = lines.ravel()[:-1]  # the neighbour, whatever cell it is of ...
    left[:, ::side] = lines[:, ::side]  # ... put right at the edges: cheaper than many short lines
    right.ravel()[:-1] = lines.ravel()[1:]
    right[:, side - 1 :: side] = lines[:, side - 1 :: side]
    for neighbour in (left, right):
        neighbour += three
        neighbour >>= 4
    both = np.empty((2 * height, 2 * width), np.int16)
    both[:, ::2], both[:, 1::2] = left, right
    return both


def _convert(luma: Shorts, blue: Shorts, red: Shorts, out: Pixels) -> None:
    """R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr, B = Y + 1.772 Cb, in 256ths that never overflow 16 bits."""

    def put(channel: int, fraction: Shorts, whole: Shorts) -> None:
        fraction += np.int16(128)
        fraction >>= 8
        fraction += whole
        fraction += luma
        np.clip(fraction, 0, 255, out=fraction)
        out[..., channel] = fraction

    put(0, red * np.int16(103), red)
    put(2, blue * np.int16(198), blue)
    put(1, red * np.int16(73) - blue * np.int16(88), -red)
