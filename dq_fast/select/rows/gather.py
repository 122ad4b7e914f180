"""Rows of some groups brought together: views where they lie together already, else one sequential read."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.select.rows.factors import Factors
from dq_fast.select.rows.scratch import scratch

Ints = NDArray[np.int64]

_BLOCK = 4 << 20  # bytes of rows on their way, in source and target type together
_HALVES = (torch.float16, torch.bfloat16)


def working_dtype(x: Tensor) -> torch.dtype:
    """The type that rows are gathered in: half precision as float32, which the ops would make of it anyway."""
    return torch.float32 if x.dtype in _HALVES and x.device.type == "cpu" else x.dtype


def serves_in_place(factors: Factors) -> bool:
    """Whether slices of the factors can go to the ops without a copy."""
    return all(x.is_contiguous() and working_dtype(x) is x.dtype for x in factors.tensors)


def gathered_row_bytes(factors: Factors) -> int:
    """Bytes of a row of all factors once gathered."""
    return sum(int(x.shape[1]) * working_dtype(x).itemsize for x in factors.tensors)


def gather(factors: Factors, rows: Ints, *, to_file: bool = False) -> tuple[Tensor, ...]:
    """The given rows of every factor, in the given order; the source is read once, in ascending order.

    Args:
        factors: the source.
        rows: row numbers, any order.
        to_file: put them into a temporary file rather than into memory.
    """
    if factors.device.type != "cpu":
        take = torch.from_numpy(rows).to(factors.device)
        return tuple(x.index_select(0, take) for x in factors.tensors)
    found = []
    ascending = bool(np.all(rows[1:] > rows[:-1])) if len(rows) else True
    place = None if ascending else np.argsort(rows, kind="stable")
    whole = ascending and len(rows) > 0 and int(rows[-1]) - int(rows[0]) + 1 == len(rows)
    for x in factors.tensors:
        shape, dtype = (len(rows), int(x.shape[1])), working_dtype(x)
        small = 0 if to_file else 1 << 62
        out = scratch(shape, dtype, purpose="the rows of one group", small=small)
        step = max(1, _BLOCK // (shape[1] * (x.element_size() + dtype.itemsize)))
        for i in range(0, len(rows), step):
            if whole:
                out[i : i + step] = x[int(rows[0]) + i : int(rows[0]) + min(i + step, len(rows))]
            elif place is None:
                out[i : i + step] = x.index_select(0, torch.from_numpy(rows[i : i + step]))
            else:
                to = place[i : i + step]
                block = x.index_select(0, torch.from_numpy(rows[to]))
                out.index_copy_(0, torch.from_numpy(to), block.to(dtype))
        found.append(out)
    return tuple(found)


def raise_first_bad(factors: Factors, rows: Ints) -> None:
    """Raise for the lowest of the given rows with a NaN or an infinity; returns where there is none."""
    step = max(1, _BLOCK // max(1, factors.row_bytes))
    ascending = np.sort(rows)
    for i in range(0, len(ascending), step):
        take = torch.from_numpy(ascending[i : i + step]).to(factors.device)
        for k, x in enumerate(factors.tensors):
            bad = ~torch.isfinite(x.index_select(0, take)).all(dim=1)
            if bool(bad.any()):
                row = int(ascending[i + int(bad.nonzero()[0, 0])])
                name = "embedding" if len(factors.tensors) == 1 else f"embedding[{k}]"
                raise InputError(
                    f"{name} must be finite, got NaN or infinity in row {row}; drop that row, or look at what made it"
                )
