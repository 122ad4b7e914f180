"""What the public functions ask of their arguments.

Shapes and types only: values are looked at by the ops themselves, which read them anyway, so that the public functions
can be traced by torch.compile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from dq_fast.errors import InputError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def bad(argument: str, expected: str, got: object) -> InputError:
    """The error for an argument, in the form that every message of this package has."""
    return InputError(f"{argument} must be {expected}, got {got}")


def shape_of(x: Tensor) -> str:
    """A tensor's shape, for people."""
    return f"shape {tuple(x.shape)}"


def factors(embedding: Any) -> list[Tensor]:
    """The factors [n, d_k] of an embedding given as one tensor or as a tuple of them; detached, d_k >= 1."""
    if type(embedding) is Tensor and embedding.dim() == 2 and embedding.dtype in FLOATS and embedding.shape[1]:
        return [embedding.detach() if embedding.requires_grad else embedding]  # the usual case, in a microsecond
    single = isinstance(embedding, Tensor)
    if not single and (not isinstance(embedding, (tuple, list)) or len(embedding) == 0):
        raise bad("embedding", "a tensor [n, d] or a tuple of them", type(embedding).__name__)
    found = [embedding] if single else list(embedding)
    for k, x in enumerate(found):
        name = "embedding" if single else f"embedding[{k}]"
        if not isinstance(x, Tensor):
            raise bad(name, "a tensor [n, d]", type(x).__name__)
        if x.dim() != 2:
            raise bad(name, "2-D [n, d]", shape_of(x))
        if x.dtype not in FLOATS:
            raise bad(name, "float32, float64, float16 or bfloat16", str(x.dtype))
        if x.shape[1] == 0:
            raise bad(name, "at least one number wide", shape_of(x))
        if x.shape[0] != found[0].shape[0]:
            raise bad(name, f"{found[0].shape[0]} rows like embedding[0]", shape_of(x))
        if x.device != found[0].device:
            raise bad(name, f"on {found[0].device} like embedding[0]", f"one on {x.device}")
    return [x.detach() for x in found]


def similarity(matrix: Any) -> Tensor:
    """A given similarity matrix [n, n], detached."""
    if not isinstance(matrix, Tensor):
        raise bad("similarity", "a tensor [n, n]", type(matrix).__name__)
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
        raise bad("similarity", "square [n, n]", shape_of(matrix))
    if matrix.dtype not in FLOATS:
        raise bad("similarity", "float32, float64, float16 or bfloat16", str(matrix.dtype))
    return matrix.detach()


def offsets(value: Any) -> Tensor | None:
    """Group boundaries int64 [groups + 1] on the CPU; None is one group. `offsets_values` checks their values."""
    if value is None:
        return None
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise bad("offsets", "int64 [groups + 1]", type(value).__name__) from None
    if value.dim() != 1 or value.shape[0] < 1:
        raise bad("offsets", "1-D [groups + 1]", shape_of(value))
    if value.dtype not in (torch.int64, torch.int32):
        raise bad("offsets", "int64", str(value.dtype))
    return value.detach().to("cpu", torch.int64).contiguous()


def offsets_values(value: Tensor | None, n: int) -> list[int]:
    """The boundaries as numbers: from 0 to n, never falling; None is one group."""
    if value is None:
        return [0, n]
    found: list[int] = value.tolist()
    if found[0] != 0 or found[-1] != n:
        raise bad("offsets", f"from 0 to the number of rows, {n}", f"{found[0]} to {found[-1]}")
    for g, (begin, end) in enumerate(itertools.pairwise(found)):
        if end < begin:
            raise bad("offsets", "in ascending order", f"{begin} before {end} at position {g + 1}")
    return found


def integer(argument: str, value: Any, minimum: int) -> int:
    """An int (not a bool) of at least `minimum`."""
    if type(value) is int and value >= minimum:
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise bad(argument, f"an integer >= {minimum}", repr(value))
    found = value.__index__()
    if found < minimum:
        raise bad(argument, f"an integer >= {minimum}", str(found))
    return int(found)


def real(argument: str, value: Any, minimum: float) -> float:
    """A finite number of at least `minimum`."""
    if type(value) is float and minimum <= value < math.inf:
        return value
    if isinstance(value, bool) or (not isinstance(value, (int, float)) and not hasattr(value, "__float__")):
        raise bad(argument, f"a finite number >= {minimum}", repr(value))
    found = float(value)
    if not math.isfinite(found) or found < minimum:
        raise bad(argument, f"a finite number >= {minimum}", str(found))
    return found


def one_of(argument: str, value: Any, choices: Collection[str]) -> str:
    """One of a few names."""
    if value not in choices:
        raise bad(argument, "one of " + ", ".join(repr(c) for c in choices), repr(value))
    return str(value)


def non_finite(argument: str, row: int) -> InputError:
    """The error for a NaN or an infinity in a row."""
    return InputError(
        f"{argument} must be finite, got NaN or infinity in row {row}; drop that row, or look at what made it"
    )


def finite_rows(argument: str, x: Tensor) -> None:
    """Raise for the first row of x [n, d] with a NaN or an infinity."""
    good = torch.isfinite(x).all(dim=1)
    if not bool(good.all()):
        raise non_finite(argument, int((~good).nonzero()[0, 0]))


def raise_non_finite(factors: list[Tensor], row: int) -> None:
    """Raise for a row that native code found non-finite, naming the factor."""
    for k, x in enumerate(factors):
        if not bool(torch.isfinite(x[row]).all()):
            raise non_finite("embedding" if len(factors) == 1 else f"embedding[{k}]", row)
    raise non_finite("embedding", row)
