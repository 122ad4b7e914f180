"""Cosine row sums: how much each row of a group has in common with the whole group."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dq_fast.ops import checks, native, registry
from dq_fast.ops.embedding import groups

NATIVE_NOTE = "three or more factors go to torch"


def cosine_row_sums(embedding: Any, *, offsets: Any = None, shifted: bool = True, center: bool = False) -> Tensor:
    """Sum over j of s(i, j) for every row i of its group.

    s(i, j) = 1/2 + 1/2 c(i, j) if `shifted`, else c(i, j), with c the product over the factors of the cosines of rows i
    and j; a zero row has cosine 0 with every row. With `center`, c is the cosine of phi_i - mean and phi_j - mean, phi
    the (product) embedding of the normalised rows, mean that of the group; a row equal to the mean counts as zero.
    Linear: sum_j c(i, j) = <phi_i, sum_j phi_j>, two reads of the rows. Products and sums are float64.

    Args:
        embedding: rows [n, d], or a tuple of factors [n, d_k]; float32, float64, float16 or bfloat16.
        offsets: int64 [groups + 1], rows offsets[g] to offsets[g + 1] are group g; None is one group.
        shifted: similarities in [0, 1], as the published Dataset Quantization has them.
        center: compare what tells a row from its group.

    Returns:
        float64 [n], on the embedding's device. Workspace on the CPU: two float64 a row, and d1 * d2 float64 for each
        group or 1/64 of a group in flight.

    Raises:
        InputError: a shape, type or value that is not as above; non-finite values are reported by row.
    """
    rows = checks.factors(embedding)
    bounds = checks.offsets(offsets, rows[0].shape[0])
    return registry.op("cosine_row_sums")(rows, bounds, bool(shifted), bool(center))


def _reference(factors: list[Tensor], offsets: Tensor, shifted: bool, center: bool) -> Tensor:
    bounds = checks.offsets_values(offsets, len(factors[0]))
    out = torch.zeros(len(factors[0]), dtype=torch.float64, device=factors[0].device)
    for begin, group in zip(bounds, groups(factors, bounds, center)):  # noqa: B905  the last bound begins no group
        if len(group):
            sums = group.dot(group.total())
            out[begin : begin + len(group)] = 0.5 * len(group) + 0.5 * sums if shifted else sums
    return out


def _fake(factors: list[Tensor], offsets: Tensor, shifted: bool, center: bool) -> Tensor:
    return factors[0].new_empty(factors[0].shape[0], dtype=torch.float64)


def _cpu(factors: list[Tensor], offsets: Tensor, shifted: bool, center: bool) -> Tensor:
    if len(factors) > 2:
        return _reference(factors, offsets, shifted, center)
    n = factors[0].shape[0]
    bounds = checks.offsets_values(offsets, n)
    offsets = offsets.contiguous()
    rows = native_rows(factors)
    out = torch.empty(n, dtype=torch.float64)
    bad = _native_cpu()(
        *native_arguments(rows), n, offsets.data_ptr(), len(bounds) - 1, shifted, center, torch.get_num_threads(),
        out.data_ptr(),
    )  # fmt: skip
    if bad >= 0:
        raise_non_finite(factors, bad)
    return out


@cache
def _native_cpu() -> Callable[..., int]:
    function: Callable[..., int] = native.module("cpu").cosine_row_sums
    return function


def _cuda(factors: list[Tensor], offsets: Tensor, shifted: bool, center: bool) -> Tensor:
    x = factors[0]
    if len(factors) > 1 or x.dtype != torch.float32 or offsets.shape[0] != 2 or center:
        return _reference(factors, offsets, shifted, center)
    n, d = x.shape
    checks.offsets_values(offsets, n)
    module, x = native.module("cuda"), x.contiguous()
    out = torch.empty(n, dtype=torch.float64, device=x.device)
    if n == 0:
        return out
    workspace = torch.empty(module.cosine_row_sums_workspace(n, d), dtype=torch.float64, device=x.device)
    with torch.cuda.device(x.device):
        stream = torch.cuda.current_stream(x.device).cuda_stream
        module.cosine_row_sums(x.data_ptr(), n, d, shifted, workspace.data_ptr(), out.data_ptr(), stream)
    good = torch.isfinite(workspace[:n])  # one over the rows' norms
    if not bool(good.all()):
        raise_non_finite(factors, int((~good).nonzero()[0, 0]))
    return out


def native_rows(factors: list[Tensor]) -> list[Tensor]:
    """One or two factors as the native code takes them: contiguous float32 or float64 rows, the wider factor first."""
    rows = [(x if x.dtype is torch.float32 or x.dtype is torch.float64 else x.float()).contiguous() for x in factors]
    if len(rows) == 2 and rows[0].shape[1] < rows[1].shape[1]:
        rows.reverse()
    return rows


def native_arguments(rows: list[Tensor]) -> tuple[int, bool, int, int, bool, int]:
    """Address, is-it-float64 and width of the wide and of the narrow factor (0, False, 1 if there is none)."""
    wide = rows[0]
    address, is64, width = wide.data_ptr(), wide.dtype is torch.float64, wide.shape[1]
    if len(rows) == 1:
        return address, is64, width, 0, False, 1
    narrow = rows[1]
    return address, is64, width, narrow.data_ptr(), narrow.dtype is torch.float64, narrow.shape[1]


def raise_non_finite(factors: list[Tensor], row: int) -> None:
    """Raise for a row that the native code found non-finite, naming the factor."""
    for k, x in enumerate(factors):
        if not bool(torch.isfinite(x[row]).all()):
            raise checks.non_finite("embedding" if len(factors) == 1 else f"embedding[{k}]", row)
    raise checks.non_finite("embedding", row)


registry.define(
    "cosine_row_sums(Tensor[] factors, Tensor offsets, bool shifted, bool center) -> Tensor",
    reference=_reference,
    fake=_fake,
)
registry.impl("cosine_row_sums", "cpu", _cpu, note=NATIVE_NOTE)
registry.impl(
    "cosine_row_sums", "cuda", _cuda, note="one factor, float32, one group, not centred; everything else goes to torch"
)
