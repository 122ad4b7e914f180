"""Writing a store, shard by shard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.store.arrays import npy_bytes
from dq_fast.store.codecs import MAX_IMAGE_PIXELS, MAX_MOSAIC_SIDE, encode, make_codec, need_avif, smallest
from dq_fast.store.journal import Journal, ShardNote, key_name, mosaic_name, record_file
from dq_fast.store.keys import ENCRYPTION, KEYS, Cost, KeyCipher, Keys, header_cost, passphrase_bytes
from dq_fast.store.layout import Pixels, cut_patches, grid_of
from dq_fast.store.manifest import INDEX, Manifest, describe, package_versions, write_index, write_manifest
from dq_fast.store.shuffle import permutation, recorded_seed, secret_seed

MOSAIC_SIDE = 1024  # px: what a mosaic is aimed at; docs/STORE.md has the measurement
WEBP_SIDE = 800  # px: of lossless WebP ...
WEBP_LEAST_PATCH = 8  # ... from this patch up; smaller ones share sets of codes at any size
MAX_ID_BYTES = 4096  # longest path a file system takes


def patches_per_mosaic(patch: int, codec: str = "jpeg") -> int:
    """The default size of a shard: a mosaic of about 1,024 x 1,024 px, for lossless WebP of 800 x 800.

    WebP's encoder has at most 2,600 sets of codes for a picture, so that above 816 px a side two patches of 16 px
    share one: 1,024 px take 5 % more (docs/STORE.md).
    """
    side = WEBP_SIDE if codec == "webp-lossless" and patch >= WEBP_LEAST_PATCH else MOSAIC_SIDE
    return max(1, side // patch) ** 2


@dataclass
class _Pending:
    """The images of the shard being filled."""

    patches: list[Pixels] = field(default_factory=list)
    masks: list[NDArray[np.uint8]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0


class StoreWriter:
    """Writes images' kept patches into a store; equal input gives equal bytes.

    Every full shard is written at once, in a thread beside the caller's work; memory is two shards (one being filled,
    one being encoded). The folder becomes a store with `close`, which writes the manifest last.

    Args:
        folder: the store to be; must be empty or not exist, unless `resume`.
        patch: patch side in px.
        codec: one of `CODECS`.
        quality: 1 to 100 for jpeg, webp and avif (default 90), None for the lossless ones.
        class_names: names of the labels 0, 1, ...
        seed: the order of patches in mosaics follows from it; recorded in the manifest.
        patches_per_mosaic: a shard is full before it would exceed this (an image of more patches is a shard alone).
        resume: take over the whole shards of an interrupted writer; go on with image number `done`.
        secret: draw every shard's seed from the operating system instead: only the key files hold it. None is yes with
            `keys` or a `passphrase`, which protect nothing when the seed stands in the manifest.
        keys: folder for the position keys, if they are to be kept elsewhere than in the store; empty, or not there yet.
        passphrase: encrypt the keys with it; needs the extra ``keys`` (the package ``cryptography``).
        hflip: whether a mirrored image is still of its class; None takes it from `close`'s source.
        background: encode in a thread.

    Attributes:
        done: images in whole shards when the writer was made; a resuming caller adds from there.

    Raises:
        InputError: parameters out of range, the folder is in use, or was begun with other parameters.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        patch: int,
        codec: str,
        quality: int | None = None,
        class_names: Sequence[str],
        seed: int = 0,
        patches_per_mosaic: int | None = None,
        resume: bool = False,
        secret: bool | None = None,
        keys: str | os.PathLike[str] | Keys | None = None,
        passphrase: str | None = None,
        hflip: bool | None = None,
        background: bool = True,
    ) -> None:
        most = (MAX_MOSAIC_SIDE // patch) ** 2 if _whole(patch, 1, MAX_MOSAIC_SIDE) else 0
        if not most:
            raise InputError(f"patch must be a whole number from 1 to {MAX_MOSAIC_SIDE}, got {patch!r}")
        if not _whole(seed, 0, 2**63 - 1):
            raise InputError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
        limit = _per_mosaic(patch, codec) if patches_per_mosaic is None else patches_per_mosaic
        if not _whole(limit, 1, most):
            raise InputError(f"patches_per_mosaic must be from 1 to {most} for {patch}-px patches, got {limit!r}")
        self.folder = Path(folder)
        self.codec = make_codec(codec, quality, patch)
        if codec == "avif":
            need_avif()
        self.patch = int(patch)
        self.class_names = _checked_names(class_names)
        self._seed = int(seed)
        self._keys = Keys.of(keys, passphrase)
        apart, encrypted = self._keys.folder is not None, self._keys.passphrase is not None
        self._secret = apart or encrypted if secret is None else bool(secret)
        if encrypted and not self._secret:
            raise InputError("secret must not be False with a passphrase: the seed would stand in the manifest")
        if self._keys.passphrase is not None:
            passphrase_bytes(self._keys.passphrase)
        self._described_keys = {"folder": None if apart else KEYS, "encryption": ENCRYPTION if encrypted else None}
        self._limit = int(limit)
        self._most = most
        self._hflip = hflip
        parameters = {
            "patch": self.patch,
            "codec": self.codec.plain(),
            "class_names": self.class_names,
            "secret": self._secret,
            "seed": None if self._secret else self._seed,
            "patches_per_mosaic": self._limit,
            "keys": self._described_keys,
        }
        self._journal = Journal(self.folder, parameters, resume=resume, keys=self._keys.folder)
        self._notes: list[ShardNote] = [] if self._journal.finished else self._journal.load()
        self.done = self._finished_images() if self._journal.finished else sum(len(n.ids) for n in self._notes)
        self._layout = self._notes[0].layout if self._notes else None  # the first shard decides it
        self._cipher = None if self._journal.finished else self._open_cipher()
        self._ids = {id for note in self._notes for id in note.ids}
        self._begun = len(self._notes)
        self._pending = _Pending()
        self._pool = ThreadPoolExecutor(1, "dq-store") if background else None
        self._encoding: Future[None] | None = None
        self._closed = False

    def _open_cipher(self) -> KeyCipher | None:
        """The cipher of the keys; a resumed store's own, so that all its keys open with one passphrase."""
        if self._keys.passphrase is None:
            return None
        if not self._notes:
            return KeyCipher.derive(self._keys.passphrase, Cost.new())
        first = self._notes[0]
        path = self._journal.place(first.key.path)
        data = path.read_bytes()
        cipher = KeyCipher.derive(self._keys.passphrase, header_cost(data, str(path)))
        try:
            cipher.decrypt(data, 0, first.mosaic.sha256, str(path))
        except InputError:
            raise InputError(f"passphrase must be the one that {self.folder} was begun with, got another") from None
        return cipher

    def _finished_images(self) -> int:
        return Manifest.read(self.folder).n_images

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def add(self, id: str, label: int, image: Pixels, kept: NDArray[np.int64]) -> None:
        """Add an image.

        Args:
            id: stable id, unique in the store, at most 4,096 bytes of UTF-8.
            label: index into class_names.
            image: uint8 [h, w, 3].
            kept: int64 [k], k >= 1, ascending row-major positions in the grid of ceil(h / patch) x ceil(w / patch).

        Raises:
            InputError: an argument is not so, or the image has more patches than a mosaic holds.
        """
        if self._journal.finished or self._closed:
            raise InputError(f"the store {self.folder} is finished; nothing can be added to it")
        self._check_id(id)
        if not _whole(label, 0, len(self.class_names) - 1):
            raise InputError(f"label of {id!r} must be from 0 to {len(self.class_names) - 1}, got {label!r}")
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise InputError(f"image {id!r} must be uint8 [h, w, 3], got {got}")
        if not 1 <= image.shape[0] * image.shape[1] <= MAX_IMAGE_PIXELS:
            raise InputError(f"image {id!r} must have from 1 to {MAX_IMAGE_PIXELS} pixels, got shape {image.shape}")
        rows, columns = grid_of(image.shape[0], image.shape[1], self.patch)
        kept = np.asarray(kept)
        if kept.ndim != 1 or not len(kept) or kept.dtype.kind not in "iu":
            raise InputError(f"kept of {id!r} must be int64 [k] with k >= 1, got {kept.dtype} {kept.shape}")
        kept = kept.astype(np.int64)
        if kept[0] < 0 or kept[-1] >= rows * columns or (np.diff(kept) <= 0).any():
            raise InputError(f"kept of {id!r} must ascend within 0 to {rows * columns - 1}, got {kept[:8]} ...")
        if len(kept) > self._most:
            raise InputError(
                f"image {id!r} must have at most {self._most} patches of {self.patch} px, got {len(kept)}; "
                f"scale it down"
            )
        if self._pending.count and self._pending.count + len(kept) > self._limit:
            self._flush()
        mask = np.zeros(rows * columns, bool)
        mask[kept] = True
        pending = self._pending
        pending.patches.append(cut_patches(image, kept, self.patch))
        pending.masks.append(np.packbits(mask, bitorder="little"))
        pending.ids.append(id)
        pending.labels.append(int(label))
        pending.sizes.append((image.shape[0], image.shape[1]))
        pending.count += len(kept)
        self._ids.add(id)

    def _check_id(self, id: str) -> None:
        if not isinstance(id, str):
            raise InputError(f"id must be a string, got {type(id).__name__}")
        try:
            length = len(id.encode())
        except UnicodeEncodeError:
            raise InputError(f"id must be text that UTF-8 can hold, got {id!r}") from None
        if length > MAX_ID_BYTES:
            raise InputError(f"id must be at most {MAX_ID_BYTES} bytes, got {length}: {id[:40]!r}...")
        if id in self._ids:
            raise InputError(f"id must be unique in the store, got {id!r} twice")

    def _flush(self) -> None:
        """Hand the full shard to the thread; wait for the one before, so that no more than one is being encoded."""
        self._wait()
        pending, self._pending = self._pending, _Pending()
        shard = self._begun
        self._begun += 1
        if self._pool is None:
            self._write_shard(shard, pending)
        else:
            self._encoding = self._pool.submit(self._write_shard, shard, pending)

    def _wait(self) -> None:
        if self._encoding is not None:
            encoding, self._encoding = self._encoding, None
            encoding.result()

    def _write_shard(self, shard: int, pending: _Pending) -> None:
        """Mosaic, key, and last the journal's note that both are whole."""
        seed = secret_seed() if self._secret else recorded_seed(self._seed, shard)
        patches = np.concatenate(pending.patches)
        if (patches[..., 0] == patches[..., 1]).all() and (patches[..., 0] == patches[..., 2]).all():
            patches = patches[..., :1]
        mosaic, key = mosaic_name(shard, self.codec.extension), key_name(shard, self._cipher is not None)
        shuffled = patches[permutation(seed, shard, len(patches))]
        if self._layout is None:
            self._layout, content = smallest(shuffled, self.codec)
        else:
            content = encode(shuffled, self.codec, self._layout)
        with atomic_write(self._journal.place(mosaic)) as file:
            file.write(content)
        record = record_file(self._journal.place(mosaic), mosaic)
        secret = npy_bytes(np.concatenate([np.frombuffer(seed, np.uint8), *pending.masks]))
        with atomic_write(self._journal.place(key)) as file:
            file.write(secret if self._cipher is None else self._cipher.encrypt(secret, shard, record.sha256))
        note = ShardNote(
            record,
            record_file(self._journal.place(key), key),
            len(patches),
            patches.shape[3],
            self._layout,
            pending.ids,
            pending.labels,
            [height for height, _ in pending.sizes],
            [width for _, width in pending.sizes],
        )
        self._journal.write(shard, note)
        self._notes.append(note)

    def close(
        self,
        *,
        source: dict[str, Any] | None = None,
        parameters: dict[str, Any] | None = None,
        bytes_before: int = 0,
        counts: dict[str, Any] | None = None,
        versions: dict[str, str] | None = None,
    ) -> None:
        """Write the last shard, the index, and the manifest.

        Args:
            source: what the images come from (spec, kind, fingerprint ...), as JSON.
            parameters: what chose them (keep, drop ...), as JSON.
            bytes_before: bytes of the images in the source.
            counts: more counts for the manifest, as JSON; those of the store itself are added.
            versions: package versions; None reads those of dq_fast, torch, numpy and Pillow.
        """
        if self._closed or self._journal.finished:
            self.abandon()
            return
        if self._pending.count:
            self._flush()
        self._wait()
        self.abandon()
        write_index(self.folder, self._notes)
        source = dict(source or {})
        hflip = source.get("hflip", True) if self._hflip is None else self._hflip
        content = describe(
            self._notes,
            record_file(self.folder / INDEX, INDEX),
            patch=self.patch,
            codec=self.codec,
            keys=self._described_keys,
            shuffle={"seed": None if self._secret else self._seed, "secret": self._secret},
            patches_per_mosaic=self._limit,
            class_names=self.class_names,
        )
        content["hflip"] = bool(hflip)
        content["source"] = source
        content["parameters"] = parameters or {}
        content["versions"] = package_versions() if versions is None else versions
        content["bytes"]["before"] = int(bytes_before)
        content["counts"] = {**(counts or {}), **content["counts"]}
        write_manifest(self.folder, content, self._journal.keys, self._cipher)
        self._journal.remove()

    def abandon(self) -> None:
        """Stop without closing: whole shards stay for `resume`, the unfinished one is forgotten."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=True)


def _checked_names(names: Sequence[str]) -> list[str]:
    names = list(names)
    for name in names:
        if not isinstance(name, str) or name != name.encode(errors="replace").decode():
            raise InputError(f"class_names must be strings that UTF-8 can hold, got {name!r}")
    return names


_per_mosaic = patches_per_mosaic  # the writer has a parameter of that name


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and least <= int(value) <= most
