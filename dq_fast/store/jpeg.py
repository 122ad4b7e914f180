"""The planes of a baseline 4:2:0 JPEG as they are stored, brightness and colour in one decoding.

A decoder asked for YCbCr doubles the colour planes, and libjpeg interpolates where it doubles along both axes, never
where it makes four of one. A coding unit of 4:2:0 is four blocks of brightness and one of either colour, and so is one
of brightness sampled 1 x 4: the same file with another size and sampling in its header is an image half as wide and
twice as high, whose four blocks stand in a column and whose colour lines come four times, untouched. Its pixels
rearranged are the planes, to the bit, in 0.6 of the time of decoding once for brightness and once for colour.
"""

from __future__ import annotations

import numpy as np

from dq_fast.store.layout import Pixels

_MARKER, _START, _BASELINE, _SCAN = 0xFF, 0xD8, 0xC0, 0xDA
_BLOCK, _UNIT = 8, 16  # px: of a block, of a 4:2:0 coding unit
_SUBSAMPLED = (0x22, 0x11, 0x11)  # sampling of Y, Cb and Cr in 4:2:0, and ...
_TALL = 0x14  # ... of Y that makes libjpeg repeat colour lines
_MOST = 8192  # px a side, half of it a mosaic's height: larger ones are decoded twice


def as_tall(data: bytes) -> bytes | None:
    """The file with a header of half the width, twice the height, and brightness sampled 1 x 4.

    None where that would be another image: not baseline, not 4:2:0 in whole coding units, or not all in one scan.
    """
    frame, at = None, 2
    if data[:2] != bytes([_MARKER, _START]):
        return None
    while at + 4 <= len(data) and data[at] == _MARKER:
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if kind == _SCAN:
            whole = frame is not None and body[:1] == b"\x03" and len(body) == 10
            return _patched(data, frame) if whole and frame is not None else None
        if kind == _BASELINE:
            if frame is not None or len(body) != 15 or body[5] != 3 or tuple(body[7::3]) != _SUBSAMPLED:
                return None
            frame = at + 5
        elif 0xC0 < kind < 0xD0 and kind not in (0xC4, 0xC8, 0xCC):
            return None  # another frame: progressive, lossless, arithmetic ...
        elif kind == _MARKER or length < 2:
            return None
        at += 2 + length
    return None


def _patched(data: bytes, at: int) -> bytes | None:
    """`data` with another height, width and first sampling; `at` is where the frame's height stands."""
    height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (0, 2))
    if not height or not width or height % _UNIT or width % _UNIT or 2 * height > _MOST:
        return None
    size = (2 * height).to_bytes(2, "big") + (width // 2).to_bytes(2, "big")
    return data[:at] + size + data[at + 4 : at + 6] + bytes([_TALL]) + data[at + 7 :]


def planes_of_tall(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Brightness [h, w], and [h/2, w/2, 3] with colour in its last two, of the pixels of `as_tall`.

    Args:
        pixels: YCbCr, uint8 [2h, w/2, 3 or 4].

    Returns:
        Both contiguous; what stands beside the colour has no meaning.
    """
    height, width = pixels.shape[0] // 2, pixels.shape[1] * 2
    rows, columns = height // _UNIT, width // _UNIT
    # a line of a block is what is moved, 8 px as one number
    lines = np.ascontiguousarray(pixels[..., 0]).view(np.uint64).reshape(rows, 2, 2, _BLOCK, columns)
    luma = np.ascontiguousarray(lines.transpose(0, 1, 3, 4, 2)).view(np.uint8).reshape(height, width)
    return luma, np.ascontiguousarray(pixels[::4, :, :3])
