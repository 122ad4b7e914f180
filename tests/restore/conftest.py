from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dq_fast.restore import Store
from dq_fast.restore import open as open_store
from dq_fast.store import StoreWriter

Images = list[np.ndarray]


@pytest.fixture
def make_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Store, Images, Images]]:
    """Writes a store of random images: (store, images, bool masks [h, w] of dropped pixels)."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the power does not go out in a test

    def make(
        n: int = 9,
        *,
        sizes: Sequence[tuple[int, int]] = ((16, 20), (7, 9)),
        patch: int = 4,
        keep: float = 0.6,
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] = ("cat", "dog"),
        codec: str = "png",
        name: str = "s",
        **options: Any,
    ) -> tuple[Store, Images, Images]:
        rng = np.random.default_rng(4)
        images, masks = [], []
        writer = StoreWriter(
            tmp_path / name, patch=patch, codec=codec, class_names=class_names, patches_per_mosaic=50, **options
        )
        for i in range(n):
            height, width = sizes[i % len(sizes)]
            columns = -(-width // patch)
            grid = -(-height // patch) * columns
            image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
            kept = np.sort(rng.choice(grid, max(1, int(keep * grid)), replace=False))
            y, x = np.mgrid[:height, :width] // patch
            images.append(image)
            masks.append(~np.isin(y * columns + x, kept))
            writer.add(ids[i] if ids else f"{i % 2}/{i:03d}.png", i % len(class_names), image, kept)
        writer.close(source={"hflip": True}, bytes_before=1)
        return open_store(tmp_path / name), images, masks

    return make
