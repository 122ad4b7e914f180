"""What methods that give every sample a score of its own share: blocks of rows, checks, and the order of picking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Evidence, Floats, Ints, highest

_BLOCK_NUMBERS = 1 << 20  # float64 numbers of a block of rows: 8 MB, so that the few temporaries stay in cache reach

DIRECTIONS = ("highest", "lowest")


def by_score(evidence: Evidence, scores: Tensor | Floats, direction: str) -> Chosen:
    """The rows of each group in order of their score, "highest" or "lowest" first; among equals the lowest row.

    Raises:
        InputError: another direction.
    """
    if checks.one_of("direction", direction, DIRECTIONS) == "highest":
        return highest(evidence, scores)
    chosen = highest(evidence, -scores)
    return Chosen(chosen.ranking, -chosen.scores)


def in_blocks(function: Callable[..., Tensor], *rows: Tensor, name: str | None, width: int | None = None) -> Tensor:
    """`function` of blocks of rows, joined: the memory of float64 temporaries stays that of a block.

    Args:
        function: takes a block of each of `rows`, returns a tensor with as many rows.
        rows: tensors with n rows; floating-point ones are passed as float64, and the first is checked to be finite.
        name: of the first, for the error; None: it was checked before.
        width: numbers a row of the function's temporaries; None: as the first tensor.

    Raises:
        InputError: a number in the first tensor that is not finite.
    """
    first = rows[0]
    step = max(1, _BLOCK_NUMBERS // max(1, width or first.shape[1]))
    parts = []
    for start in range(0, max(1, len(first)), step):
        block = [x[start : start + step].detach() for x in rows]
        block = [x.double() if x.is_floating_point() else x for x in block]
        if name is not None and not bool(
            torch.isfinite(block[0].sum())
        ):  # one pass; which row, only where there is one
            checks.finite_rows(name, first[: start + step])
        parts.append(function(*block))
    return torch.cat(parts)


def check_finite(name: str, x: Tensor) -> None:
    """Raise for the first row of x [n, d] with a NaN or an infinity, naming it, in the memory of a block."""
    in_blocks(lambda rows: rows[:, :0], x, name=name)


def given(evidence: Evidence, name: str) -> Tensor:
    """The evidence's features or logits, which `Method` has seen to be there, on the CPU."""
    value: Tensor | None = getattr(evidence, name)
    if value is None:
        raise checks.bad(name, "given", "none")
    return value.detach().cpu()


def class_numbers(labels: Ints | None, classes: int | None = None) -> tuple[Tensor, int]:
    """Labels as an int64 tensor [n], and the number of classes.

    Args:
        labels: int [n], 0 to C - 1.
        classes: C where it is known (the width of the logits); None: the largest label and one.

    Raises:
        InputError: none, not integers, or a label out of range.
    """
    if labels is None:
        raise checks.bad("labels", "given", "none")
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise checks.bad("labels", "integers, 0 to C - 1", str(array.dtype))
    top = int(array.max()) if len(array) else 0
    if len(array) and (array.min() < 0 or (classes is not None and top >= classes)):
        wrong = int(np.flatnonzero((array < 0) | (array >= (top + 1 if classes is None else classes)))[0])
        limit = "C - 1" if classes is None else str(classes - 1)
        raise checks.bad("labels", f"0 to {limit}", f"{array[wrong]} in row {wrong}")
    return torch.from_numpy(array.astype(np.int64)), top + 1 if classes is None else classes
