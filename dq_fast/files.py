"""Files written whole or not at all, and their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dq_fast.errors import InputError

try:
    import fcntl
except ImportError:  # no locks of this kind here: leftovers stay
    fcntl = None  # type: ignore[assignment]

_CHUNK_BYTES = 1 << 20  # large enough that the hash, not the call, is what takes the time


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under `path` only when the block ends without an error.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and are renamed over `path`;
    a killed process leaves the old file, or none (and the temporary one, see `remove_leftovers`).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _lock(descriptor)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Delete temporary files that killed processes left when they wrote `path`; not those being written now."""
    path = Path(path)
    if fcntl is None or not path.parent.is_dir():
        return
    with os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(f".{path.name}.") and e.name.endswith(".part")]
    for name in names:
        with contextlib.suppress(OSError), open(path.with_name(name), "rb") as file:
            if _lock(file.fileno()):  # whoever writes it holds its lock, and a dead process holds none
                os.unlink(path.with_name(name))


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file, if it is free and there are locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _umask() -> int:
    """The process's umask: mkstemp makes files that only their owner reads, and a store is shared like any file."""
    current = os.umask(0o022)
    os.umask(current)
    return current


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, so that equal values give equal bytes."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; a missing or broken one is an InputError that names it."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be JSON, but is broken: {error}") from None


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
