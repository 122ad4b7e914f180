from __future__ import annotations

import sys

import numpy as np
import pytest

from dq_fast.errors import InputError
from dq_fast.restore import FILLS, make_fill


def case(height: int, width: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    dropped = rng.random((height, width)) < share
    dropped[rng.integers(height), rng.integers(width)] = False
    return image, dropped


SHAPES = [(1, 1), (1, 9), (9, 1), (13, 8), (24, 31)]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95, 1.0])
def test_kept_pixels_stay_and_what_was_dropped_does_not_matter(fill, shape, share):
    if fill == "inpaint":
        pytest.importorskip("cv2")
    image, dropped = case(*shape, share)
    before = image.copy()
    filled = make_fill(fill)(image, dropped)
    assert (image == before).all()
    assert filled.dtype == np.uint8
    assert (filled[~dropped] == image[~dropped]).all()
    hidden = image.copy()
    hidden[dropped] = 0
    assert (make_fill(fill)(hidden, dropped) == filled).all()
    assert not np.shares_memory(filled, image)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_mean_by_definition(shape, share):
    image, dropped = case(*shape, share)
    filled = make_fill("mean")(image, dropped)
    for c in range(3):
        kept = image[..., c][~dropped].astype(np.float64)
        for value in filled[..., c][dropped]:
            assert abs(value - kept.sum() / len(kept)) <= 0.5


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.3, 0.95, 1.0])
def test_nearest_by_definition(shape, share):
    """Every dropped pixel against every kept one."""
    image, dropped = case(*shape, share)
    filled = make_fill("nearest")(image, dropped)
    kept = [(y, x) for x in range(shape[1]) for y in range(shape[0]) if not dropped[y, x]]  # leftmost, then upper first
    for y, x in zip(*np.nonzero(dropped), strict=True):
        best = min(kept, key=lambda at: (at[0] - y) ** 2 + (at[1] - x) ** 2)
        assert (filled[y, x] == image[best]).all()


def test_nearest_in_pieces_is_the_same(monkeypatch):
    image, dropped = case(24, 31, 0.7)
    whole = make_fill("nearest")(image, dropped)
    monkeypatch.setattr("dq_fast.restore.fill._NEAREST_CELLS", 100)
    assert (make_fill("nearest")(image, dropped) == whole).all()


def test_inpaint_continues_a_gradient():
    pytest.importorskip("cv2")
    image = np.repeat(np.arange(32, dtype=np.uint8)[None, :, None] * 8, 32, axis=0).repeat(3, axis=2)
    dropped = np.zeros((32, 32), bool)
    dropped[8:16, 8:16] = True
    error = {f: np.abs(make_fill(f)(image, dropped).astype(int) - image)[dropped].mean() for f in ("mean", "inpaint")}
    assert error["inpaint"] < 0.3 * error["mean"]


def test_inpaint_without_opencv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"opencv-python-headless.*dq_fast\[inpaint\]"):
        make_fill("inpaint")


def test_batches_are_the_single_images():
    cases = [case(9, 7, 0.4, seed) for seed in range(3)]
    fill = make_fill("mean")
    filled = fill.batch([image for image, _ in cases], [dropped for _, dropped in cases])
    assert all((a == fill(*b)).all() for a, b in zip(filled, cases, strict=True))
