from __future__ import annotations

import numpy as np
import pytest

from dq_fast.ops.native import find
from dq_fast.store import colour
from dq_fast.store.layout import mosaic_grid


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
    monkeypatch.setattr(colour, "find", lambda device: (None, ""))
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


@pytest.mark.parametrize(("patch", "rows", "columns"), [(16, 1, 1), (16, 3, 5), (32, 2, 3), (48, 1, 2), (2, 4, 3)])
def test_native_code_gives_the_same(patch, rows, columns, monkeypatch):
    if not hasattr(find("cpu")[0], "mosaic_rgb"):
        pytest.skip(f"no native mosaic_rgb here: {find('cpu')[1]}")
    rng = np.random.default_rng(patch)
    luma = rng.integers(0, 256, (rows * patch, columns * patch), dtype=np.uint8)
    half = rng.choice([0, 1, 127, 128, 254, 255], (rows * patch // 2, columns * patch // 2, 3)).astype(np.uint8)
    found = colour.rgb(luma, half, patch)
    assert (colour.rgb(np.asfortranarray(luma), half, patch) == found).all()
    monkeypatch.setattr(colour, "find", lambda device: (None, ""))
    assert (found == colour.rgb(luma, half, patch)).all()
    with pytest.raises(ValueError, match="are none of patches"):
        colour.rgb(luma, half[1:], patch)


@pytest.mark.parametrize(("patch", "count"), [(16, 1), (16, 14), (32, 5), (48, 2)])
@pytest.mark.parametrize("step", [3, 4])
def test_native_code_cuts_the_same_patches(patch, count, step, monkeypatch):
    if not hasattr(find("cpu")[0], "mosaic_patches"):
        pytest.skip(f"no native mosaic_patches here: {find('cpu')[1]}")
    rng = np.random.default_rng(patch + step)
    rows, columns = mosaic_grid(count)
    pixels = rng.integers(0, 256, (2 * rows * patch, columns * patch // 2, step), dtype=np.uint8)
    order = rng.permutation(count)
    plain, found = (colour.patches_of_tall(pixels, count, patch, o) for o in (None, order))
    assert (found[order] == plain).all()
    for wrong in ({"n_patches": rows * columns + 1}, {"patch": patch + 2}, {"order": order + 1}):
        with pytest.raises(ValueError, match=r"must be|are none of"):
            colour.patches_of_tall(**{"pixels": pixels, "n_patches": count, "patch": patch, "order": order, **wrong})
    monkeypatch.setattr(colour, "find", lambda device: (None, ""))
    assert (found == colour.patches_of_tall(pixels, count, patch, order)).all()
