"""A store as a data set of whole images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.data import Source
from dq_fast.errors import InputError
from dq_fast.progress import Progress, silent
from dq_fast.restore.fill import Fill, Mask, MeanFill, Pixels, make_fill
from dq_fast.restore.shards import ShardImages, restore_shard
from dq_fast.store.cache import ShardCache
from dq_fast.store.keys import Keys
from dq_fast.store.layout import place_patches
from dq_fast.store.reader import CACHE_BYTES, PackedStore

if TYPE_CHECKING:
    from dq_fast.restore.loading import StoreImages, StoreStream


class Store(PackedStore, Source):
    """A compressed data set: ``store[i]`` is (image uint8 [h, w, 3], label), with dropped patches filled.

    It is a map-style data set for torch's DataLoader, with workers or without, and a `Source` for training. `dataset`
    and `stream` are for loops that want transforms, batches read together, or more images than memory holds::

        DataLoader(store.dataset(transform), batch_size=128, shuffle=True, num_workers=4)
        DataLoader(store.stream(transform, batch_size=128), batch_size=128, num_workers=4)

    Args:
        path: the store's folder.
        keys: folder of the position keys, if they are not in the store's own ``keys``.
        passphrase: of encrypted keys.
        fill: "mean", "nearest", "inpaint", or a `Fill`.
        cache_bytes: restored shards kept in memory (and as much again of decoded ones where `kept` is used, or another
            fill than the mean). Random access to a data set that does not fit decodes a shard an image: then read in
            the order of `shuffled`, or by `stream`.
    """

    kind = "store"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keys: str | os.PathLike[str] | Keys | None = None,
        passphrase: str | None = None,
        fill: str | Fill = "mean",
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        super().__init__(path, keys=keys, passphrase=passphrase, cache_bytes=cache_bytes)
        self.fill = make_fill(fill)
        self.spec = str(path)
        self._restored: ShardCache[ShardImages] = ShardCache(cache_bytes, lambda entry: entry.nbytes)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "fill": self.fill}

    def __getitem__(self, i: int) -> tuple[Pixels, int]:
        """Image i, restored, and its label; IndexError behind the last."""
        return self.read(i), int(self.labels[i])

    def kept(self, i: int) -> tuple[Pixels, Mask]:
        """Image i with its dropped pixels 0, uint8 [h, w, 3], and which they are, bool [h, w]."""
        patches, positions = self.patches(i)
        height, width = self.sizes[i]
        return place_patches(patches, positions, int(height), int(width), self.patch)

    def read(self, i: int) -> Pixels:
        """Image i, restored. A shard that cannot be read is an InputError: a store has no bad images."""
        if type(self.fill) is MeanFill:
            return self.view(i).copy()
        image, dropped = self.kept(i)
        return self.fill(image, dropped) if dropped.any() else image

    def view(self, i: int) -> Pixels:
        """Image i, restored, maybe read-only: for those who only look at it. With mean fill nothing is copied."""
        if type(self.fill) is not MeanFill:
            return self.read(i)
        i = self._index(i)
        shard = self.shard_of(i)
        return self._restored.get(shard, self._restore_shard).images[i - int(self._first[shard])]

    def _restore_shard(self, number: int) -> ShardImages:
        decoded, of = self._decode(number), self.images_of(number)
        return restore_shard(decoded.patches, decoded.starts, decoded.positions, self.sizes[of.start : of.stop])

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
        if chosen is self.fill and type(chosen) is MeanFill:
            yield from map(self.__getitem__, range(len(self)) if indices is None else indices)
            return
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

    def dataset(self, transform: Callable[[Any], Any] | None = None, **options: Any) -> StoreImages:
        """The store as a map-style data set of torch; see `dq_fast.restore.loading.StoreImages`."""
        from dq_fast.restore.loading import StoreImages

        return StoreImages(self, transform, **options)

    def stream(self, transform: Callable[[Any], Any] | None = None, **options: Any) -> StoreStream:
        """The store as an iterable data set of torch; see `dq_fast.restore.loading.StoreStream`."""
        from dq_fast.restore.loading import StoreStream

        return StoreStream(self, transform, **options)

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
    path: str | os.PathLike[str],
    *,
    keys: str | os.PathLike[str] | Keys | None = None,
    passphrase: str | None = None,
    fill: str | Fill = "mean",
    mae: str | os.PathLike[str] | None = None,
) -> Store:
    """Open a finished store; see `Store`.

    `mae` is a masked autoencoder's checkpoint (docs/MAE.md) that fills the dropped patches, the same as
    ``fill="mae:CHECKPOINT"``; for other options than the defaults give ``fill=dq_fast.restore.mae.MAEFill(...)``.

    Raises:
        InputError: there is none, it is of a newer version, its manifest and index do not agree, or the keys are
            another store's, or not opened by the passphrase; or both `fill` and `mae` are given.
    """
    if mae is not None:
        if fill != "mean":
            raise InputError(f"fill must be left out where mae is given, got fill={fill!r}")
        fill = f"mae:{os.fspath(mae)}"
    return Store(path, keys=keys, passphrase=passphrase, fill=fill)
