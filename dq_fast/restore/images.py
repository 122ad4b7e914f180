"""A store as a data set of whole images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.data import Source
from dq_fast.errors import InputError
from dq_fast.progress import Progress, silent
from dq_fast.restore.fill import Fill, Mask, Pixels, make_fill
from dq_fast.store.layout import place_patches
from dq_fast.store.reader import CACHE_BYTES, PackedStore


class Store(PackedStore, Source):
    """A compressed data set: ``store[i]`` is (image uint8 [h, w, 3], label), with dropped patches filled.

    It is a map-style data set for torch's DataLoader, with workers or without, and a `Source` for training::

        class Train(torch.utils.data.Dataset):
            def __init__(self, store, transform): self.store, self.transform = store, transform
            def __len__(self): return len(self.store)
            def __getitem__(self, i):
                image, label = self.store[i]
                return self.transform(image), label

        DataLoader(Train(dq.open("photos.dq"), transform), batch_size=128, shuffle=True, num_workers=4)

    Args:
        path: the store's folder.
        keys: folder of the position keys, if they are not in the store's own ``keys``.
        fill: "mean", "nearest", "inpaint", or a `Fill`.
        cache_bytes: decoded shards kept in memory. Random access to a data set that does not fit decodes a shard an
            image: then read in the order of `shuffled`.
    """

    kind = "store"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keys: str | os.PathLike[str] | None = None,
        fill: str | Fill = "mean",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(path, keys=keys, cache_bytes=cache_bytes)
        self.fill = make_fill(fill)
        self.spec = str(path)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "fill": self.fill}

    def __getitem__(self, i: int) -> tuple[Pixels, int]:
        """Image i, restored, and its label; IndexError behind the last."""
        image, dropped = self.kept(i)
        label = int(self.labels[i])
        return (self.fill(image, dropped) if dropped.any() else image), label

    def kept(self, i: int) -> tuple[Pixels, Mask]:
        """Image i with its dropped pixels 0, uint8 [h, w, 3], and which they are, bool [h, w]."""
        patches, positions = self.patches(i)
        height, width = self.sizes[i]
        return place_patches(patches, positions, int(height), int(width), self.patch)

    def read(self, i: int) -> Pixels:
        """Image i, restored. A shard that cannot be read is an InputError: a store has no bad images."""
        return self[i][0]

    def size_of(self, i: int) -> int:
        """Bytes of image i in the store: its shard's mosaic and key, shared evenly among the shard's images."""
        shard = self._checked.shards[self.shard_of(self._index(i))]
        return -(-(shard.mosaic.bytes + shard.key.bytes) // shard.images)

    def fingerprint(self) -> str:
        """SHA-256 of the manifest, which holds those of every file."""
        return hashlib.sha256((self.path / "manifest.json").read_bytes()).hexdigest()

    def restore(
        self, indices: Iterable[int] | None = None, fill: str | Fill | None = None
    ) -> Iterator[tuple[Pixels, int]]:
        """Restored images one after another, each with its label.

        Args:
            indices: which; None is all, in the store's order (every shard is decoded once).
            fill: another fill than the store's.
        """
        chosen = self.fill if fill is None else make_fill(fill)
        batch: list[tuple[Pixels, Mask, int]] = []
        for i in range(len(self)) if indices is None else indices:
            batch.append((*self.kept(i), int(self.labels[i])))
            if len(batch) == chosen.batch_size:
                yield from _filled(chosen, batch)
                batch = []
        yield from _filled(chosen, batch)

    def shuffled(self, seed: int, *, window: int = 8) -> NDArray[np.int64]:
        """Every image once [n], in an order that is random yet reads fast when not all decoded shards fit in memory.

        Shards are shuffled, taken `window` at a time, and the images of those shuffled together: a permutation for a
        sampler, with `window` decoded shards in memory.
        """
        if window < 1:
            raise InputError(f"window must be at least 1, got {window}")
        generator = np.random.default_rng(seed)
        shards = generator.permutation(self.n_shards)
        order: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        for begin in range(0, len(shards), window):
            images = np.concatenate([np.asarray(self.images_of(int(s))) for s in shards[begin : begin + window]])
            order.append(generator.permutation(images))
        return np.concatenate(order)

    def export(
        self,
        folder: str | os.PathLike[str],
        *,
        fill: str | Fill | None = None,
        format: str | None = None,
        progress: Progress = silent,
    ) -> Path:
        """Write restored images as an ImageFolder, ``<class name>/<id>.png``; see `dq_fast.restore.export.export`."""
        from dq_fast.restore.export import export

        return export(self, folder, fill=fill, format=format, progress=progress)


def _filled(fill: Fill, batch: list[tuple[Pixels, Mask, int]]) -> Iterator[tuple[Pixels, int]]:
    if batch:
        images = fill.batch([image for image, _, _ in batch], [dropped for _, dropped, _ in batch])
        for image, (_, _, label) in zip(images, batch, strict=True):
            yield image, label


def open(
    path: str | os.PathLike[str], *, keys: str | os.PathLike[str] | None = None, fill: str | Fill = "mean"
) -> Store:
    """Open a finished store; see `Store`.

    Raises:
        InputError: there is none, it is of a newer version, or its manifest and index do not agree.
    """
    return Store(path, keys=keys, fill=fill)
