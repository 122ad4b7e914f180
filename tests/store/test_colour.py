from __future__ import annotations

import numpy as np
import pytest

from dq_fast.store import colour


def defined(coarse: np.ndarray, side: int) -> np.ndarray:
    """docs/STORE.md, sample by sample: doubled within each cell of side x side, rounded half up."""
    height, width = coarse.shape
    fine = np.zeros((2 * height, 2 * width))
    for y in range(2 * height):
        for x in range(2 * width):
            for row, a in _two(y, side):
                for column, b in _two(x, side):
                    fine[y, x] += a * b * coarse[row, column]
    return np.floor(fine + 0.5)


def _two(place: int, side: int) -> list[tuple[int, float]]:
    near = place // 2
    other = near + (1 if place % 2 else -1)
    return [(near, 0.75), (other if other // side == near // side else near, 0.25)]


@pytest.mark.parametrize(("side", "rows", "columns"), [(8, 1, 3), (8, 3, 2), (16, 2, 1), (1, 4, 5)])
def test_planes_are_doubled_within_patches(side, rows, columns):
    rng = np.random.default_rng(side + rows)
    plane = rng.choice([-128, -127, -1, 0, 1, 126, 127], (rows * side, columns * side)).astype(np.int16)
    assert (colour.doubled(plane, side) == defined(plane, side)).all()


def test_colour_is_that_of_jfif_whatever_the_bands(monkeypatch):
    rng = np.random.default_rng(3)
    luma = rng.integers(0, 256, (96, 48), dtype=np.uint8)
    half = rng.integers(0, 256, (48, 24, 3), dtype=np.uint8)
    half[:16, :8, 1:] = [0, 255]  # the corners of the cube, where 16 bits are short
    half[:16, 8:16, 1:] = [255, 0]
    half[:16, 16:, 1:] = 255
    y, cb, cr = luma.astype(float), defined(half[..., 1].astype(float), 8) - 128, defined(half[..., 2] * 1.0, 8) - 128
    real = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1).clip(0, 255)
    found = colour.rgb(luma, half, 16)
    assert np.abs(found - real).max() < 0.63
    assert (found == np.rint(real)).mean() > 0.95
    assert np.abs((found - real).mean((0, 1))).max() < 0.02  # Pillow's own conversion rounds down: 0.5
    for band in (1, 96 * 48 // 2):
        monkeypatch.setattr(colour, "_BAND", band)
        assert (colour.rgb(luma, half, 16) == found).all()
