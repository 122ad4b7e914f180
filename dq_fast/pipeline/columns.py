"""One value a row, from a file: labels, groups, ids."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError, missing_extra
from dq_fast.files import read_json

SUFFIXES = (".npy", ".npz", ".parquet", ".pq", ".csv", ".json", ".txt")
FILE_HELP = "npy, npz:KEY, parquet:COLUMN, csv:COLUMN, json (a list) or txt (one a line)"


def split_spec(spec: str) -> tuple[Path, str | None]:
    """Path and name of "file:name"; a colon that is part of an existing path stays."""
    whole = Path(spec).expanduser()
    head, colon, name = spec.rpartition(":")
    if not colon or whole.exists() or not head or not Path(head).expanduser().exists():
        return whole, None
    return Path(head).expanduser(), name


def read_column(spec: str, what: str) -> NDArray[Any]:
    """The values that "file" or "file:name" holds, [n]: numbers, or text.

    Args:
        spec: an npy; an npz and an array's name; a parquet file (or folder of them), or a csv with a header, and a
            column's name; a json list; a txt with one value a line. The name may be left out where there is only one.
        what: they are, for messages ("labels").

    Raises:
        InputError: no such file or name, a broken file, or values that are not one a row.
    """
    path, name = split_spec(spec)
    suffix = path.suffix.lower()
    if not path.exists():
        raise InputError(f"{what} must be a file ({FILE_HELP}), got {spec!r}, which is not there")
    if path.is_dir() or suffix in (".parquet", ".pq"):
        values = _parquet(path, name, what)
    elif suffix in (".npy", ".npz"):
        values = _numpy(path, name, what)
    elif suffix == ".csv":
        values = _csv(path, name, what)
    elif suffix == ".json":
        values = _flat(read_json(path), path, what)
    elif suffix == ".txt":
        values = np.array(_text(path).splitlines(), dtype=str)
    else:
        raise InputError(f"{what} must be a file of one of the kinds {', '.join(SUFFIXES)}, got {path}")
    if values.ndim != 1:
        raise InputError(f"{what} must be one value a row, [n], got shape {values.shape} in {spec}")
    return values


def _choose(path: Path, name: str | None, there: list[str], what: str) -> str:
    listing = ", ".join(there[:30]) or "none"
    if name is None:
        if len(there) == 1:
            return there[0]
        raise InputError(f"{what} must name one of {path.name}'s columns ({path.name}:NAME), it has {listing}")
    if name not in there:
        raise InputError(f"{what} must name one of {path.name}'s columns, got {name!r}; it has {listing}")
    return name


def _numpy(path: Path, name: str | None, what: str) -> NDArray[Any]:
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return np.asarray(found[_choose(path, name, list(found.files), what)])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what}: {path} must be a whole npy or npz file without Python objects: {error}") from None


def _parquet(path: Path, name: str | None, what: str) -> NDArray[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise missing_extra("pyarrow", "images", "reading parquet") from None
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{what} must be a file ({FILE_HELP}), got the folder {path} without parquet files")
    try:
        plain = [f.name for f in pq.read_schema(files[0]) if not pa.types.is_nested(f.type)]
        column = _choose(path, name, plain, what)
        values: list[Any] = []
        for file in files:
            values += pq.read_table(file, columns=[column]).column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{what}: {path} must be a parquet file, but is broken: {error}") from None
    return _flat(values, path, what)


def _csv(path: Path, name: str | None, what: str) -> NDArray[Any]:
    lines = list(csv.reader(_text(path).splitlines()))
    if not lines:
        raise InputError(f"{what}: {path} must have a header and a line for each row, but is empty")
    at = lines[0].index(_choose(path, name, lines[0], what))
    short = next((i for i, line in enumerate(lines) if len(line) <= at), None)
    if short is not None:
        raise InputError(
            f"{what}: {path} must have {len(lines[0])} values a line, got {lines[short]} in line {short + 1}"
        )
    return np.array([line[at] for line in lines[1:]], dtype=str)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} must be text in UTF-8, got other bytes") from None


def _flat(values: Any, path: Path, what: str) -> NDArray[Any]:
    """A list of numbers or texts as an array; missing values stay None for the message that names their row."""
    if not isinstance(values, list) or any(isinstance(v, (list, dict)) for v in values):
        raise InputError(f"{what} must be one number or text a row, got something else in {path}")
    if any(v is None for v in values) or len({isinstance(v, str) for v in values}) > 1:
        return np.array(values, dtype=object)
    return np.asarray(values)
