"""The real images that stores are measured on, as arrays, with the bytes that they take where they come from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dq_fast.patches import kept_count, patch_grid

SETS = ("clothing128", "cifar10", "imagenet")
_FILES = {
    "clothing128": ("clothing128_train.parquet", "clothing128_validation.parquet", "clothing128_test.parquet"),
    "imagenet": ("imagenet1000x1_224.parquet",),
}
QUICK = {
    "clothing128": 160,
    "cifar10": 2000,
    "imagenet": 52,
}  # images drawn unless told otherwise: two mosaics of photos
_BATCH_PIXELS = 1 << 19  # of images measured together: the arrays stay in the processor's caches


@dataclass
class Images:
    """Images [h, w, 3] of one set and what each takes in the source: its file, or its raw pixels."""

    name: str
    patch: int
    images: list[np.ndarray]
    source_bytes: int
    of: int  # images in the whole set

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        return sum(image.shape[0] * image.shape[1] for image in self.images)

    def some(self, count: int) -> tuple[Images, np.ndarray]:
        """That many of them, evenly spread, and which they are; their source's bytes are not told."""
        chosen = np.unique(np.linspace(0, len(self.images) - 1, count).astype(int))
        return Images(self.name, self.patch, [self.images[i] for i in chosen], 0, self.of), chosen

    def batches(self) -> Iterator[range]:
        """All images, in runs of one size that are measured together."""
        begin = 0
        while begin < len(self.images):
            shape, end = self.images[begin].shape, begin + 1
            most = begin + max(1, _BATCH_PIXELS // (shape[0] * shape[1]))
            while end < min(most, len(self.images)) and self.images[end].shape == shape:
                end += 1
            yield range(begin, end)
            begin = end


def load(name: str, data: Path, count: int | None, seed: int = 0) -> Images:
    """`count` images drawn at random, or all, in the order of the source; training and test images.

    Args:
        name: one of `SETS`.
        data: folder with the parquet files, and for CIFAR-10 ``cifar-10-batches-py`` or ``cifar10_ci_2000_500.npz``.
        count: None is all.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    if name == "cifar10":
        arrays = _cifar(data)
        chosen = np.sort(rng.permutation(len(arrays))[:count])
        return Images(name, 4, list(arrays[chosen]), int(arrays[chosen].nbytes), len(arrays))
    import pyarrow.parquet

    tables = [pyarrow.parquet.read_table(data / file, columns=["image"]) for file in _FILES[name]]
    rows = [row for table in tables for row in table["image"].to_pylist()]
    chosen = np.sort(rng.permutation(len(rows))[:count])
    files = [rows[i]["bytes"] for i in chosen]
    images = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return Images(name, 16, images, sum(map(len, files)), len(rows))


def _cifar(data: Path) -> np.ndarray:
    """All 60,000 images, or the part of them that is there, [n, 32, 32, 3]."""
    if (data / "cifar-10-batches-py").is_dir():
        from dq_fast.data import open_source

        sources = [open_source(str(data / "cifar-10-batches-py"), split=split) for split in ("train", "test")]
        return np.stack([source.read(i) for source in sources for i in range(len(source))])
    with np.load(data / "cifar10_ci_2000_500.npz") as arrays:
        return np.concatenate([arrays["x_train"], arrays["x_test"]])


def kept_of(images: Images, patch: int, drop: float) -> list[np.ndarray]:
    """Grid places that every image keeps, int64 ascending, drawn at random."""
    rng = np.random.default_rng(0)
    kept = []
    for image in images.images:
        rows, columns = patch_grid(image.shape[0], image.shape[1], patch)
        kept.append(np.sort(rng.choice(rows * columns, kept_count(rows * columns, drop), replace=False)))
    return kept


def pixel_mask(kept: list[np.ndarray], height: int, width: int, patch: int) -> np.ndarray:
    """Which pixels lie in kept patches, bool [b, h, w], for images of one size."""
    rows, columns = patch_grid(height, width, patch)
    flags = np.zeros((len(kept), rows * columns), bool)
    for flag, places in zip(flags, kept, strict=True):
        flag[places] = True
    mask = flags.reshape(-1, rows, columns).repeat(patch, axis=1).repeat(patch, axis=2)
    return mask[:, :height, :width]
