"""The real images that stores are measured on, as arrays, with the bytes that they take where they come from."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SETS = ("clothing128", "cifar10", "imagenet")
_FILES = {"clothing128": "clothing128_train.parquet", "imagenet": "imagenet1000x1_224.parquet"}
QUICK = {
    "clothing128": 160,
    "cifar10": 2000,
    "imagenet": 52,
}  # images drawn unless told otherwise: two mosaics of photos


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


def load(name: str, data: Path, count: int | None, seed: int = 0) -> Images:
    """`count` images drawn at random, or all, in the order of the source.

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

    rows = pyarrow.parquet.read_table(data / _FILES[name], columns=["image"])["image"].to_pylist()
    chosen = np.sort(rng.permutation(len(rows))[:count])
    files = [rows[i]["bytes"] for i in chosen]
    images = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
    return Images(name, 16, images, sum(map(len, files)), len(rows))


def _cifar(data: Path) -> np.ndarray:
    """The 50,000 training images, or the part of them that is there, [n, 32, 32, 3]."""
    if (data / "cifar-10-batches-py").is_dir():
        from dq_fast.data import open_source

        source = open_source(str(data / "cifar-10-batches-py"))
        return np.stack([source.read(i) for i in range(len(source))])
    with np.load(data / "cifar10_ci_2000_500.npz") as arrays:
        return np.asarray(arrays["x_train"])
