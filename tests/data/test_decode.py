"""Every odd kind of image against pixels worked out by hand."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from dq_fast.data import decode_image
from dq_fast.data.decode import MAX_PIXELS
from dq_fast.errors import BadImageError

from .files import encoded, pixels


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The definition, in float64."""
    a = alpha[..., None].astype(np.float64) / 255
    return rgb.astype(np.float64) * a + 255.0 * (1 - a)


def reason(data: bytes) -> str:
    with pytest.raises(BadImageError) as caught:
        decode_image(data, "some/id.jpg")
    assert caught.value.id == "some/id.jpg"
    assert caught.value.reason
    assert "\n" not in str(caught.value)
    assert "0x" not in caught.value.reason  # no addresses: reasons are the same in every run
    return caught.value.reason


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 1), (9, 4)])
@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_rgb_is_returned_as_it_is(format: str, height: int, width: int) -> None:
    image = pixels(1, height, width)
    out = decode_image(encoded(image, format), "i")
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous
    assert out.flags.writeable
    np.testing.assert_array_equal(out, image)


def test_lossless_webp() -> None:
    image = pixels(1)
    np.testing.assert_array_equal(decode_image(encoded(image, "WEBP", lossless=True), "i"), image)


def test_jpeg_is_close() -> None:
    image = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    out = decode_image(encoded(image, "JPEG", quality=95), "i")
    assert np.abs(out.astype(int) - image).max() <= 4


def test_grey_has_three_equal_channels() -> None:
    grey = pixels(2, channels=1)
    np.testing.assert_array_equal(decode_image(encoded(grey), "i"), np.stack([grey] * 3, axis=2))


def test_one_bit_is_black_and_white() -> None:
    bits = pixels(3, channels=1) > 127
    out = decode_image(encoded(Image.fromarray(bits)), "i")
    np.testing.assert_array_equal(out, np.where(bits[..., None], 255, 0).repeat(3, axis=2))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 128, 129, 255, 256], [257, 1000, 32767, 32768, 65535]], np.uint16)
    expected = np.round(values.astype(np.float64) * 255 / 65535).astype(np.uint8)
    out = decode_image(encoded(values, format), "i")
    np.testing.assert_array_equal(out, np.stack([expected] * 3, axis=2))


def test_16_bit_grey_in_big_endian_tiff() -> None:
    values = np.array([[0, 257, 65535]], np.uint16)
    image = Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode_image(encoded(image, "TIFF"), "i")[0, :, 0], [0, 1, 255])


@pytest.mark.parametrize("values", [np.zeros((2, 2), np.int32), np.zeros((2, 2), np.float32)])
def test_pixels_without_a_white_are_refused(values: np.ndarray) -> None:
    assert "no defined white" in reason(encoded(values, "TIFF"))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_rgba_is_shown_on_white(format: str) -> None:
    rgba = pixels(4, channels=4)
    rgba[0, :3, 3] = (0, 255, 128)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    out = decode_image(encoded(rgba, format, **options), "i")
    assert np.abs(out - on_white(rgba[..., :3], rgba[..., 3])).max() <= 1
    np.testing.assert_array_equal(out[0, 0], [255, 255, 255])  # fully transparent
    np.testing.assert_array_equal(out[0, 1], rgba[0, 1, :3])  # opaque


def test_grey_with_alpha() -> None:
    grey, alpha = pixels(5, channels=1), pixels(6, channels=1)
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    expected = on_white(np.stack([grey] * 3, axis=2), alpha)
    assert np.abs(decode_image(encoded(image), "i") - expected).max() <= 1


def palette_image() -> tuple[Image.Image, np.ndarray, np.ndarray]:
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    colours = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 255]], np.uint8)
    image = Image.fromarray(indices, "L").copy()
    image = Image.frombytes("P", (3, 2), indices.tobytes())
    image.putpalette(colours.tobytes())
    return image, indices, colours


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP"])
def test_palette(format: str) -> None:
    image, indices, colours = palette_image()
    np.testing.assert_array_equal(decode_image(encoded(image, format), "i"), colours[indices])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(format: str) -> None:
    image, indices, colours = palette_image()
    expected = colours[indices].copy()
    expected[indices == 1] = 255
    np.testing.assert_array_equal(decode_image(encoded(image, format, transparency=1), "i"), expected)


def test_palette_with_an_alpha_a_colour() -> None:
    image, indices, colours = palette_image()
    alphas = np.array([255, 0, 100], np.uint8)
    out = decode_image(encoded(image, transparency=alphas.tobytes()), "i")
    assert np.abs(out - on_white(colours[indices], alphas[indices])).max() <= 1


def test_rgb_with_a_transparent_colour() -> None:
    rgb = pixels(7)
    rgb[2, 3] = (1, 2, 3)
    out = decode_image(encoded(rgb, transparency=(1, 2, 3)), "i")
    rgb[2, 3] = 255
    np.testing.assert_array_equal(out, rgb)


def test_cmyk() -> None:
    """Pillow writes CMYK JPEGs as Adobe does, inverted; pure inks come back as their colours."""
    inks = {(0, 0, 0, 0): (255, 255, 255), (255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 255): (0, 0, 0)}
    for cmyk, rgb in inks.items():
        for format in ("JPEG", "TIFF"):
            out = decode_image(encoded(Image.new("CMYK", (16, 16), cmyk), format), "i")
            assert np.abs(out.astype(int) - rgb).max() <= 3, (cmyk, format)


# The pixels as seen, from those stored, by EXIF orientation: the definition in the standard.
SEEN = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],  # a quarter turn clockwise
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", list(SEEN))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation(format: str, orientation: int) -> None:
    stored = pixels(8, 16, 24) if format != "JPEG" else np.zeros((16, 24, 3), np.uint8)
    if format == "JPEG":
        stored[:8, :8] = 250  # one bright corner tells the eight apart together with the shape
        stored[:8, 8:16] = 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    if format == "JPEG":
        options = {"quality": 100}
    out = decode_image(encoded(stored, format, exif=exif, **options), "i")
    expected = SEEN[orientation](stored)
    assert out.shape == expected.shape
    assert np.abs(out.astype(int) - expected).max() <= (3 if format == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0"])
def test_broken_exif_is_ignored(exif: bytes) -> None:
    image = np.full((8, 8, 3), 90, np.uint8)
    assert decode_image(encoded(image, "JPEG", exif=exif), "i").shape == (8, 8, 3)


def test_impossible_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    image = pixels(9)
    np.testing.assert_array_equal(decode_image(encoded(image, exif=exif), "i"), image)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_gives_its_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode_image(data, "i"), np.full((4, 4, 3), (255, 0, 0)))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif() -> None:
    image = np.full((8, 8, 3), 90, np.uint8)
    assert np.abs(decode_image(encoded(image, "AVIF"), "i").astype(int) - 90).max() <= 4


def test_empty_and_foreign_bytes() -> None:
    assert reason(b"") == "it is empty (0 bytes)"
    assert "known format" in reason(b"this is no image at all, but some text")
    assert "known format" in reason(b"\x00" * 100)


def test_formats_that_run_programs_are_not_opened() -> None:
    assert "known format" in reason(encoded(np.zeros((4, 4, 3), np.uint8), "EPS"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated(format: str, part: float) -> None:
    data = encoded(pixels(10, 64, 64), format)
    reason(data[: int(len(data) * part)])


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on what it skips
def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "TGA", "JPEG2000", "ICO", "PCX"):
        data = np.frombuffer(encoded(pixels(11, 16, 16), format), np.uint8)
        for _ in range(30):
            broken = data.copy()
            where = rng.integers(0, min(len(broken), 120), 6)
            broken[where] = rng.integers(0, 256, 6)
            try:
                out = decode_image(broken.tobytes(), "i")
            except BadImageError as error:
                out = error.reason
            if isinstance(out, str):
                assert "\n" not in out
            else:
                assert (out.dtype, out.ndim, out.shape[2]) == (np.uint8, 3, 3)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_decompression_bomb(width: int, height: int) -> None:
    assert str(MAX_PIXELS) in reason(png_header(width, height))


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_where_warnings_are_errors() -> None:
    assert str(MAX_PIXELS) in reason(png_header(10_000, 10_000))


def test_zero_size() -> None:
    reason(png_header(0, 10))
