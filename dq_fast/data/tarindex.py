"""Where the samples of a WebDataset shard lie, from one pass over the tar's headers.

Nothing is ever extracted: members are only read, by offset, and their names are only compared. Links, devices and
folders are passed over; a name that would lead out of a folder is an error, since ids come from names.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from dq_fast.data.decode import EXTENSIONS
from dq_fast.data.source import usable_as_id
from dq_fast.errors import InputError

_MAX_LABEL_BYTES = 16 << 20  # of a .cls or .json member; some data sets put captions and boxes into the latter
_TAIL_BYTES = 1 << 20  # zeros that end a tar are 10 KiB at most


@dataclass
class Sample:
    """One sample: key, place of its image in the tar (bytes), and the raw contents of its label members."""

    key: str
    offset: int = -1
    size: int = 0
    cls: bytes | None = None
    json: bytes | None = None


def read_index(path: Path) -> list[Sample]:
    """The samples of one shard, in its order.

    Raises:
        InputError: the tar is broken, cut off or compressed, a name is unsafe, or a sample has none or two images.
    """
    try:
        length = os.path.getsize(path)
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            return _read(path, tar, length)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} must be an uncompressed tar, but is broken or compressed: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _read(path: Path, tar: tarfile.TarFile, length: int) -> list[Sample]:
    samples: list[Sample] = []
    position = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header of a shard in memory
        if tar.offset <= position:
            raise InputError(f"{path} is broken: its members run backwards at byte {tar.offset}")
        position = tar.offset
        if not member.isreg() or member.issparse():
            continue
        name = member.name[2:] if member.name.startswith("./") else member.name
        folder, _, base = name.rpartition("/")
        if base.startswith(".") or "." not in base:
            continue  # hidden, or of no kind
        if member.size < 0 or member.offset_data + member.size > length:
            raise InputError(f"{path} is cut off: member {name!r} ends beyond the file")
        stem, _, extension = base.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if not usable_as_id(key):
            raise InputError(f"{path}: member names must be relative paths without '..', got {member.name!r}")
        if not samples or samples[-1].key != key:
            samples.append(Sample(key))
        _take(path, tar, member, extension.lower(), samples[-1])
    _check_end(path, tar, length)
    for sample in samples:
        if sample.offset < 0:
            raise InputError(f"{path}: sample {sample.key!r} has no image (.jpg, .png, .webp, …)")
    return samples


def _take(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str, sample: Sample) -> None:
    if f".{extension}" in EXTENSIONS:
        if sample.offset >= 0:
            raise InputError(f"{path}: sample {sample.key!r} must have one image, got a second one, {member.name!r}")
        sample.offset, sample.size = member.offset_data, member.size
    elif extension in ("cls", "json"):
        if member.size > _MAX_LABEL_BYTES:
            raise InputError(f"{path}: {member.name!r} must be below {_MAX_LABEL_BYTES} bytes, got {member.size}")
        content = tar.extractfile(member)
        setattr(sample, extension, b"" if content is None else content.read())


def _check_end(path: Path, tar: tarfile.TarFile, length: int) -> None:
    """`tarfile` takes a broken header for the end, and ignores appended tars: samples must not vanish in silence."""
    assert tar.fileobj is not None
    if tar.offset > length:
        raise InputError(f"{path} is cut off at byte {length}")
    tar.fileobj.seek(tar.offset)
    tail = tar.fileobj.read(_TAIL_BYTES)
    if any(tail):
        raise InputError(f"{path} is broken at byte {tar.offset}: neither a member's header nor the end of the tar")
