"""Which images a run is of: their ids, a mark of each that tells when it changed, and those that were removed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dq_fast.data import Source, Subset
from dq_fast.data.arrays import ArraySource
from dq_fast.embed import Embedding
from dq_fast.errors import InputError
from dq_fast.files import atomic_write, read_json, write_json
from dq_fast.pipeline.run import RunFolder

Ints = NDArray[np.int64]
Marks = NDArray[np.uint64]

_IDS, _MARKS = "ids.json", "marks.npy"


def mark_images(source: Source) -> Marks:
    """A number for each image that changes with its class and its size in bytes (in arrays: its pixels), [n].

    As `Source.fingerprint`, image by image: a file replaced by one of the very same size goes unnoticed.
    """
    names = [name.encode() + b"\0" for name in source.class_names]
    base: Source = source
    at: Ints = np.arange(len(source))
    while isinstance(base, Subset):
        at, base = base.indices[at], base.source
    marks = np.empty(len(source), np.uint64)
    for i, label in enumerate(np.asarray(source.labels).tolist()):
        digest = hashlib.blake2b(names[label], digest_size=8)
        if isinstance(base, ArraySource):
            digest.update(base.images[at[i]].tobytes())
        else:
            digest.update(str(source.size_of(i)).encode())
        marks[i] = int.from_bytes(digest.digest(), "little")
    return marks


def save_images(folder: Path, source: Source, marks: Marks) -> None:
    """Leave ids and marks of all images in the folder of the source stage."""
    write_json(folder / _IDS, list(source.ids))
    with atomic_write(folder / _MARKS) as file:
        np.save(file, marks, allow_pickle=False)


def known_images(run: RunFolder) -> dict[str, int]:
    """Id to mark of all images of the source as the run was made or last changed.

    Raises:
        InputError: the run was made by a version that did not note them.
    """
    folder = run.folder("source")
    if not (folder / _MARKS).is_file():
        raise InputError(
            f"{run.path} must be a run that notes its images, got one of an earlier version: start over with "
            f"dq-fast embed SOURCE RUN, into another folder"
        )
    marks = np.load(folder / _MARKS, allow_pickle=False).tolist()
    return dict(zip(read_json(folder / _IDS), marks, strict=True))


def left_out(run: RunFolder) -> list[str]:
    """Ids that are in the source but were removed from the run."""
    record = run.record("source")
    return [] if record is None else list(record["results"].get("left_out", []))


def without(source: Source, ids: Collection[str]) -> tuple[Source, Ints]:
    """The source without some images, and the positions of the others in it."""
    if not ids:
        return source, np.arange(len(source), dtype=np.int64)
    gone = set(ids)
    kept = np.array([i for i, id in enumerate(source.ids) if id not in gone], np.int64)
    return Subset(source, kept), kept


@dataclass(frozen=True)
class Difference:
    """What tells a source as it is now from the images of a run; ids.

    Attributes:
        new: in the source, not in the run (and not removed from it); formerly unreadable ones that changed, too.
        changed: embedded, and another image (or class) by now.
        missing: embedded, and not in the source any more.
        removed: removed from the run earlier, still in the source.
        bad: unreadable before, and unchanged since.
    """

    new: list[str]
    changed: list[str]
    missing: list[str]
    removed: list[str]
    bad: list[str]

    @classmethod
    def of(cls, run: RunFolder, embedding: Embedding, ids: Sequence[str], marks: Marks) -> Difference:
        """Compare the images of a run with the ids and marks of a source."""
        before = known_images(run)
        now = dict(zip(ids, marks.tolist(), strict=True))
        embedded = set(embedding.ids)
        removed = [id for id in left_out(run) if id in now]
        bad = [b["id"] for b in embedding.bad if b["id"] in now and now[b["id"]] == before.get(b["id"])]
        known = embedded.union(removed, bad)
        return cls(
            new=[id for id in ids if id not in known],
            changed=[id for id in embedding.ids if id in now and now[id] != before.get(id)],
            missing=[id for id in embedding.ids if id not in now],
            removed=removed,
            bad=bad,
        )
