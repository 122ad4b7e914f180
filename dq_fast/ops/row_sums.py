"""Cosine row sums: how much each row of a group has in common with the whole group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dq_fast.ops import checks, native, registry
from dq_fast.ops.checks import raise_non_finite as raise_non_finite  # graph_cut.py takes it from here
from dq_fast.ops.cuda import row_sums as row_sums_cuda
from dq_fast.ops.embedding import groups

NATIVE_NOTE = "three or more factors go to torch"

_CORE: Any = native.find("cpu")[0]  # looked up once; None: then the functions that use it do not serve
_SUMS = torch.empty(0, dtype=torch.float64, device="cpu")  # new_empty of it is quicker than torch.empty with a dtype


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
        float64 [n], on the embedding's device. Peak memory of the native CPU code beyond inputs and outputs: a float64
        a row for each factor (and another if centred), up to 66 float64 matrices [d1, d2] (partial sums at most 64 MB)
        for each group in flight, and a float32 copy of float16 and bfloat16 rows.
        On CUDA: as many float64 a row, up to about 1,024 float64 rows and one for each group (of [d1, d2] for two
        factors, with 32 MB besides), two if centred; three factors and float64 rows take float64 copies of all rows.

    Raises:
        InputError: a shape, type or value that is not as above; non-finite values are reported by row.
    """
    rows = checks.factors(embedding)
    return registry.quickest("cosine_row_sums", rows)(rows, checks.offsets(offsets), bool(shifted), bool(center))


def _reference(factors: list[Tensor], offsets: Tensor | None, shifted: bool, center: bool) -> Tensor:
    bounds = checks.offsets_values(offsets, len(factors[0]))
    out = torch.zeros(len(factors[0]), dtype=torch.float64, device=factors[0].device)
    for begin, group in zip(bounds, groups(factors, bounds, center)):  # noqa: B905  the last bound begins no group
        if len(group):
            sums = group.dot(group.total())
            out[begin : begin + len(group)] = 0.5 * len(group) + 0.5 * sums if shifted else sums
    return out


def _fake(factors: list[Tensor], offsets: Tensor | None, shifted: bool, center: bool) -> Tensor:
    return factors[0].new_empty(factors[0].shape[0], dtype=torch.float64)


def _cpu(factors: list[Tensor], offsets: Tensor | None, shifted: bool, center: bool) -> Tensor:
    if len(factors) > 2:
        return _reference(factors, offsets, shifted, center)
    n = factors[0].shape[0]
    rows = native_rows(factors)
    bounds = native_offsets(offsets)
    place, groups = (0, 1) if bounds is None else (bounds.data_ptr(), bounds.shape[0] - 1)
    out = _SUMS.new_empty(n)
    bad = _CORE.cosine_row_sums(
        *native_arguments(rows), n, place, groups, shifted, center, torch.get_num_threads(), out.data_ptr()
    )
    if bad == native.INVALID:
        return _reference(factors, offsets, shifted, center)  # says what is wrong
    if bad >= 0:
        raise_non_finite(factors, bad)
    return out


def native_rows(factors: list[Tensor]) -> list[Tensor]:
    """One or two factors as the native code takes them: contiguous float32 or float64 rows, the wider factor first."""
    if len(factors) == 1 and factors[0].dtype is torch.float32 and factors[0].is_contiguous():
        return factors  # the usual case, without making a list
    rows = [(x if x.dtype is torch.float32 or x.dtype is torch.float64 else x.float()).contiguous() for x in factors]
    if len(rows) == 2 and rows[0].shape[1] < rows[1].shape[1]:
        rows.reverse()
    return rows


def native_arguments(rows: list[Tensor]) -> tuple[int, bool, int, int, bool, int]:
    """Address, is-it-float64 and width of the wide and of the narrow factor (0, False, 1 if there is none)."""
    wide = rows[0]
    if len(rows) == 1:
        return wide.data_ptr(), wide.dtype is torch.float64, wide.shape[1], 0, False, 1
    return (*native_arguments(rows[:1])[:3], *native_arguments(rows[1:])[:3])


def native_offsets(offsets: Tensor | None) -> Tensor | None:
    """Boundaries as the native code takes them: contiguous int64, or none (address 0) for one group."""
    if offsets is None or (offsets.dtype is torch.int64 and offsets.is_contiguous()):
        return offsets
    return offsets.to(torch.int64).contiguous()


registry.define(
    "cosine_row_sums(Tensor[] factors, Tensor? offsets, bool shifted, bool center) -> Tensor",
    reference=_reference,
    fake=_fake,
)
registry.impl("cosine_row_sums", "cpu", _cpu, note=NATIVE_NOTE)
registry.impl("cosine_row_sums", "cuda", row_sums_cuda.cosine_row_sums, needs="add_group_rows", note=row_sums_cuda.NOTE)
