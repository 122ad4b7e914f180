"""What the user gave as rows, made factors: tensors [n, d] that may lie over files larger than memory."""

from __future__ import annotations

import mmap
import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.select.rows import files
from dq_fast.select.rows.scratch import scratch

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_BLOCK = 8 << 20  # bytes of a block on its way from one type to another


@dataclass(frozen=True)
class Factors:
    """Rows as one or more factors: row i is the outer product of the factors' rows i.

    Attributes:
        tensors: [n, d_k] each, float32, float64, float16 or bfloat16, detached.
        mapped: whether some of them lie over files: reading them again may mean the disk.
    """

    tensors: tuple[Tensor, ...]
    mapped: bool = False

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all factors."""
        return sum(x.numel() * x.element_size() for x in self.tensors)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers a row in each factor."""
        return tuple(int(x.shape[1]) for x in self.tensors)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of all factors."""
        return sum(int(x.shape[1]) * x.element_size() for x in self.tensors)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.tensors[0].device


def merged_widths(widths: tuple[int, ...]) -> tuple[int, int]:
    """Widths of the narrow and the wide factor that three and more are merged into, two by two; one gets a 1."""
    found = sorted(widths)
    while len(found) > 2:
        found = sorted([*found[2:], found[0] * found[1]])
    return (1, found[0]) if len(found) == 1 else (found[0], found[1])


def as_factors(embedding: Any) -> Factors:
    """Rows from whatever holds them, without copying what can be used where it lies.

    Args:
        embedding: one of these, or a tuple or list of them (factors):
            a tensor [n, d] on any device; an array, np.memmap or anything numpy reads;
            a path: "x.npy" and "x.npz:key" (mapped where stored uncompressed), "x.safetensors:name" (mapped),
            "x.parquet:column" or a folder of parquet files (list columns, or several numeric ones: "x.parquet:a,b,c"
            or "x.parquet:feature_*"; decoded once into a temporary file); the part after the colon may be left out
            where there is only one choice;
            a pandas DataFrame of numbers or Series of lists; a pyarrow Table, RecordBatch, Array or ChunkedArray.
            Whole numbers become float32 (up to 16 bits) or float64.

    Returns:
        Factors with equally many rows, on one device.

    Raises:
        InputError: not numbers, not [n, d], lengths that differ, a file that is missing or broken, or a name that is
            not in it (the message says which are).
    """
    if isinstance(embedding, Factors):
        return embedding
    several = isinstance(embedding, (tuple, list))
    given = list(embedding) if several else [embedding]
    if not given:
        raise InputError("embedding must be rows [n, d] or a tuple of such, got an empty tuple")
    tensors, mapped = [], False
    for k, value in enumerate(given):
        tensor, is_mapped = _factor(value, f"embedding[{k}]" if several else "embedding")
        tensors.append(tensor)
        mapped |= is_mapped
        if tensor.shape[0] != tensors[0].shape[0]:
            raise InputError(
                f"embedding[{k}] must have {tensors[0].shape[0]} rows like embedding[0], got {tensor.shape[0]}"
            )
        if tensor.device != tensors[0].device:
            raise InputError(f"embedding[{k}] must be on {tensors[0].device} like embedding[0], got {tensor.device}")
    return Factors(tuple(tensors), mapped)


def _factor(value: Any, name: str) -> tuple[Tensor, bool]:
    """The tensor of one factor, and whether it lies over a file."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            raise InputError(f"{name} must be dense, got {value.layout}; use its to_dense()")
        return _as_floats(_checked(value.detach(), name), name), False
    found: np.ndarray | Tensor | None
    if isinstance(value, (str, os.PathLike)):
        found = files.read(value)
    elif isinstance(value, np.ndarray):
        found = value
    else:
        found = files.from_frame(value)
    if found is None:
        found = _numbers(value, name)
    if isinstance(found, Tensor):
        tensor, is_mapped = found, True
    else:
        tensor, is_mapped = _tensor(found, name), _is_mapped(found)
    tensor = _as_floats(_checked(tensor, name), name)
    return tensor, is_mapped


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers, [n, d], got {type(value).__name__}: {error}") from None


def _tensor(array: np.ndarray, name: str) -> Tensor:
    """The array's numbers as a tensor, in place where torch can."""
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        hint = "; give the columns of numbers only" if array.dtype == object else ""
        raise InputError(f"{name} must be numbers, [n, d], got an array of {array.dtype}{hint}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    if any(stride < 0 or stride % array.itemsize for stride in array.strides) or not array.flags.aligned:
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():  # nothing here writes into what the user gave, writable or not
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.asarray(array))


def _is_mapped(array: np.ndarray) -> bool:
    base: Any = array
    while base is not None:
        if isinstance(base, (np.memmap, mmap.mmap)):
            return True
        base = getattr(base, "base", None)
    return False


def _checked(x: Tensor, name: str) -> Tensor:
    if x.ndim != 2:
        raise InputError(f"{name} must be 2-D [n, d], got shape {tuple(x.shape)}")
    if x.shape[1] == 0:
        raise InputError(f"{name} must be at least one number wide, got shape {tuple(x.shape)}")
    return x


def _as_floats(x: Tensor, name: str) -> Tensor:
    """Whole numbers as floats that hold them exactly (up to 53 bits); a large result lies in a temporary file."""
    if x.dtype in FLOATS:
        return x
    if x.is_complex() or x.is_floating_point():
        raise InputError(f"{name} must be float32, float64, float16 or bfloat16, got {x.dtype}")
    dtype = torch.float32 if x.dtype.itemsize <= 2 else torch.float64
    if x.device.type != "cpu":
        return x.to(dtype)
    out = scratch(tuple(x.shape), dtype, purpose=f"{name} as {dtype}".replace("torch.", ""))
    step = max(1, _BLOCK // max(1, x.shape[1] * 8))
    for i in range(0, len(x), step):
        out[i : i + step] = x[i : i + step]
    return out
