"""Rows in files: npy, npz, safetensors (mapped where they lie) and parquet, and the frames of pandas and pyarrow."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.select.rows import columns
from dq_fast.select.rows.scratch import scratch

_SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet", ".pq")
_READ = 8 << 20  # bytes of one read
_HEADER = 100 << 20  # bytes: safetensors' own limit for its header
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
}  # fmt: skip


def read(spec: str | os.PathLike[str]) -> np.ndarray | Tensor:
    """The rows that "file" or "file:name" holds: an array or tensor over the file, or over a temporary one.

    Raises:
        InputError: no such file, a kind that is not known, a broken file, or a name that is not in it.
    """
    path, name = _split(os.fspath(spec))
    suffix = path.suffix.lower()
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if path.is_dir() or suffix in (".parquet", ".pq"):
        return columns.read_parquet(path, name)
    if suffix == ".npy":
        if name is not None:
            raise InputError(f"{path} must be given without a name, got {name!r}: an npy file holds one array")
        with open(path, "rb") as file:
            return _npy(path, file, 0, path.name)
    if suffix == ".npz":
        return _npz(path, name)
    if suffix == ".safetensors":
        return _safetensors(path, name)
    if suffix in (".pt", ".pth", ".pkl", ".pickle"):
        raise InputError(f"{path}: pickles are not read, they can run code; save the rows as npy or safetensors")
    raise InputError(f"embedding must be a file of one of the kinds {', '.join(_SUFFIXES)}, got {path}")


def _split(spec: str) -> tuple[Path, str | None]:
    """The path and the name after its last colon, if that is not a part of the path."""
    whole = Path(spec).expanduser()
    head, colon, name = spec.rpartition(":")
    if not colon or whole.exists() or not head or "/" in name or (len(head) == 1 and os.name == "nt"):
        return whole, None
    path = Path(head).expanduser()
    if not path.exists() and path.suffix.lower() not in _SUFFIXES:
        return whole, None
    if not name:
        raise InputError(f"embedding must name what to read after the colon, got {spec!r}")
    return path, name


def choose(path: Path, name: str | None, there: list[str], what: str) -> str:
    """The name, or the only one there is; an error that lists them all otherwise."""
    listing = ", ".join(there[:30]) + (f", … ({len(there)} in all)" if len(there) > 30 else "")
    if name is None:
        if len(there) == 1:
            return there[0]
        raise InputError(
            f"{path} must be given as {path.name}:NAME, it holds {len(there)} {what}s: {listing or 'none'}"
        )
    if name not in there:
        raise InputError(f"{path} must hold the {what} that is asked for, got {name!r}; it has {listing or 'none'}")
    return name


def _npy(path: Path, file: IO[bytes], start: int, what: str) -> np.ndarray:
    """The array of an npy at `start` of a file, mapped copy-on-write: torch then takes it for writable."""
    file.seek(start)
    try:
        shape, fortran, dtype = _npy_header(file)
    except (ValueError, EOFError, struct.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {what} must be an npy array, but is broken: {error}") from None
    if dtype.hasobject:
        raise InputError(f"{path}: {what} must be numbers, got Python objects, which are never unpickled")
    numbers = int(np.prod(shape, dtype=np.int64))
    if numbers == 0:
        return np.empty(shape, dtype)
    offset = file.tell()
    if os.fstat(file.fileno()).st_size < offset + numbers * dtype.itemsize:
        raise InputError(f"{path}: {what} must hold {numbers} numbers of {dtype}, but the file ends before")
    return np.memmap(path, dtype, "c", offset=offset, shape=shape, order="F" if fortran else "C")


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"npy version {version} is not known")


def _npz(path: Path, name: str | None) -> np.ndarray:
    """A member of an npz: mapped where it is stored as it is, else decompressed block by block into a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            key = choose(path, name, [k for k in members if members[k].filename.endswith(".npy")], "array")
            info = members[key]
            if info.compress_type == zipfile.ZIP_STORED:
                with open(path, "rb") as file:
                    file.seek(info.header_offset)
                    local = file.read(30)
                    lengths = struct.unpack("<HH", local[26:30])  # of the name and the extra field that follow
                    return _npy(path, file, info.header_offset + 30 + sum(lengths), key)
            with archive.open(info) as stream:
                return _decompressed(path, stream, key)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, EOFError) as error:
        raise InputError(f"{path} must be an npz file, but is broken: {error}") from None


def _decompressed(path: Path, stream: IO[bytes], key: str) -> np.ndarray:
    try:
        shape, fortran, dtype = _npy_header(stream)
    except ValueError as error:
        raise InputError(f"{path}: {key} must be an npy array, but is broken: {error}") from None
    if dtype.hasobject:
        raise InputError(f"{path}: {key} must be numbers, got Python objects, which are never unpickled")
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = scratch((size,), torch.uint8, purpose=f"the decompressed array {key}").numpy()
    done = 0
    while done < size:
        piece = stream.read(min(_READ, size - done))
        if not piece:
            raise InputError(f"{path}: {key} must hold {size} bytes, but ends after {done}")
        raw[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)
    array: np.ndarray = raw.view(dtype).reshape(shape, order="F" if fortran else "C")
    return array


def _safetensors(path: Path, name: str | None) -> Tensor:
    """A tensor of a safetensors file, mapped at the place that the header gives.

    Source: the format's description, https://huggingface.co/docs/safetensors: 8 bytes of header length (little endian),
    a JSON header with dtype, shape and data_offsets (from the header's end), then the numbers, row-major.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(_HEADER, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        entries = {k: v for k, v in header.items() if k != "__metadata__"}
        key = choose(path, name, sorted(entries), "tensor")
        entry = entries[key]
        shape = tuple(int(k) for k in entry["shape"])
        begin, end = (int(k) for k in entry["data_offsets"])
        kind = str(entry["dtype"])
    except InputError:
        raise
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} must be a safetensors file, but is broken: {error}") from None
    if kind not in _DTYPES:
        raise InputError(f"{path}: {key} must be of one of the types {', '.join(_DTYPES)}, got {kind}")
    dtype = _DTYPES[kind]
    numbers = int(np.prod(shape, dtype=np.int64))
    if (
        min(shape, default=0) < 0
        or end - begin != numbers * dtype.itemsize
        or not 0 <= begin <= end <= size - 8 - length
    ):
        raise InputError(f"{path}: {key} must lie within the file, got bytes {begin} to {end} for shape {shape}")
    if numbers == 0:
        return torch.empty(shape, dtype=dtype)
    raw: np.ndarray = np.memmap(path, np.uint8, "c", offset=8 + length + begin, shape=(end - begin,))
    if (8 + length + begin) % dtype.itemsize:  # written by hand: kernels want numbers at their own places
        aligned = scratch((end - begin,), torch.uint8, purpose=f"the tensor {key}").numpy()
        for i in range(0, len(raw), _READ):
            aligned[i : i + _READ] = raw[i : i + _READ]
        raw = aligned
    return torch.from_numpy(raw).view(dtype).view(shape)


def from_frame(value: Any) -> np.ndarray | Tensor | None:
    """The rows of a pandas or pyarrow object; None for anything else. Neither package is imported here."""
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(value).__mro__}
    if "pandas.DataFrame" in kinds:
        return columns.from_pandas(value)
    if "pandas.Series" in kinds:
        return columns.from_series(value)
    if kinds & {"pyarrow.Table", "pyarrow.RecordBatch", "pyarrow.Array", "pyarrow.ChunkedArray"}:
        return columns.from_arrow(value)
    return None
