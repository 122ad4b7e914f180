"""Prediction within patches: exact for whatever the pixels are, and chosen where it is smaller."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.store import PackedStore
from dq_fast.store.codecs import LAYOUTS, decode, encode, make_codec
from dq_fast.store.residuals import MODES, from_residuals, to_residuals

from .cases import _predicted, samples, write


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([2, 30, 256]),
)
def test_residuals_are_undone_exactly(seed, p, m, channels, levels):
    rng = np.random.default_rng(seed)
    patches = (rng.integers(0, levels, (m, p, p, channels)) * (255 // (levels - 1))).astype(np.uint8)
    residuals, modes = to_residuals(patches)
    assert residuals.shape == patches.shape
    assert (modes < MODES).all()
    assert (from_residuals(residuals, modes) == patches).all()
    # any residuals with any predictors are some patch: the other way round is exact as well
    for i in range(min(m, 3)):
        three = np.repeat(residuals[i], 4 - channels, axis=2)[..., :3] if channels == 1 else residuals[i]
        assert (_predicted(three, int(modes[i]), channels)[..., :channels] == patches[i]).all()


def test_every_predictor_is_the_documented_one():
    rng = np.random.default_rng(1)
    residuals = rng.integers(0, 256, (64, 5, 5, 3)).astype(np.uint8)
    modes = (np.arange(64) % MODES).astype(np.uint8)
    patches = from_residuals(residuals, modes)
    for i in range(64):
        assert (patches[i] == _predicted(residuals[i], int(modes[i]), 3)).all()


def test_a_patch_is_given_its_best_predictor():
    ramp = np.arange(16)
    rows = np.broadcast_to(((ramp * 37) % 256)[:, None, None], (16, 16, 3)).astype(np.uint8)
    columns = np.ascontiguousarray(rows.swapaxes(0, 1))
    plane = np.clip(40 + 5 * ramp[:, None, None] + 4 * ramp[None, :, None] + np.zeros(3), 0, 255).astype(np.uint8)
    residuals, modes = to_residuals(np.stack([rows, columns, plane]))
    assert not residuals[0, 1:, 1:].any()
    assert not residuals[1, 1:, 1:].any()
    assert np.abs(residuals[2, 1:, 1:].view(np.int8)).max() <= 4
    assert modes[0] in (0, 2)
    assert modes[1] in (0, 3)


@pytest.mark.parametrize("codec", ["png", "webp-lossless"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("m", "p", "channels"), [(1, 1, 3), (7, 2, 3), (50, 4, 1), (33, 16, 3)])
def test_layouts_of_mosaics(codec, layout, m, p, channels):
    rng = np.random.default_rng(2)
    patches = rng.integers(0, 256, (m, p, p, channels)).astype(np.uint8)
    made = make_codec(codec, None, p)
    found = decode(encode(patches, made, layout), made, m, p, "x", layout, channels)
    assert (found == np.broadcast_to(patches, (m, p, p, 3))).all()


def test_the_first_shard_decides_and_a_resumed_writer_keeps_to_it(tmp_path):
    rng = np.random.default_rng(3)
    items = samples(6, [(32, 32)], 4, keep=1.0)
    y, x = np.mgrid[:32, :32]
    for item in items:
        a, b = rng.uniform(0.1, 0.3, 2)
        item.image = (
            127 + 90 * np.sin(a * x + b * y)[..., None] + rng.integers(0, 9, (32, 32, 1)) + np.arange(3)
        ).astype(np.uint8)
    store = PackedStore(write(tmp_path / "photos", items, 4, codec="png", patches_per_mosaic=128))
    assert store.manifest["layout"] == "residual-bands"
    for item in items:  # few colours, no gradients: prediction only spoils them
        item.image = rng.integers(0, 2, (32, 32, 3)).astype(np.uint8) * 255
    store = PackedStore(write(tmp_path / "flat", items, 4, codec="png", patches_per_mosaic=128))
    assert store.manifest["layout"] == "tiles"
    for i, item in enumerate(items):
        assert (store.patches(i)[0] == item.image.reshape(8, 4, 8, 4, 3).swapaxes(1, 2).reshape(-1, 4, 4, 3)).all()


def test_predictors_that_there_are_not(tmp_path):
    patches = np.zeros((20, 4, 4, 3), np.uint8)
    codec = make_codec("png", None, 4)
    import io

    from PIL import Image

    picture = np.asarray(Image.open(io.BytesIO(encode(patches, codec, "residual-tiles")))).copy()
    picture[-1, 0] = MODES
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    with pytest.raises(InputError, match="predictors below 8, got 8"):
        decode(file.getvalue(), codec, 20, 4, "x.png", "residual-tiles")
