"""Mosaics to image files and back.

JPEG colour is stored 4:2:0 where the patch is a multiple of 16 (one coding unit a patch or more), else 4:4:4. Decoders
interpolate subsampled colour across coding units, which in a mosaic mixes patches of different images (measured on
128-px photos at quality 90: 35 dB instead of 45). So the colour planes are read as they are (`dq_fast.store.jpeg`; of
files that are not baseline at half scale, where libjpeg gives them so) and interpolated within each patch: no patch
sees its neighbours.

The lossless codecs get residuals instead of patches (`dq_fast.store.residuals`) where that is smaller. AVIF is told to
leave out the filters that smooth across blocks, and to keep colour at full size.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from dq_fast.errors import InputError
from dq_fast.store.colour import patches_of_tall, rgb
from dq_fast.store.jpeg import as_tall
from dq_fast.store.layout import Pixels, lay_out, mosaic_grid, reordered, take_apart
from dq_fast.store.memory import pixels_of
from dq_fast.store.residuals import MODES, from_bands, from_residuals, to_bands, to_residuals

SMALL_SIDE = 64  # px, larger side: up to this images are stored lossless by default
DEFAULT_QUALITY = 90
MAX_MOSAIC_SIDE = 8192  # px: below WebP's 16,383, and 67 megapixels stay below Pillow's limit against bombs
MAX_IMAGE_PIXELS = 1 << 28  # of one image, kept or not: what a reader may have to allocate, 805 MB
_CODING_BLOCK = 8  # JPEG's block: patches that are a multiple of it never share a block
_SUBSAMPLED_UNIT = 16  # JPEG's coding unit with 4:2:0 colour


@dataclass(frozen=True)
class Codec:
    """How mosaics are encoded.

    Attributes:
        name: one of `CODECS`.
        quality: 1 to 100 for the lossy ones, else None.
        subsampling: "4:2:0" or "4:4:4" for JPEG, "4:2:0" for lossy WebP (it has no other), "4:4:4" for AVIF, else None.
    """

    name: str
    quality: int | None
    subsampling: str | None

    @property
    def extension(self) -> str:
        """File name extension, without the dot."""
        return _FORMATS[self.name][1]

    @property
    def lossless(self) -> bool:
        """Whether every pixel comes back bit for bit."""
        return self.name in ("png", "webp-lossless")

    def plain(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {"name": self.name, "quality": self.quality, "subsampling": self.subsampling}


_FORMATS = {
    "png": ("PNG", "png"),
    "webp-lossless": ("WEBP", "webp"),
    "jpeg": ("JPEG", "jpg"),
    "webp": ("WEBP", "webp"),
    "avif": ("AVIF", "avif"),
}
# patches as they are; residuals in their place; residuals of one place in all patches together. The names in manifests.
TILES, RESIDUAL_TILES, RESIDUAL_BANDS = LAYOUTS = ("tiles", "residual-tiles", "residual-bands")
_MOST_FILE_SIDE = MAX_MOSAIC_SIDE * 5 // 4  # with the lines that hold predictors, for patches of 2 px
# Deblocking, directional enhancement and restoration look across blocks: without them neighbours do not bleed.
_AVIF: dict[str, Any] = {
    "codec": "aom",
    "speed": 6,
    "subsampling": "4:4:4",
    "advanced": {"enable-cdef": "0", "enable-restoration": "0", "loopfilter-control": "0"},
    "max_threads": 1,  # the number of tiles, and so the bytes, would follow from it
    "autotiling": False,
}
CODECS = tuple(_FORMATS)
_PILLOW_ERRORS = (  # what its plugins raise on broken files; AVIF's RuntimeError
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def make_codec(name: str, quality: int | None, patch: int, subsampling: str | None = None) -> Codec:
    """The codec for patches of `patch` px.

    Raises:
        InputError: unknown name, quality given for a lossless codec or out of 1 to 100, or a patch that JPEG would blur
            into its neighbours (not a multiple of 8; of 16 for 4:2:0).
    """
    if name not in _FORMATS:
        raise InputError(f"codec must be one of {', '.join(CODECS)}, got {name!r}")
    if name in ("png", "webp-lossless"):
        if quality is not None:
            raise InputError(f"quality must be None for the lossless codec {name}, got {quality!r}")
        return Codec(name, None, None)
    quality = DEFAULT_QUALITY if quality is None else quality
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise InputError(f"quality must be a whole number from 1 to 100, got {quality!r}")
    if name == "webp":
        return Codec(name, quality, "4:2:0")
    if patch % _CODING_BLOCK:
        raise InputError(
            f"patch must be a multiple of {_CODING_BLOCK} for the codec {name} (or neighbours in a mosaic would blur "
            f"into each other), got {patch}; choose another patch, or codec='webp-lossless'"
        )
    if name == "avif":
        return Codec(name, quality, "4:4:4")
    best = "4:4:4" if patch % _SUBSAMPLED_UNIT else "4:2:0"
    subsampling = best if subsampling is None else subsampling
    if subsampling not in ("4:4:4", best):
        raise InputError(f"subsampling must be 4:4:4, or 4:2:0 for patches of a multiple of 16 px, got {subsampling!r}")
    return Codec(name, quality, subsampling)


def default_codec(height: int, width: int) -> tuple[str, int | None]:
    """Codec name and quality for images of this size.

    Lossless for small ones, whose accuracy suffers from any loss; WebP is the smaller lossless codec: 1,468 bytes an
    image against 1,569 with PNG on CIFAR-10 at θ = 0.2, 157 against 172 on MNIST.
    """
    return ("webp-lossless", None) if max(height, width) <= SMALL_SIDE else ("jpeg", DEFAULT_QUALITY)


def smallest(patches: Pixels, codec: Codec) -> tuple[str, bytes]:
    """The layout that takes the fewest bytes for these patches, and the file: what a store's first shard decides."""
    if not codec.lossless:
        return TILES, encode(patches, codec)
    return min(((layout, encode(patches, codec, layout)) for layout in LAYOUTS), key=lambda found: len(found[1]))


def encode(patches: Pixels, codec: Codec, layout: str = TILES) -> bytes:
    """One image file with the mosaic of patches [m, p, p, c], c = 1 (grey) or 3."""
    mosaic = lay_out(patches) if layout == TILES else _residual_mosaic(patches, layout)
    image = Image.fromarray(mosaic[..., 0] if mosaic.shape[2] == 1 else mosaic)
    if codec.name == "png":
        options: dict[str, Any] = {"compress_level": 9}  # 4 % smaller than level 6 on MNIST, for 0.4 ms an image
    elif codec.name == "webp-lossless":
        options = {"lossless": True, "method": 4, "exact": True}  # method 6: 0.2 % smaller, 20 times slower
    elif codec.name == "jpeg":
        options = {"quality": codec.quality, "optimize": True}  # progressive: 5 % smaller, reads half as fast
        if mosaic.shape[2] == 3:
            options["subsampling"] = codec.subsampling
    elif codec.name == "avif":
        need_avif()
        options = {**_AVIF, "quality": codec.quality}
        if mosaic.shape[2] == 1:
            options["subsampling"] = "4:0:0"
    else:
        options = {"quality": codec.quality, "method": 4}
    file = io.BytesIO()
    try:
        image.save(file, _FORMATS[codec.name][0], **options)
    except ValueError as error:
        raise InputError(f"codec {codec.name} cannot be written by this Pillow ({error}); choose another") from None
    return file.getvalue()


def _residual_mosaic(patches: Pixels, layout: str) -> Pixels:
    """Residuals [rows·p, columns·p, c], and below them, pixel after pixel, the predictor of each patch."""
    m, p, _, channels = patches.shape
    rows, columns = mosaic_grid(m)
    residuals, modes = to_residuals(patches)
    if layout == RESIDUAL_TILES:
        picture = lay_out(residuals)
    else:
        cells = np.zeros((rows * columns, p, p, channels), np.uint8)
        cells[:m] = residuals
        picture = to_bands(cells, rows, columns)
    lines = np.zeros((_mode_lines(m, p, layout), columns * p, channels), np.uint8)
    if len(lines):
        lines[..., channels // 2].flat[:m] = modes  # grey, or green with nothing in red and blue
    return np.concatenate([picture, lines])


def _mode_lines(n_patches: int, patch: int, layout: str) -> int:
    """Lines of pixels that hold the predictors; patches of one pixel have none."""
    return 0 if layout == TILES or patch == 1 else -(-n_patches // (mosaic_grid(n_patches)[1] * patch))


def decode(
    data: bytes,
    codec: Codec,
    n_patches: int,
    patch: int,
    name: str,
    layout: str = TILES,
    channels: int = 3,
    order: NDArray[np.int64] | None = None,
) -> Pixels:
    """The patches [m, p, p, 3] of a mosaic file, in the mosaic's order, or cell c's as patch ``order[c]``.

    Raises:
        InputError: the file is broken, of another format than `codec`'s, or of another size than the manifest says;
            the size is checked before anything is decoded.
    """
    rows, columns = mosaic_grid(n_patches)
    expected = columns * patch, rows * patch + _mode_lines(n_patches, patch, layout)
    if codec.name == "jpeg" and codec.subsampling == "4:2:0":
        tall = _tall_pixels(data, codec, name, (expected[0] // 2, 2 * expected[1]))
        if tall is not None:
            return patches_of_tall(tall, n_patches, patch, order)
    image = _open(data, codec, name)
    if image.size != expected:
        raise InputError(
            f"{name} must be a mosaic of {expected[0]}x{expected[1]} px, got {image.size[0]}x{image.size[1]} px"
        )
    with _broken(name):
        if codec.name == "jpeg" and codec.subsampling == "4:2:0" and image.mode == "RGB":
            pixels = _decode_subsampled(image, _open(data, codec, name), patch)
        else:
            pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if layout == TILES:
        cells = take_apart(pixels, n_patches, patch)
    else:
        # some formats give grey as three equal channels
        cells = _from_residual_mosaic(pixels[..., -channels:], n_patches, patch, layout, name)
    return np.ascontiguousarray(reordered(np.broadcast_to(cells, (*cells.shape[:3], 3)), order))


def _from_residual_mosaic(pixels: Pixels, n_patches: int, patch: int, layout: str, name: str) -> Pixels:
    """The inverse of `_residual_mosaic`."""
    rows, columns = mosaic_grid(n_patches)
    picture, lines = pixels[: rows * patch], pixels[rows * patch :]
    modes = np.zeros(n_patches, np.uint8)
    if len(lines):
        modes = lines[..., lines.shape[2] // 2].reshape(-1)[:n_patches]
        if modes.max() >= MODES:
            raise InputError(f"{name} must name predictors below {MODES}, got {modes.max()}: it is damaged, or foreign")
    if layout == RESIDUAL_TILES:
        residuals = take_apart(picture, n_patches, patch)
    else:
        residuals = from_bands(picture, rows, columns, patch)[:n_patches]
    return from_residuals(residuals, modes)


def decode_picture(
    data: bytes, codec: Codec, n_patches: int, patch: int, name: str, layout: str = TILES, channels: int = 3
) -> Pixels:
    """The mosaic as an ordinary viewer shows it, [h, w, 3]; of residuals, the patches that they stand for."""
    if layout != TILES:
        return lay_out(decode(data, codec, n_patches, patch, name, layout, channels))
    image = _open(data, codec, name)
    with _broken(name):
        return np.array(image.convert("RGB"))


def need_avif() -> None:
    """Refuse AVIF where Pillow has none."""
    if not features.check("avif"):
        raise InputError("codec avif needs a Pillow that has AVIF (11.3 or newer); upgrade it, or choose another codec")


class _broken:  # noqa: N801 - reads as a clause
    """Turns Pillow's many errors on broken files into one that names the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _PILLOW_ERRORS) and not isinstance(error, InputError):
            raise InputError(f"{self.name} must be a whole image file, but cannot be decoded: {error}") from None


def _open(data: bytes, codec: Codec, name: str) -> Image.Image:
    """The image with its header read, of the codec's format, 8 bits a channel, one frame, within the size limit."""
    expected = _FORMATS[codec.name][0]
    if codec.name == "avif":
        need_avif()
    try:
        image = Image.open(io.BytesIO(data), formats=[expected])
    except UnidentifiedImageError:
        raise InputError(f"{name} must be a {expected} file, but is something else, or broken") from None
    except (*_PILLOW_ERRORS, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} must be a whole image file, but cannot be decoded: {error}") from None
    if max(image.size) > _MOST_FILE_SIDE:
        raise InputError(f"{name} must be at most {_MOST_FILE_SIDE} px a side, got {image.size[0]}x{image.size[1]}")
    if image.mode not in ("L", "RGB") or getattr(image, "n_frames", 1) != 1:
        raise InputError(f"{name} must be one grey or RGB image of 8 bits a channel, got mode {image.mode}")
    return image


def _tall_pixels(data: bytes, codec: Codec, name: str, size: tuple[int, int]) -> Pixels | None:
    """The YCbCr pixels of a 4:2:0 JPEG's tall image (`dq_fast.store.jpeg`), decoded once.

    None where it has none, or not of this size: whoever decodes it otherwise finds what is wrong.
    """
    tall = as_tall(data)
    if tall is None:
        return None
    image = _open(tall, codec, name)
    image.draft("YCbCr", image.size)
    if image.size != size or image.mode != "YCbCr":
        return None
    with _broken(name):
        return pixels_of(image)


def _decode_subsampled(full: Image.Image, half: Image.Image, patch: int) -> Pixels:
    """The RGB mosaic of a 4:2:0 JPEG, its colour interpolated within each patch; both images are not yet decoded."""
    full.draft("L", full.size)  # libjpeg then leaves the colour planes alone
    half.draft("YCbCr", (half.size[0] // 2, half.size[1] // 2))
    if full.mode != "L" or half.mode != "YCbCr" or half.size != (full.size[0] // 2, full.size[1] // 2):
        raise ValueError("its colour planes cannot be read apart")
    return rgb(np.asarray(full), np.asarray(half), patch)
