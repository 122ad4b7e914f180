"""manifest.json: what a store is, written last and checked first."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.store.arrays import write_npz
from dq_fast.store.codecs import LAYOUTS, TILES, Codec, make_codec
from dq_fast.store.journal import MANIFEST, FileRecord, ShardNote, key_name, mosaic_name
from dq_fast.store.keys import ENCRYPTION, KEYS, SEAL, KeyCipher, seal_content
from dq_fast.store.layout import grid_of

FORMAT = "dq_fast store"
VERSION = 1
SHUFFLE = "shake256-argsort"
INDEX = "index.npz"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 1 << 28  # a manifest takes about 400 bytes a shard; more than this is no manifest


@dataclass(frozen=True)
class Shard:
    """One shard as the manifest declares it: its files, the number of images and patches, grey (1) or colour (3)."""

    mosaic: FileRecord
    key: FileRecord
    images: int
    patches: int
    channels: int


def package_versions() -> dict[str, str]:
    """Versions of what decides a store's bytes; a package that is not installed is left out."""
    versions = {"python": platform.python_version()}
    for package in ("dq_fast", "torch", "numpy", "pillow"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "dq_fast" not in versions:  # run from a checkout
        from dq_fast import __version__

        versions["dq_fast"] = __version__
    return versions


def write_index(folder: Path, notes: Sequence[ShardNote]) -> None:
    """Write index.npz: per image, in the store's order, label, height, width and id."""
    names = [id.encode() for note in notes for id in note.ids]
    offsets = np.zeros(len(names) + 1, "<i8")
    np.cumsum([len(name) for name in names], out=offsets[1:])
    arrays = {
        "labels": np.array([label for note in notes for label in note.labels], "<i8"),
        "heights": np.array([height for note in notes for height in note.heights], "<i4"),
        "widths": np.array([width for note in notes for width in note.widths], "<i4"),
        "id_offsets": offsets,
        "id_bytes": np.frombuffer(b"".join(names), "|u1"),
    }
    write_npz(folder / INDEX, arrays)


def describe(
    notes: Sequence[ShardNote],
    index: FileRecord,
    *,
    patch: int,
    codec: Codec,
    shuffle: dict[str, Any],
    keys: dict[str, Any],
    patches_per_mosaic: int,
    class_names: list[str],
) -> dict[str, Any]:
    """The part of a manifest that follows from the store itself."""
    sizes = [size for note in notes for size in zip(note.heights, note.widths, strict=True)]
    grids = [grid_of(height, width, patch) for height, width in sizes]
    files = [index, *(record for note in notes for record in (note.mosaic, note.key))]
    return {
        "format": FORMAT,
        "version": VERSION,
        "patch": patch,
        "codec": codec.plain(),
        "layout": notes[0].layout if notes else TILES,
        "shuffle": {"algorithm": SHUFFLE, "patches_per_mosaic": patches_per_mosaic, **shuffle},
        "keys": keys,
        "class_names": class_names,
        "counts": {
            "images": len(sizes),
            "classes": len(class_names),
            "shards": len(notes),
            "patches": sum(note.patches for note in notes),
            "grid_patches": sum(rows * columns for rows, columns in grids),
        },
        "bytes": {
            "after": 0,
            "mosaics": sum(note.mosaic.bytes for note in notes),
            "keys": sum(note.key.bytes for note in notes),
        },
        "shards": [{"images": len(note.ids), "patches": note.patches, "channels": note.channels} for note in notes],
        "files": {record.path: {"bytes": record.bytes, "sha256": record.sha256} for record in files},
    }


def write_manifest(folder: Path, content: dict[str, Any], keys: Path, cipher: KeyCipher | None) -> None:
    """Write the seal into the folder `keys`, and manifest.json last, both counted in ``content["bytes"]``."""
    seal_bytes = len(json_bytes(seal_content(b"", cipher)))
    listed = seal_bytes + sum(record["bytes"] for record in content["files"].values())
    content["bytes"]["keys"] += seal_bytes
    content["bytes"]["after"] = listed
    while True:  # the number is part of what it counts; its digits only ever grow, so this ends
        data = json_bytes(content)
        if listed + len(data) == content["bytes"]["after"]:
            break
        content["bytes"]["after"] = listed + len(data)
    with atomic_write(keys / SEAL) as file:
        file.write(json_bytes(seal_content(data, cipher)))
    with atomic_write(folder / MANIFEST) as file:
        file.write(data)


def json_bytes(value: Any) -> bytes:
    """JSON as `dq_fast.files.write_json` writes it: equal values give equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse_json(data: bytes, where: Path) -> Any:
    """JSON that may be anything; what is none is an InputError that names it."""
    try:
        return json.loads(data)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{where} must be JSON, but is broken: {error}") from None
    except RecursionError:
        raise InputError(f"{where} must be JSON as dq_fast writes it, but is nested too deeply") from None


class Manifest:
    """A store's manifest, checked: every number and name in it has the right type and agrees with the others.

    Attributes:
        content: the JSON as it is.
        patch, codec, layout, hflip, class_names, shards: the parts that reading needs.
        index: the record of index.npz.
        n_images: images in the store.
        data: the file's bytes, which the seal is of.
        encrypted: whether position keys are.
    """

    def __init__(self, content: Any, where: Path, data: bytes = b"") -> None:
        self._where = where
        self.data = data
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{where} must be the manifest of a {FORMAT}, but is something else")
        if content.get("version") != VERSION or isinstance(content.get("version"), bool):
            raise InputError(
                f"{where} must be of format version {VERSION}, got {content.get('version')!r}; a newer dq_fast reads it"
            )
        self.content: dict[str, Any] = content
        keys = self._take(content, "keys", dict)
        if keys.get("folder", "") not in (KEYS, None) or keys.get("encryption", "") not in (ENCRYPTION, None):
            raise InputError(f"{where}: keys must be in a way that is known, got {keys!r}; a newer dq_fast reads it")
        self.encrypted = keys["encryption"] is not None
        for name, value, known in (
            ("layout", content.get("layout"), LAYOUTS),
            ("shuffle.algorithm", self._take(content, "shuffle", dict).get("algorithm"), (SHUFFLE,)),
        ):
            if value not in known:
                raise InputError(
                    f"{where}: {name} must be one of {', '.join(known)}, got {value!r}; a newer dq_fast may"
                )
        self.layout: str = content["layout"]
        self.patch: int = self._count(content, "patch", 1)
        codec = self._take(content, "codec", dict)
        try:
            self.codec: Codec = make_codec(
                str(codec.get("name")), codec.get("quality"), self.patch, codec.get("subsampling")
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if self.layout != TILES and not self.codec.lossless:
            raise InputError(f"{where}: layout must be {TILES} with a lossy codec, got {self.layout!r}")
        self.hflip: bool = self._take(content, "hflip", bool)
        self.class_names: list[str] = self._take(content, "class_names", list)
        if not all(isinstance(name, str) for name in self.class_names):
            raise InputError(f"{where}: class_names must be strings")
        self._files = self._take(content, "files", dict)
        self.index = self._file(INDEX)
        self.shards = [self._shard(number, entry) for number, entry in enumerate(self._take(content, "shards", list))]
        self.n_images: int = self._count(self._take(content, "counts", dict), "images", 0)
        declared = sum(shard.images for shard in self.shards)
        if declared != self.n_images:
            raise InputError(f"{where}: counts.images must be the shards' sum {declared}, got {self.n_images}")
        expected = {INDEX, *(record.path for shard in self.shards for record in (shard.mosaic, shard.key))}
        if set(self._files) != expected:
            name = sorted(set(self._files) ^ expected)[0]
            raise InputError(
                f"{where}: files must list the index, and each shard's mosaic and key, but not so for {name!r}"
            )

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check ``folder/manifest.json``."""
        path = folder / MANIFEST
        if not path.is_file():
            reason = "it has no manifest.json" if folder.is_dir() else "there is no such folder"
            raise InputError(f"path must be the folder of a finished store, got {folder}: {reason}")
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} must be at most {_MAX_BYTES} bytes, got {path.stat().st_size}")
        data = path.read_bytes()
        return cls(parse_json(data, path), path, data)

    def _take(self, holder: dict[str, Any], name: str, kind: type) -> Any:
        value = holder.get(name)
        if not isinstance(value, kind):
            raise InputError(f"{self._where}: {name} must be a {kind.__name__}, got {type(value).__name__}")
        return value

    def _count(self, holder: dict[str, Any], name: str, least: int) -> int:
        value = self._take(holder, name, int)
        if isinstance(value, bool) or not least <= value < 1 << 48:
            raise InputError(f"{self._where}: {name} must be a number from {least} up, got {value!r}")
        return int(value)

    def _file(self, path: str) -> FileRecord:
        """The record of a file whose name is known beforehand: names in the manifest never lead anywhere."""
        entry = self._take(self._files, path, dict)
        digest = self._take(entry, "sha256", str)
        if not _SHA256.fullmatch(digest):
            raise InputError(f"{self._where}: sha256 of {path} must be 64 lower-case hex digits, got {digest[:80]!r}")
        return FileRecord(path, self._count(entry, "bytes", 0), digest)

    def _shard(self, number: int, entry: Any) -> Shard:
        if not isinstance(entry, dict):
            raise InputError(f"{self._where}: shard {number} must be a dict, got {type(entry).__name__}")
        channels = self._count(entry, "channels", 1)
        if channels not in (1, 3):
            raise InputError(f"{self._where}: channels of shard {number} must be 1 or 3, got {channels}")
        return Shard(
            self._file(mosaic_name(number, self.codec.extension)),
            self._file(key_name(number, self.encrypted)),
            self._count(entry, "images", 1),
            self._count(entry, "patches", 1),
            channels,
        )
