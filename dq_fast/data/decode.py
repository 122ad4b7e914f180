"""Encoded images to RGB pixels.

What is done with images that are not plain 8-bit RGB:

- EXIF orientation is applied: the pixels are as people see them.
- Transparency (RGBA, grey + alpha, palette or colour-key) is composited on white, which is what pages and documents
  show behind such images; dropping the alpha channel would reveal whatever colour the program left there, mostly black.
- 16-bit grey is scaled by 255/65535 (rounded), not clipped. 32-bit integers and floats have no defined white: refused.
- CMYK, YCbCr and Lab are converted by Pillow (Adobe's inverted CMYK too); colour profiles are not applied.
- Of an animation the first frame is taken.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from dq_fast.errors import BadImageError

MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs: 256 MiB as RGB
# Formats that are images and nothing else: for EPS, say, Pillow would run Ghostscript. TGA comes last since it has no
# mark of its own to be known by.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "PCX", "SGI", "QOI"),
    "TGA",
)
EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".j2k", ".jpx", ".avif", ".ico", ".pcx", ".sgi", ".qoi"),
    )
)

_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_WHITE = (255, 255, 255, 255)


def decode_image(data: bytes, id: str) -> np.ndarray:
    """Decode an image file's bytes to uint8 [h, w, 3] RGB.

    Raises:
        BadImageError: with `id` and a reason of one line, for anything that is not a whole image of sensible size.
    """
    if not data:
        raise BadImageError(id, "it is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            width, height = image.size
            if width < 1 or height < 1:
                raise BadImageError(id, f"it has no pixels ({width} × {height})")
            if width * height > MAX_PIXELS:
                raise BadImageError(id, f"it has {width} × {height} pixels, more than {MAX_PIXELS}")
            image.load()
            return np.array(_oriented(_rgb(image, id), _orientation(image)), np.uint8)
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError(id, f"not an image in a known format (first bytes {data[:8].hex(' ')})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(id, f"it has more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # noqa: BLE001 - decoders of broken files raise anything: struct.error, SyntaxError, …
        text = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(id, text if isinstance(error, OSError) else f"{type(error).__name__}: {text}") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this Pillow knows."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 where there is none; broken EXIF does not make an image unreadable."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - as above
        return 1
    return value if isinstance(value, int) else 1


def _oriented(image: Image.Image, orientation: int) -> Image.Image:
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def _rgb(image: Image.Image, id: str) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I;16"):
        return _from_16_bit(np.asarray(image))
    if mode == "I" and image.format in ("PNG", "PPM"):  # older Pillow opens 16-bit grey as 32-bit integers
        return _from_16_bit(np.asarray(image))
    if mode in ("I", "F"):
        kind = "32-bit integers" if mode == "I" else "floats"
        raise BadImageError(id, f"its pixels are {kind}, which have no defined white; save it with 8 or 16 bits")
    if mode in _ALPHA_MODES or "transparency" in image.info or (image.palette and image.palette.mode.endswith("A")):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    return image.convert("RGB")


def _from_16_bit(grey: np.ndarray) -> Image.Image:
    """Grey [h, w] of 0 to 65535 to RGB; 65535 = 255·257, so adding half and dividing by 257 rounds to nearest."""
    scaled = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")
