"""Ids of rows: text or whole numbers, all different."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dq_fast.ops import checks

Ints = NDArray[np.int64]


def id_array(ids: Any, n: int | None) -> NDArray[Any]:
    """Ids as text or int64 [n], all different.

    Raises:
        InputError: another number, another kind, or an id twice (it is named).
    """
    found = np.asarray(ids.detach().cpu() if isinstance(ids, torch.Tensor) else ids)
    if found.size == 0 and found.ndim == 1:
        found = found if found.dtype.kind in "iU" else found.astype(np.int64)
    if found.dtype == object and all(isinstance(x, str) for x in found.reshape(-1).tolist()):
        found = found.astype(str)
    if found.dtype.kind == "u" or (found.dtype.kind == "i" and found.dtype != np.int64):
        found = found.astype(np.int64)
    if found.ndim != 1 or (n is not None and len(found) != n):
        raise checks.bad("ids", "one for every row" + ("" if n is None else f", {n}"), f"shape {found.shape}")
    if found.dtype.kind not in "iU":
        raise checks.bad("ids", "text or whole numbers", str(found.dtype))
    values, counts = np.unique(found, return_counts=True)
    if len(values) < len(found):
        raise checks.bad("ids", "different for every row", f"{values[counts > 1][0].item()!r} twice")
    return found


def same_kind(new: NDArray[Any], old: NDArray[Any]) -> None:
    """Raise where new ids are numbers and the old ones text, or the other way round."""
    if len(new) and len(old) and new.dtype.kind != old.dtype.kind:
        words = {"i": "whole numbers", "U": "text"}
        raise checks.bad("ids", f"{words[old.dtype.kind]} like those of the partition", words[new.dtype.kind])


def new_ids(ids: Any, m: int, there: NDArray[Any], next_id: int) -> NDArray[Any]:
    """Ids of `m` rows that join those called `there`; None numbers them on from `next_id`.

    Raises:
        InputError: an id that is there already (it is named), ids of another kind, or none beside ids that are text.
    """
    if ids is None:
        if there.dtype.kind != "i":
            raise checks.bad("ids", "given, for the partition has ids that are text", "None")
        return np.arange(next_id, next_id + m)
    found = id_array(ids, m)
    same_kind(found, there)
    twice = np.flatnonzero(np.isin(found, there))
    if len(twice):
        raise checks.bad("ids", "ids that the partition does not have", f"{found[twice[0]].item()!r}; remove it first")
    return found


def row_numbers(rows: Any, n: int) -> Ints:
    """Different row numbers below n.

    Raises:
        InputError: other numbers, or one twice (it is named).
    """
    found = np.asarray(rows)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise checks.bad("rows", "row numbers, 1-D", f"{found.dtype} {found.shape}")
    found = found.astype(np.int64)
    outside = np.flatnonzero((found < 0) | (found >= n))
    if len(outside):
        raise checks.bad("rows", f"row numbers below {n}", str(found[outside[0]]))
    return id_array(found, None)
