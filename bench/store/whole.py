"""Whole images as files of their own: bytes, what is lost, and the bytes at which as little is lost as in a store."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from bench.store.quality import psnr, squared_error
from bench.store.sets import Images, pixel_mask

Masks = Mapping[float, Sequence[np.ndarray]]  # for each θ, the grid places that every image keeps
SAMPLE_PIXELS = 1 << 20  # of the images on which the quality is looked for before all are encoded


@dataclass
class Whole:
    """Images encoded one by one.

    Attributes:
        bytes: of all.
        errors: per θ, the squared error of every image's pixels that lie in kept patches [n].
    """

    bytes: int
    errors: dict[float, np.ndarray]


def options_of(codec: str, quality: int | None, patch: int) -> dict[str, Any]:
    """Pillow's defaults, with the effort and the colour resolution of the store."""
    options: dict[str, dict[str, Any]] = {
        "png": {"compress_level": 9},
        "webp-lossless": {"lossless": True, "method": 4, "exact": True},
        "jpeg": {"quality": quality, "optimize": True, "subsampling": "4:4:4" if patch % 16 else "4:2:0"},
        "webp": {"quality": quality, "method": 4},
        "avif": {"quality": quality, "subsampling": "4:4:4", "max_threads": 1},
    }
    return options[codec]


def reencode(images: Images, codec: str, quality: int | None, patch: int, kept: Masks) -> Whole:
    """Every image as a file of its own; lossless ones are not decoded."""
    options, kind = options_of(codec, quality, patch), codec.partition("-")[0].upper()
    total = 0
    errors: dict[float, list[np.ndarray]] = {drop: [] for drop in kept}
    for batch in images.batches():
        decoded = []
        for i in batch:
            file = io.BytesIO()
            Image.fromarray(images.images[i]).save(file, kind, **options)
            total += file.tell()
            if quality is not None:
                decoded.append(np.asarray(Image.open(file).convert("RGB")))
        if quality is None:
            continue
        lost = squared_error(np.stack(decoded), np.stack([images.images[i] for i in batch]))
        for drop, places in kept.items():
            mask = pixel_mask([places[i] for i in batch], lost.shape[1], lost.shape[2], patch)
            errors[drop].append(np.einsum("bhw,bhw->b", lost, mask, dtype=np.int64))
    return Whole(total, {drop: np.concatenate(e) for drop, e in errors.items() if e})


def kept_values(images: Images, patch: int, kept: Sequence[np.ndarray]) -> np.ndarray:
    """Values (three a pixel) of each image that lie in kept patches [n]."""
    counts = []
    for image, places in zip(images.images, kept, strict=True):
        counts.append(3 * int(pixel_mask([places], image.shape[0], image.shape[1], patch).sum()))
    return np.array(counts)


def crossing(psnr_at: Callable[[int], float], quality: int, wanted: float) -> int | None:
    """The lower of the two neighbouring qualities nearest to `quality` between which the PSNR `wanted` lies.

    Not bisection: of JPEG files, PSNR has a peak at the quality that they had before.
    """
    step = 1 if psnr_at(quality) < wanted else -1
    while 1 <= quality + step <= 100:
        if (psnr_at(quality + step) - wanted) * step >= 0:
            return min(quality, quality + step)
        quality += step
    return None


def bytes_at(low: tuple[float, float], high: tuple[float, float], wanted: float) -> float:
    """Bytes at a PSNR between those of two (PSNR, bytes): their logarithm is interpolated."""
    part = (wanted - low[0]) / (high[0] - low[0]) if high[0] != low[0] else 0.5
    return float(np.exp(np.log(low[1]) + part * (np.log(high[1]) - np.log(low[1]))))


class EqualQuality:
    """Bytes of whole images at the quality at which they have the PSNR that a store has, over the same kept pixels.

    Args:
        images: of the store.
        codec, patch: the store's.
        quality: the store's; where the search begins.
        kept: per θ, what was kept.
        errors: per θ, the squared error of every image's kept pixels in the store [n].
        nominal: the whole images at `quality`.
    """

    def __init__(
        self, images: Images, codec: str, quality: int, patch: int, kept: Masks, errors: Mapping[float, np.ndarray],
        nominal: Whole,
    ) -> None:  # fmt: skip
        self.images, self.codec, self.patch, self.kept = images, codec, patch, kept
        self.quality, self.errors = quality, errors
        self.values = {drop: kept_values(images, patch, places) for drop, places in kept.items()}
        self.tried = {quality: nominal}

    def _of_all(self, drop: float) -> Callable[[int], float]:
        def measure(quality: int) -> float:
            if quality not in self.tried:
                self.tried[quality] = reencode(self.images, self.codec, quality, self.patch, self.kept)
            return psnr(float(self.tried[quality].errors[drop].sum()), int(self.values[drop].sum()))

        return measure

    def _of_sample(self, drop: float) -> int | None:
        """Where the PSNR is crossed for some of the images, to begin there with all of them."""
        count = max(1, SAMPLE_PIXELS * len(self.images.images) // self.images.pixels)
        if count * 2 > len(self.images.images):
            return None
        some, chosen = self.images.some(count)
        kept = {drop: [self.kept[drop][i] for i in chosen]}
        values = int(self.values[drop][chosen].sum())

        def measure(quality: int) -> float:
            return psnr(float(reencode(some, self.codec, quality, self.patch, kept).errors[drop].sum()), values)

        return crossing(_cached(measure), self.quality, psnr(float(self.errors[drop][chosen].sum()), values))

    def bytes(self, drop: float) -> tuple[float, tuple[int, int]] | None:
        """The bytes, and the two qualities between which they are interpolated; None if none is good or bad enough."""
        wanted = psnr(float(self.errors[drop].sum()), int(self.values[drop].sum()))
        measure = self._of_all(drop)
        begin = self._of_sample(drop)
        low = crossing(measure, self.quality if begin is None else begin, wanted)
        if low is None:
            return None
        return self._between(drop, low, wanted)

    def known(self, drop: float) -> tuple[float, tuple[int, int]] | None:
        """As `bytes`, of the qualities that were tried already."""
        wanted = psnr(float(self.errors[drop].sum()), int(self.values[drop].sum()))
        measure = self._of_all(drop)
        for low in sorted(self.tried):
            if low + 1 in self.tried and (measure(low) - wanted) * (measure(low + 1) - wanted) <= 0:
                return self._between(drop, low, wanted)
        return None

    def _between(self, drop: float, low: int, wanted: float) -> tuple[float, tuple[int, int]]:
        measure = self._of_all(drop)
        ends = [(measure(quality), float(self.tried[quality].bytes)) for quality in (low, low + 1)]
        return bytes_at(ends[0], ends[1], wanted), (low, low + 1)


def _cached(measure: Callable[[int], float]) -> Callable[[int], float]:
    known: dict[int, float] = {}

    def wrapped(quality: int) -> float:
        if quality not in known:
            known[quality] = measure(quality)
        return known[quality]

    return wrapped
