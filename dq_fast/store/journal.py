"""What a writer has finished, so that an interrupted one can go on: a folder ``.writing`` inside the store.

``.writing/writer.json`` holds the writer's parameters, ``.writing/00000.json`` one finished shard. A shard's note is
written after its mosaic and its key, atomically: where there is a note, there is a whole shard. The folder goes when
the store is closed; readers go by manifest.json, which is written last.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dq_fast.errors import InputError
from dq_fast.files import read_json, sha256_file, write_json
from dq_fast.store.keys import ENCRYPTED_SUFFIX, KEYS, PLAIN_SUFFIX, SEAL

MANIFEST = "manifest.json"
JOURNAL = ".writing"
# what a killed atomic_write leaves of a shard's file, a key, the seal; a folder of keys may hold other things too
_PARTIAL = re.compile(r"\.(\d{5,}\.\w+|seal\.json|writer\.json|index\.npz|manifest\.json)\..*\.part")
_KEY_FILE = re.compile(rf"\d{{5,}}\.({PLAIN_SUFFIX}|{ENCRYPTED_SUFFIX})")


@dataclass
class FileRecord:
    """A file of the store: its path inside it with forward slashes, its length and its SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass
class ShardNote:
    """A finished shard: its two files, its patches, and per image what goes into the index."""

    mosaic: FileRecord
    key: FileRecord
    patches: int
    channels: int
    layout: str
    ids: list[str]
    labels: list[int]
    heights: list[int]
    widths: list[int]


def mosaic_name(shard: int, extension: str) -> str:
    """Path of a shard's mosaic inside the store."""
    return f"shards/{shard:05d}.{extension}"


def key_name(shard: int, encrypted: bool = False) -> str:
    """Name of a shard's position key in the manifest; keys that are kept elsewhere have the same one."""
    return f"{KEYS}/{shard:05d}.{ENCRYPTED_SUFFIX if encrypted else PLAIN_SUFFIX}"


def record_file(file: Path, path: str) -> FileRecord:
    """Measure a file that has just been written; `path` is its name in the manifest."""
    return FileRecord(path, os.path.getsize(file), sha256_file(file))


class Journal:
    """The notes of one store being written.

    Args:
        folder: the store's folder.
        parameters: what decides the store's bytes; a resumed writer must have been given the same.
        keys: folder of the position keys, if they are kept elsewhere; a writer that is not resumed wants it empty, so
            that the keys of two stores do not mix.
        resume: take over what an earlier writer left; otherwise the folder must be empty or not there.
    """

    def __init__(self, folder: Path, parameters: dict[str, Any], *, resume: bool, keys: Path | None = None) -> None:
        self.folder = folder
        self.keys = folder / KEYS if keys is None else keys
        self._notes = folder / JOURNAL
        if keys is not None and (keys == folder or folder in keys.parents):
            raise InputError(f"keys must be a folder outside of the store {folder}, got {keys}; leave it out otherwise")
        if not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"folder must be empty or not exist yet, got {folder}; choose another, or resume it")
        self.finished = (folder / MANIFEST).is_file()
        if self.finished:  # it was written last: at most the journal's own removal was interrupted
            content = read_json(folder / MANIFEST)
            self._check_parameters({**content, **content.get("shuffle", {})}, parameters)
            if self._notes.exists():
                self.remove()
            return
        started = (self._notes / "writer.json").is_file()
        if not started and folder.exists() and any(path.name not in (JOURNAL,) for path in folder.iterdir()):
            raise InputError(f"folder must hold an interrupted store to be resumed, got {folder} with other files")
        at = None if keys is None else str(keys)
        if not started and keys is not None and keys.exists() and (not keys.is_dir() or any(keys.iterdir())):
            raise InputError(f"keys must be an empty folder or not exist yet, got {keys}: a store's keys lie alone")
        self._notes.mkdir(parents=True, exist_ok=True)
        if started:
            self._check_parameters(read_json(self._notes / "writer.json"), {**parameters, "keys_at": at})
            self._sweep()
        else:
            write_json(self._notes / "writer.json", {**parameters, "keys_at": at})

    def _check_parameters(self, earlier: Any, parameters: dict[str, Any]) -> None:
        for name, value in parameters.items():
            if not isinstance(earlier, dict) or earlier.get(name) != value:
                was = earlier.get(name) if isinstance(earlier, dict) else None
                raise InputError(
                    f"{name} must be {was!r} to resume the store {self.folder}, got {value!r}; "
                    f"delete the folder to start over"
                )

    def _sweep(self) -> None:
        """Remove what a killed writer left half-written."""
        for place in (self.folder, self.folder / "shards", self.keys, self._notes):
            for leftover in place.glob(".*.part"):
                if _PARTIAL.fullmatch(leftover.name):
                    leftover.unlink()

    def place(self, path: str) -> Path:
        """Where the file of this name in the manifest is."""
        folder, _, name = path.rpartition("/")
        return self.keys / name if folder == KEYS else self.folder / path

    def load(self) -> list[ShardNote]:
        """The whole shards, from the first to the last before a gap or damage; what lies behind is forgotten."""
        notes: list[ShardNote] = []
        while (path := self._path(len(notes))).is_file():
            note = self._read(path)
            if note is None:
                break
            notes.append(note)
        kept = {self._path(shard).name for shard in range(len(notes))} | {"writer.json"}
        files = {record.path for note in notes for record in (note.mosaic, note.key)}
        for path in self._notes.iterdir():
            if path.name not in kept:
                path.unlink()
        for path in (self.folder / "shards").glob("*"):
            if f"shards/{path.name}" not in files:
                path.unlink()
        for path in self.keys.glob("*"):  # what lies beside the keys is not ours
            known = path.name == SEAL or _KEY_FILE.fullmatch(path.name)
            if known and f"{KEYS}/{path.name}" not in files:
                path.unlink()
        return notes

    def _read(self, path: Path) -> ShardNote | None:
        """The note, or None where it or one of its files is damaged: that shard is then written again."""
        try:
            content = read_json(path)
            note = ShardNote(
                **{**content, "mosaic": FileRecord(**content["mosaic"]), "key": FileRecord(**content["key"])}
            )
            whole = all(
                record == record_file(self.place(record.path), record.path) for record in (note.mosaic, note.key)
            )
        except (InputError, TypeError, KeyError, OSError):
            return None
        return note if whole else None

    def write(self, shard: int, note: ShardNote) -> None:
        """Note a shard whose files are written."""
        write_json(self._path(shard), asdict(note))

    def remove(self) -> None:
        """Forget everything: the manifest is written."""
        shutil.rmtree(self._notes)

    def _path(self, shard: int) -> Path:
        return self._notes / f"{shard:05d}.json"
