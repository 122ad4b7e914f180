"""What stands where patches were dropped: one interface, `Fill`, and the simple ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError, missing_extra

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_INPAINT_RADIUS = 3.0  # px, the neighbourhood that OpenCV's own examples use
_INPAINT_LEAST = 3  # px a side: on a single line OpenCV reads beside the image; such images get the nearest pixels
_NEAREST_CELLS = 1 << 22  # distances held at a time by NearestFill: 32 MB


class Fill(ABC):
    """Fills the dropped pixels of an image.

    ``fill(image, dropped) -> image``: uint8 [h, w, 3] and bool [h, w], True where a pixel is missing, at least one
    False; returns a new image, kept pixels as they were. `batch` is for fills that are faster on many images; images
    may differ in size. `batch_size` tells how many are worth collecting.
    """

    batch_size = 1

    @abstractmethod
    def __call__(self, image: Pixels, dropped: Mask) -> Pixels:
        """Fill one image."""

    def batch(self, images: Sequence[Pixels], dropped: Sequence[Mask]) -> list[Pixels]:
        """Fill several images."""
        return [self(image, mask) for image, mask in zip(images, dropped, strict=True)]


class MeanFill(Fill):
    """Every dropped pixel is the mean of the image's kept pixels, per channel, rounded."""

    def __call__(self, image: Pixels, dropped: Mask) -> Pixels:  # noqa: D102
        filled: Pixels = image.copy()
        missing = np.flatnonzero(dropped)
        if len(missing):
            pixels = filled.reshape(-1, 3)
            # all less the missing ones, summed line by line: five times as fast as taking the kept ones out
            lines = image.reshape(image.shape[0], -1).sum(axis=0, dtype=np.int64)
            total = lines.reshape(-1, 3).sum(axis=0) - pixels[missing].sum(axis=0, dtype=np.int64)
            pixels[missing] = np.rint(total / (len(pixels) - len(missing))).astype(np.uint8)
        return filled


class NearestFill(Fill):
    """Every dropped pixel is its nearest kept pixel (Euclidean; ties to the leftmost column, then the upper row)."""

    def __call__(self, image: Pixels, dropped: Mask) -> Pixels:  # noqa: D102
        filled: Pixels = image.copy()
        if not dropped.any():
            return filled
        width = dropped.shape[1]
        nearest_row, down = _nearest_in_column(~dropped)
        across = _nearest_in_column(~dropped.T)[1].T
        ys, xs = np.nonzero(dropped)
        # nothing farther than the nearest pixel straight up, down, left or right can be nearer
        reach = int(np.minimum(down, across)[ys, xs].max())
        window = np.arange(-reach, reach + 1)
        step = max(1, _NEAREST_CELLS // len(window))
        for begin in range(0, len(ys), step):
            y, x = ys[begin : begin + step, None], xs[begin : begin + step, None]
            columns = np.clip(x + window, 0, width - 1)
            squared = (x - columns) ** 2 + down[y, columns] ** 2
            best = np.take_along_axis(columns, squared.argmin(axis=1)[:, None], axis=1)
            filled[y, x] = image[nearest_row[y, best], best]
        return filled


def _nearest_in_column(kept: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each pixel the row of the nearest kept one in its column, upper first, and how far it is.

    A column without any kept pixel has a distance larger than any real one.
    """
    height, width = kept.shape
    rows = np.arange(height)[:, None]
    far = 2 * (height + width)
    above = np.maximum.accumulate(np.where(kept, rows, -far), axis=0)
    below = np.minimum.accumulate(np.where(kept, rows, height + far)[::-1], axis=0)[::-1]
    nearest = np.where(rows - above <= below - rows, above, below)
    return np.clip(nearest, 0, height - 1), np.abs(nearest - rows)


class InpaintFill(Fill):
    """OpenCV's inpainting by fast marching (Telea 2004); needs the extra ``inpaint``."""

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError:
            raise missing_extra("opencv-python-headless", "inpaint", "fill='inpaint'") from None
        del cv2  # asked for only so that its absence is known at once

    def __call__(self, image: Pixels, dropped: Mask) -> Pixels:  # noqa: D102
        import cv2

        # it looks at what stands behind the mask, at the image's border above all: something sensible has to
        filled = NearestFill()(image, dropped)
        if dropped.any() and min(dropped.shape) >= _INPAINT_LEAST:
            mask = dropped.astype(np.uint8)
            filled[:] = cv2.inpaint(filled, mask, _INPAINT_RADIUS, cv2.INPAINT_TELEA)
        return filled


_FILLS: dict[str, type[Fill]] = {"mean": MeanFill, "nearest": NearestFill, "inpaint": InpaintFill}
FILLS = tuple(_FILLS)
_MAE = "mae:"


def make_fill(fill: str | Fill) -> Fill:
    """The fill of that name, or `fill` itself; "mae:CHECKPOINT" is a masked autoencoder (docs/MAE.md)."""
    if isinstance(fill, Fill):
        return fill
    if isinstance(fill, str) and fill.startswith(_MAE):
        from dq_fast.restore.mae import MAEFill

        return MAEFill(fill.removeprefix(_MAE))
    if not isinstance(fill, str) or fill not in _FILLS:
        raise InputError(f"fill must be one of {', '.join(FILLS)}, mae:CHECKPOINT, or a Fill, got {fill!r}")
    return _FILLS[fill]()
