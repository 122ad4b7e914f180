"""Stores of real images, with the default codecs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dq_fast.patches import kept_count
from dq_fast.store import PackedStore, StoreWriter, default_codec

from .cases import Sample, cut


def pack(folder: Path, images: list[np.ndarray], patch: int, drop: float) -> tuple[PackedStore, list[Sample]]:
    rng = np.random.default_rng(0)
    codec, quality = default_codec(*images[0].shape[:2])
    items = []
    writer = StoreWriter(folder, patch=patch, codec=codec, quality=quality, class_names=["all"])
    for i, image in enumerate(images):
        grid = -(-image.shape[0] // patch) * -(-image.shape[1] // patch)
        kept = np.sort(rng.choice(grid, kept_count(grid, drop), replace=False))
        items.append(Sample(f"{i:05d}", 0, image, kept))
        writer.add(items[-1].id, 0, image, kept)
    writer.close(bytes_before=sum(image.nbytes for image in images))
    store = PackedStore(folder)
    assert store.verify() == []
    return store, items


def test_cifar_comes_back_bit_for_bit(real_data, tmp_path):
    images = list(np.load(real_data / "cifar10_ci_2000_500.npz")["x_test"])
    store, items = pack(tmp_path / "s", images, 4, 0.2)
    assert store.codec.name == "webp-lossless"
    for i, item in enumerate(items):
        patches, positions = store.patches(i)
        assert (positions == item.kept).all()
        tiles = item.image.reshape(8, 4, 8, 4, 3).swapaxes(1, 2).reshape(64, 4, 4, 3)
        assert (patches == tiles[item.kept]).all()
    assert (patches == cut(item, 4)).all()
    assert store.manifest["bytes"]["after"] < 0.55 * store.manifest["bytes"]["before"]


def test_photos_take_less_than_their_share_and_look_as_good(real_data, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(real_data / "clothing128_validation.parquet")["image"].to_pylist()
    images = [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows]
    whole, error = 0, []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90, optimize=True)
        whole += len(file.getvalue())
        error.append(np.mean((np.asarray(Image.open(file)).astype(float) - image) ** 2))
    store, items = pack(tmp_path / "s", images, 16, 0.2)
    assert store.codec.name == "jpeg"
    assert store.manifest["bytes"]["after"] < 0.85 * whole
    ours = [np.mean((store.patches(i)[0].astype(float) - cut_fast(item)) ** 2) for i, item in enumerate(items)]
    loss = 10 * np.log10(np.mean(ours) / np.mean(error))
    assert loss < 3.5  # dB; decoded in the ordinary way it is above 10
    assert 10 * np.log10(255**2 / np.mean(ours)) > 40


def cut_fast(item: Sample) -> np.ndarray:
    height, width = (side // 16 for side in item.image.shape[:2])
    assert item.image.shape == (height * 16, width * 16, 3)
    return item.image.reshape(height, 16, width, 16, 3).swapaxes(1, 2).reshape(-1, 16, 16, 3)[item.kept]
