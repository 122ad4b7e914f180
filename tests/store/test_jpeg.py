from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dq_fast.store import codecs
from dq_fast.store.jpeg import as_tall, planes_of_tall


def saved(height: int, width: int, **options: object) -> bytes:
    rng = np.random.default_rng(height + width)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **{"quality": 90, "subsampling": "4:2:0", **options})
    return file.getvalue()


def planes(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """By libjpeg alone: brightness, and colour at its own size, which is half."""
    full, half = (Image.open(io.BytesIO(data)) for _ in range(2))
    full.draft("L", full.size)
    half.draft("YCbCr", (half.size[0] // 2, half.size[1] // 2))
    return np.asarray(full), np.asarray(half)[..., 1:]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 80), (96, 16), (160, 224)])
@pytest.mark.parametrize(
    "options", [{}, {"optimize": True, "quality": 40}, {"restart_marker_blocks": 3}, {"comment": b"x"}]
)
def test_one_decoding_gives_the_stored_planes(height, width, options):
    data = saved(height, width, **options)
    tall = as_tall(data)
    assert tall is not None
    image = Image.open(io.BytesIO(tall))
    assert image.size == (width // 2, 2 * height)
    image.draft("YCbCr", image.size)
    luma, chroma = planes_of_tall(np.asarray(image))
    expected = planes(data)
    assert (luma == expected[0]).all()
    assert (chroma[..., 1:] == expected[1]).all()


def test_other_files_are_decoded_twice_to_the_same_pixels(monkeypatch):
    codec = codecs.make_codec("jpeg", 90, 16)
    assert as_tall(saved(32, 32, progressive=True)) is None
    assert as_tall(saved(32, 32, subsampling="4:4:4")) is None
    assert as_tall(saved(32, 40)) is None  # half a coding unit
    data = saved(32, 48)
    for broken in (b"", b"RIFF", data[:2], data[: data.index(b"\xff\xc0") + 6], data[: data.index(b"\xff\xda") + 3]):
        assert as_tall(broken) is None
    found = codecs.decode(data, codec, 6, 16, "mosaic")
    monkeypatch.setattr(codecs, "as_tall", lambda data: None)
    assert (codecs.decode(data, codec, 6, 16, "mosaic") == found).all()
    monkeypatch.undo()
    progressive = codecs.decode(saved(32, 48, progressive=True), codec, 6, 16, "mosaic")
    assert (progressive == found).all()  # the same coefficients, in another order
    with pytest.raises(codecs.InputError, match="whole image file"):
        codecs.decode(data[: len(data) // 2], codec, 6, 16, "mosaic")
