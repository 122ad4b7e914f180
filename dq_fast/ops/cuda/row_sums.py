"""Cosine row sums on CUDA tensors."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from dq_fast.ops import checks, registry
from dq_fast.ops.cuda import launch
from dq_fast.ops.cuda.rows import NOTE, Factor, Rows, first_nan, served

__all__ = ["NOTE", "cosine_row_sums"]


def cosine_row_sums(factors: list[Tensor], offsets: Tensor | None, shifted: bool, center: bool) -> Tensor:
    """What registers as the op: dq_fast/ops/row_sums.py says what it computes.

    Waits for the device once, to ask whether all rows were finite. While a CUDA graph is captured it does not ask, and
    a row that is not finite makes its group's sums NaN. One factor in several groups cannot be captured: their
    boundaries are copied to the device.
    """
    if not served(factors):
        return registry.reference("cosine_row_sums")(factors, offsets, shifted, center)
    n = factors[0].shape[0]
    bounds = checks.offsets_values(offsets, n)
    out = factors[0].new_empty(n, dtype=torch.float64)
    if n == 0:
        return out
    if len(factors) == 1:
        several = offsets if len(bounds) > 2 else None
        if several is not None:
            several = several.to("cpu", torch.int64).contiguous()
        rows = Factor(factors[0], several, center=center)
        rows.dots(rows.total, shifted=shifted, out=out)
        marks = rows.inverse
    else:
        marks = torch.empty_like(out)
        for begin, end in itertools.pairwise(bounds):
            if begin == end:
                continue
            group, sums = Rows(factors, begin, end, center), out[begin:end]
            group.dots(group.total(), sums)
            if shifted:
                sums.mul_(0.5).add_(0.5 * (end - begin))
            marks[begin:end] = group.marks()
    if not launch.capturing(out.device):
        row = first_nan(marks)
        if row >= 0:
            checks.raise_non_finite(factors, row)
    return out
