"""Patches as what a prediction from their own pixels leaves, for the lossless codecs.

PNG and WebP predict pixels from their neighbours; in a mosaic of shuffled patches many neighbours are strangers. So
pixels are predicted within their patch before, each patch by the one of eight predictors that suits it. docs/STORE.md
has the formulas.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dq_fast.store.layout import Pixels

Shorts = NDArray[np.int16]
Modes = NDArray[np.uint8]

_CHUNK = 1 << 19  # px predicted at a time: some arrays of 3 MB
# bits that a residual takes, roughly; what choosing a predictor minimises
_BITS = np.log2(1.0 + np.abs(np.arange(256).astype(np.uint8).view(np.int8).astype(np.float64))).astype(np.float32)


def _clipped(values: Shorts) -> Shorts:
    out: Shorts = np.clip(values, 0, 255)
    return out


def _median(w: Shorts, n: Shorts, nw: Shorts, ne: Shorts) -> Shorts:
    """The median of W, N and W + N - NW (Martucci 1990; the predictor of LOCO-I)."""
    low, high = np.minimum(w, n), np.maximum(w, n)
    out: Shorts = np.minimum(np.maximum(w + n - nw, low), high)
    return out


_PREDICTORS: tuple[Callable[[Shorts, Shorts, Shorts, Shorts], Shorts], ...] = (
    _median,
    lambda w, n, nw, ne: _clipped((3 * (w + n) - 2 * nw + 2) >> 2),
    lambda w, n, nw, ne: w,
    lambda w, n, nw, ne: n,
    lambda w, n, nw, ne: (w + n) >> 1,
    lambda w, n, nw, ne: _clipped(w + ((ne - nw) >> 1)),
    lambda w, n, nw, ne: _clipped(n + ((w - nw) >> 1)),
    lambda w, n, nw, ne: _clipped((5 * (w + n) - 4 * nw + 2 * ne + 4) >> 3),
)
MODES = len(_PREDICTORS)


def to_residuals(patches: Pixels) -> tuple[Pixels, Modes]:
    """Residuals [m, p, p, c] of patches [m, p, p, c], and the predictor of each patch [m]."""
    m, p = patches.shape[:2]
    residuals, modes = np.empty_like(patches), np.zeros(m, np.uint8)
    step = max(1, _CHUNK // (p * p))
    for begin in range(0, m, step):
        part = slice(begin, begin + step)
        residuals[part], modes[part] = _chunk_to_residuals(patches[part])
    return residuals, modes


def _chunk_to_residuals(patches: Pixels) -> tuple[Pixels, Modes]:
    m, p = patches.shape[:2]
    difference = patches.copy()
    difference[:, 0, 1:] -= patches[:, 0, :-1]
    difference[:, 1:, 0] -= patches[:, :-1, 0]
    modes = np.zeros(m, np.uint8)
    if p > 1:
        pixels = patches.astype(np.int16)
        w, n, nw = pixels[:, 1:, :-1], pixels[:, :-1, 1:], pixels[:, :-1, :-1]
        ne = np.concatenate([pixels[:, :-1, 2:], pixels[:, :-1, -1:]], axis=2)
        least = np.full(m, np.inf, np.float32)
        for mode, predict in enumerate(_PREDICTORS):
            found = patches[:, 1:, 1:] - predict(w, n, nw, ne).astype(np.uint8)
            bits = _BITS[_apart(found)].sum(axis=(1, 2, 3))
            better = bits < least
            difference[better, 1:, 1:] = found[better]
            least[better], modes[better] = bits[better], mode
    return _apart(difference), modes


def _apart(difference: Pixels) -> Pixels:
    """Colour differences as red - green, green, blue - green, all modulo 256; grey as it is."""
    if difference.shape[-1] == 1:
        return difference
    out = difference.copy()
    out[..., 0] -= difference[..., 1]
    out[..., 2] -= difference[..., 1]
    return out


def from_residuals(residuals: Pixels, modes: Modes) -> Pixels:
    """The inverse of `to_residuals`; modes are below `MODES`."""
    p, channels = residuals.shape[1], residuals.shape[3]
    order = np.argsort(modes, kind="stable")
    groups = np.searchsorted(modes[order], np.arange(MODES + 1))
    # [p, p, m, c]: a pixel of all patches at a time, patches of one predictor beside each other
    pixels = np.ascontiguousarray(residuals[order].transpose(1, 2, 0, 3))
    if channels == 3:
        pixels[..., 0] += pixels[..., 1]
        pixels[..., 2] += pixels[..., 1]
    np.cumsum(pixels[0], axis=0, dtype=np.uint8, out=pixels[0])
    np.cumsum(pixels[:, 0], axis=0, dtype=np.uint8, out=pixels[:, 0])
    used = [(mode, slice(int(groups[mode]), int(groups[mode + 1]))) for mode in range(MODES)]
    used = [(mode, part) for mode, part in used if part.stop > part.start]
    above = pixels[0].astype(np.int16)
    for y in range(1, p):
        row = np.empty_like(above)
        row[0] = pixels[y, 0]
        for x in range(1, p):
            w, n, nw, ne = row[x - 1], above[x], above[x - 1], above[min(x + 1, p - 1)]
            for mode, part in used:
                predicted = _PREDICTORS[mode](w[part], n[part], nw[part], ne[part])
                pixels[y, x, part] += predicted.astype(np.uint8)
            row[x] = pixels[y, x]
        above = row
    patches = np.empty_like(residuals)
    patches[order] = pixels.transpose(2, 0, 1, 3)
    return patches


def to_bands(tiles: Pixels, rows: int, columns: int) -> Pixels:
    """Cells [rows·columns, p, p, c] -> [p·rows, p·columns, c]: a picture for each place in the cells."""
    _, p, _, channels = tiles.shape
    apart = tiles.reshape(rows, columns, p, p, channels).transpose(2, 0, 3, 1, 4)
    return np.ascontiguousarray(apart).reshape(p * rows, p * columns, channels)


def from_bands(picture: Pixels, rows: int, columns: int, patch: int) -> Pixels:
    """The inverse of `to_bands`: [p·rows, p·columns, c] -> [rows·columns, p, p, c]."""
    channels = picture.shape[2]
    together = picture.reshape(patch, rows, patch, columns, channels).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(together).reshape(rows * columns, patch, patch, channels)
