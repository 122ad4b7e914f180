"""npy and npz files with equal bytes for equal arrays, read back without trusting what they declare."""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.files import atomic_write

_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's own zero: no time of writing in the file
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, struct.error)
# as numpy writes it; matched, never evaluated
_HEADER = re.compile(rb"\{'descr': '([^']{1,8})', 'fortran_order': (?:False|True), 'shape': \((\d{1,18}),\), \}\s*")
_HEADER_BYTES = 4096  # more than any npy header of a 1-D array


def npy_bytes(array: NDArray[Any]) -> bytes:
    """A 1-D array as an npy file, version 1.0."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write 1-D arrays as a deflated npz, atomically, names in the given order."""
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever wrote it
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, npy_bytes(array))


def parse_npy(data: bytes, dtype: str, name: str) -> NDArray[Any]:
    """A 1-D array of exactly this little-endian `dtype` from npy bytes; anything else is an InputError."""
    if data[:6] != b"\x93NUMPY" or len(data) < 10 or data[6] not in (1, 2):
        raise InputError(f"{name} must be an npy file, version 1.0 or 2.0, but is something else, or broken")
    start, code = (10, "<H") if data[6] == 1 else (12, "<I")
    length = struct.unpack_from(code, data, 8)[0] if len(data) >= start else 0
    header = _HEADER.fullmatch(data[start : start + min(length, _HEADER_BYTES)])
    if header is None:
        raise InputError(f"{name} must be an npy file of a 1-D array, but its header is another, or broken")
    declared, count = header[1].decode("ascii", "replace"), int(header[2])
    if declared != dtype:
        raise InputError(f"{name} must be a 1-D array of {dtype}, got {declared!r}")
    body = data[start + length :]
    size = np.dtype(dtype).itemsize
    if count * size != len(body):
        raise InputError(f"{name} must hold {len(body) // size} numbers by its size, but its header says {count}")
    array: NDArray[Any] = np.frombuffer(body, dtype).copy()
    return array


def read_npz(data: bytes, expected: Mapping[str, tuple[str, int]], name: str) -> dict[str, NDArray[Any]]:
    """1-D arrays of an npz: `expected` maps names to (dtype, most bytes); nothing larger is unpacked."""
    found: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for array, (dtype, most) in expected.items():
                with archive.open(f"{array}.npy") as entry:
                    content = entry.read(most + _HEADER_BYTES + 1)
                if len(content) > most + _HEADER_BYTES:
                    raise InputError(f"{array} in {name} must be at most {most} bytes, got more")
                found[array] = parse_npy(content, dtype, f"{array} in {name}")
    except KeyError as error:
        raise InputError(f"{name} must hold {', '.join(expected)}, but has no {error.args[0]}") from None
    except _ZIP_ERRORS as error:
        raise InputError(f"{name} must be an npz file, but cannot be read: {error}") from None
    return found
