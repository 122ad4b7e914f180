"""Reading a store: patches and their places, image by image, from shards decoded once."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.store.arrays import parse_npy, read_npz
from dq_fast.store.cache import ShardCache
from dq_fast.store.codecs import MAX_IMAGE_PIXELS, MAX_MOSAIC_SIDE, decode, decode_picture
from dq_fast.store.journal import FileRecord
from dq_fast.store.keys import KEYS, SEAL, Keys, check_seal
from dq_fast.store.layout import Pixels
from dq_fast.store.manifest import Manifest, Shard, parse_json
from dq_fast.store.shuffle import SEED_BYTES, permutation
from dq_fast.store.writer import MAX_ID_BYTES

CACHE_BYTES = 256 << 20  # decoded shards kept: 80 of the default size
_MAX_SEAL_BYTES = 1 << 16  # it has about 500


@dataclass(frozen=True)
class _Decoded:
    """A shard in image order: patches [m, p, p, 3], and per image where its patches begin and which they are."""

    patches: Pixels
    starts: NDArray[np.int64]
    positions: NDArray[np.int64]


class PackedStore:
    """A finished store. Opening it reads the manifest and the index, checked; shards are read and checked when needed.

    Safe to use from several threads, and in worker processes: a pickled store is reopened by its path.

    Args:
        path: the store's folder.
        keys: folder of the position keys, if they are not in the store's own ``keys``.
        passphrase: of encrypted keys. Without it, and without keys, everything can be read that needs none.
        cache_bytes: decoded shards kept in memory, in bytes; at least one shard is kept.

    Attributes:
        path: the store's folder, absolute.
        manifest: the content of manifest.json.
        ids: stable ids, in the store's order.
        labels: int64 [n].
        sizes: heights and widths, int64 [n, 2].
        class_names: names of the labels.
        hflip: whether a mirrored image is still of its class.

    Raises:
        InputError: this is no finished store, or of another version, or its manifest and index do not agree.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keys: str | os.PathLike[str] | Keys | None = None,
        passphrase: str | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = Path(path).absolute()
        self._keys = Keys.of(keys, passphrase)
        self._cache_bytes = cache_bytes
        self._checked = Manifest.read(self.path)
        self.manifest: dict[str, Any] = self._checked.content
        self.patch = self._checked.patch
        self.codec = self._checked.codec
        self.class_names = self._checked.class_names
        self.hflip = self._checked.hflip
        self._read_index()
        first = np.zeros(len(self._checked.shards) + 1, np.int64)
        np.cumsum([shard.images for shard in self._checked.shards], out=first[1:])
        self._ends: list[int] = first[1:].tolist()  # searched faster than an array, and it is asked for every image
        self._first = first  # shard s holds the images first[s] to first[s + 1] - 1
        self._check_shards()
        self._cache: ShardCache[_Decoded] = ShardCache(cache_bytes, lambda entry: entry.patches.nbytes)
        self._sealed = False
        if self._keys.folder is not None and not self._keys.folder.is_dir():
            raise InputError(f"keys must be the folder of the store's position keys, got {self._keys.folder}")
        locked = self._checked.encrypted and self._keys.passphrase is None and self._keys.cipher is None
        if (self.keys_folder / SEAL).is_file() and not locked:
            self.unlock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.path, self._options())

    def _options(self) -> dict[str, Any]:
        """Keyword arguments that open this store again."""
        return {"keys": self._keys, "cache_bytes": self._cache_bytes}

    def __len__(self) -> int:
        return self._checked.n_images

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self._checked.shards)

    @property
    def keys_folder(self) -> Path:
        """Where position keys are looked for."""
        return self.path / KEYS if self._keys.folder is None else self._keys.folder

    def unlock(self) -> None:
        """Check that the keys are this store's, unchanged, and that the passphrase opens them, if it is not done yet.

        Opening a store does this where keys are there, and a passphrase if they need one; else the first patch does.

        Raises:
            InputError: keys are missing or another store's, the manifest was changed, or the passphrase is wrong or
                missing.
        """
        if self._sealed:
            return
        path = self.keys_folder / SEAL
        if not path.is_file():
            raise self._missing(path)
        if path.stat().st_size > _MAX_SEAL_BYTES:
            raise InputError(f"{path} must be at most {_MAX_SEAL_BYTES} bytes, got {path.stat().st_size}")
        cipher = check_seal(parse_json(path.read_bytes(), path), self._checked.data, self._keys, path)
        if (cipher is not None) != self._checked.encrypted:
            raise InputError(f"{path} and manifest.json must agree whether keys are encrypted, but do not")
        self._keys = Keys(self._keys.folder, None, cipher)  # the passphrase is not needed any more
        self._sealed = True

    def _missing(self, path: Path) -> InputError:
        return InputError(
            f"position keys of {self.path} are missing: there is no {path}; without them patches cannot be put "
            f"back; give keys=FOLDER (--keys FOLDER) if they are kept elsewhere"
        )

    def shard_of(self, i: int) -> int:
        """Number of the shard that holds image i."""
        return bisect.bisect_right(self._ends, i)

    def images_of(self, shard: int) -> range:
        """The images of a shard: read in runs of these, every shard is decoded once."""
        return range(int(self._first[shard]), int(self._first[shard + 1]))

    def patches(self, i: int) -> tuple[Pixels, NDArray[np.int64]]:
        """The kept patches [k, p, p, 3] of image i and their ascending row-major grid positions [k]; both read-only.

        Raises:
            InputError: the position keys are not there, or a file is missing, damaged, or not what the manifest says.
        """
        shard = self.shard_of(self._index(i))
        decoded = self._decoded(shard)
        local = self._index(i) - int(self._first[shard])
        part = slice(int(decoded.starts[local]), int(decoded.starts[local + 1]))
        return decoded.patches[part], decoded.positions[part]

    def mosaic(self, shard: int) -> Pixels:
        """The mosaic of a shard as any viewer shows it, uint8 [h, w, 3]; needs no keys."""
        if not 0 <= shard < self.n_shards:
            raise InputError(f"shard must be from 0 to {self.n_shards - 1}, got {shard}")
        one = self._checked.shards[shard]
        name, data = one.mosaic.path, self._load(one.mosaic, self.path / one.mosaic.path)
        return decode_picture(data, self.codec, one.patches, self.patch, name, self._checked.layout, one.channels)

    def verify(self) -> list[str]:
        """Check every file against the manifest and decode it; returns what is wrong, one line each."""
        from dq_fast.store.verify import find_problems

        return find_problems(self)

    def _index(self, i: int) -> int:
        n = len(self)
        if not -n <= i < n:
            raise IndexError(f"i must be from 0 to {n - 1}, got {i}")
        return int(i) % n

    def _read_index(self) -> None:
        n = len(self)
        name = str(self.path / self._checked.index.path)
        data = self._load(self._checked.index, self.path / self._checked.index.path)
        expected = {
            "labels": ("<i8", 8 * n),
            "heights": ("<i4", 4 * n),
            "widths": ("<i4", 4 * n),
            "id_offsets": ("<i8", 8 * (n + 1)),
            "id_bytes": ("|u1", MAX_ID_BYTES * n),
        }
        arrays = read_npz(data, expected, name)
        offsets = arrays["id_offsets"]
        for array in ("labels", "heights", "widths"):
            if len(arrays[array]) != n:
                raise InputError(f"{array} in {name} must have {n} entries, got {len(arrays[array])}")
        lengths = np.diff(offsets)
        if len(offsets) != n + 1 or offsets[0] != 0 or offsets[-1] != len(arrays["id_bytes"]) or (lengths < 0).any():
            raise InputError(f"id_offsets in {name} must ascend from 0 to the length of id_bytes, with {n + 1} entries")
        self.labels: NDArray[np.int64] = arrays["labels"].astype(np.int64)
        self.sizes = np.stack([arrays["heights"], arrays["widths"]], axis=1).astype(np.int64)
        if n and (self.labels.min() < 0 or self.labels.max() >= len(self.class_names)):
            raise InputError(f"labels in {name} must be from 0 to {len(self.class_names) - 1}")
        if n and self.sizes.min() < 1:
            raise InputError(f"heights and widths in {name} must be at least 1")
        text = arrays["id_bytes"].tobytes()
        try:
            self.ids: Sequence[str] = [text[a:b].decode() for a, b in itertools.pairwise(offsets.tolist())]
        except UnicodeDecodeError as error:
            raise InputError(f"id_bytes in {name} must be UTF-8: {error}") from None
        if len(set(self.ids)) != n:
            raise InputError(f"ids in {name} must be unique")

    def _check_shards(self) -> None:
        """Sizes that would make a reader allocate more than the images can need are refused before anything is read."""
        if len(self) and self.sizes.prod(axis=1).max() > MAX_IMAGE_PIXELS:
            raise InputError(
                f"an image in {self.path} must have at most {MAX_IMAGE_PIXELS} pixels, got {self.sizes.max(0)}"
            )
        self._grids: NDArray[np.int64] = np.prod(-(-self.sizes // self.patch), axis=1)
        most = (MAX_MOSAIC_SIDE // self.patch) ** 2
        for number, shard in enumerate(self._checked.shards):
            grids = self._grids[self._first[number] : self._first[number + 1]]
            if not len(grids) <= shard.patches <= min(int(grids.sum()), most):
                most = min(int(grids.sum()), most)
                raise InputError(
                    f"patches of shard {number} in {self.path} must be from {len(grids)} to {most}, got {shard.patches}"
                )

    def _load(self, record: FileRecord, path: Path) -> bytes:
        """A file's bytes, if they are those that the manifest tells of."""
        try:
            size = path.stat().st_size
            if size != record.bytes:
                raise InputError(f"{path} must have {record.bytes} bytes, got {size}: it is damaged or was replaced")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} is listed in the manifest, but cannot be read: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise InputError(
                f"{path} must have SHA-256 {record.sha256}, but has another: it is damaged or was replaced"
            )
        return data

    def _decoded(self, number: int) -> _Decoded:
        return self._cache.get(number, self._decode)

    def _decode(self, number: int) -> _Decoded:
        shard = self._checked.shards[number]
        seed, starts, positions = self._read_key(number, shard)
        data = self._load(shard.mosaic, self.path / shard.mosaic.path)
        patches = self._decode_mosaic(shard, data, permutation(seed, number, shard.patches))
        for array in (patches, positions):
            array.setflags(write=False)  # they are shared by everyone who asks
        return _Decoded(patches, starts, positions)

    def _decode_mosaic(self, shard: Shard, data: bytes, order: NDArray[np.int64] | None = None) -> Pixels:
        """The shard's patches [m, p, p, 3], in the mosaic's order or as `order` says."""
        name = str(self.path / shard.mosaic.path)
        return decode(data, self.codec, shard.patches, self.patch, name, self._checked.layout, shard.channels, order)

    def _read_key(self, number: int, shard: Shard) -> tuple[bytes, NDArray[np.int64], NDArray[np.int64]]:
        """Seed, and the kept positions of the shard's images one after another with where each image's begin."""
        path = self.keys_folder / Path(shard.key.path).name
        if not path.is_file():
            raise self._missing(path)
        self.unlock()
        data = self._load(shard.key, path)
        if self._keys.cipher is not None:
            data = self._keys.cipher.decrypt(data, number, shard.mosaic.sha256, str(path))
        content = parse_npy(data, "|u1", str(path))
        grids = self._grids[self._first[number] : self._first[number + 1]]
        masks = -(-grids // 8)
        if len(content) != SEED_BYTES + masks.sum():
            raise InputError(f"{path} must hold {SEED_BYTES + masks.sum()} bytes, seed and masks, got {len(content)}")
        bits = np.flatnonzero(np.unpackbits(content[SEED_BYTES:], bitorder="little"))
        first_bits = 8 * np.cumsum([0, *masks[:-1]])
        image = np.searchsorted(first_bits, bits, side="right") - 1
        positions = bits - first_bits[image]
        counts = np.bincount(image, minlength=len(grids))
        if (positions >= grids[image]).any() or not counts.all():
            raise InputError(f"{path} must keep at least one patch of every image, and none outside of it")
        if len(positions) != shard.patches:
            raise InputError(f"{path} must keep {shard.patches} patches as the manifest says, got {len(positions)}")
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return content[:SEED_BYTES].tobytes(), starts, positions.astype(np.int64)


def _reopen(kind: type[PackedStore], path: Path, options: dict[str, Any]) -> PackedStore:
    return kind(path, **options)
