"""Small calls of the public ops on which planted faults are looked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

import dq_fast as dq
from dq_fast.ops.cuda import blocks

Outputs = tuple[Tensor, ...]


def _rows(n: int, d: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x[n // 2] = 0
    return x


def row_sums() -> Outputs:
    wide = _rows(71, 300, 1)  # several tiles a part
    return (
        dq.ops.cosine_row_sums(_rows(71, 76, 2)),  # two rows a warp, and one left over
        dq.ops.cosine_row_sums(wide),
        dq.ops.cosine_row_sums(wide[:, 1:].contiguous()[1:], shifted=False),  # rows that do not begin at 16 bytes
    )


def row_sums_groups() -> Outputs:
    x = _rows(150, 260, 3, torch.float16)
    return (dq.ops.cosine_row_sums(x, offsets=torch.tensor([0, 5, 5, 100, 150])),)


def row_sums_centred() -> Outputs:
    return (dq.ops.cosine_row_sums(_rows(60, 300, 4), center=True),)


def row_sums_pairs() -> Outputs:
    return (dq.ops.cosine_row_sums((_rows(150, 5, 10), _rows(150, 40, 11))),)  # several tiles a part


def row_sums_products() -> Outputs:
    factors = (_rows(61, 17, 12), _rows(61, 40, 13))  # neither is narrow: torch multiplies between the kernels
    return (dq.ops.cosine_row_sums(factors), dq.ops.cosine_row_sums(factors, center=True))


def graph_cut_gram() -> Outputs:
    x = _rows(330, 20, 6)  # groups for two warps
    x[150:170] = x[:20]  # ties between threads
    return dq.ops.graph_cut_bins(x, 4, offsets=torch.tensor([0, 200, 201, 330]), method="gram")


def graph_cut_lazy() -> Outputs:
    x = _rows(301, 24, 7) + 1.0
    x[200:230] = x[:30]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 200)  # candidates of a block: some rows are outside
        return dq.ops.graph_cut_greedy(x, 60, method="lazy")


def _maps(seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 141, 7, 9)  # images that do not end at 16 bytes, three tiles for a warp
    activations = torch.randn(shape, generator=generator).abs()
    return activations.to(dtype), torch.randn(shape, generator=generator).to(dtype)


def patch_scores() -> Outputs:
    out = []
    for variant in ("paper", "torchcam", "grad-cam"):
        activations, gradients = _maps(8, torch.float32)
        out.append(dq.ops.patch_scores(activations, gradients, (3, 5), variant=variant))
        last = torch.channels_last
        activations, gradients = (x.contiguous(memory_format=last) for x in _maps(9, torch.bfloat16))
        out.append(dq.ops.patch_scores(activations, gradients, (4, 4), variant=variant))
    return tuple(out)


CASES: dict[str, Callable[[], Outputs]] = {
    case.__name__: case
    for case in (
        row_sums,
        row_sums_groups,
        row_sums_centred,
        row_sums_pairs,
        row_sums_products,
        graph_cut_gram,
        graph_cut_lazy,
        patch_scores,
    )
}


@cache
def expected(case: str) -> Outputs:
    """The case's result without the CUDA kernels; to be asked for first outside of the `emulated` fixture."""
    return CASES[case]()


def same(got: Tensor, wanted: Tensor) -> bool:
    """Equal integers; floats within the rounding of their type, without NaN."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if not got.is_floating_point():
        return torch.equal(got, wanted)
    tolerance = 1e-4 if got.dtype == torch.float32 else 1e-9
    return torch.allclose(got, wanted, rtol=tolerance, atol=tolerance)
