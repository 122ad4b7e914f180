"""Small calls of the public ops on which planted faults are looked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

import dq_fast as dq

Outputs = tuple[Tensor, ...]


def _rows(n: int, d: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x[n // 2] = 0
    return x


def row_sums() -> Outputs:
    x = _rows(70, 76, 1)
    return dq.ops.cosine_row_sums(x), dq.ops.cosine_row_sums(x[:, 1:].contiguous(), shifted=False)


def row_sums_groups() -> Outputs:
    x = _rows(90, 64, 2, torch.float16)
    return (dq.ops.cosine_row_sums(x, offsets=torch.tensor([0, 5, 5, 60, 90])),)


def row_sums_centred() -> Outputs:
    return (dq.ops.cosine_row_sums(_rows(60, 40, 3), center=True),)


def row_sums_two_factors() -> Outputs:
    return (dq.ops.cosine_row_sums((_rows(50, 8, 4), _rows(50, 24, 5))),)


def graph_cut_gram() -> Outputs:
    x = _rows(150, 20, 6)
    return dq.ops.graph_cut_bins(x, 4, offsets=torch.tensor([0, 70, 71, 150]), method="gram")


def graph_cut_lazy() -> Outputs:
    x = _rows(300, 24, 7) + 1.0
    return dq.ops.graph_cut_greedy(x, 60, method="lazy")


def _maps(seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(3, 10, 8, 8, generator=generator).abs()
    return activations.to(dtype), torch.randn(3, 10, 8, 8, generator=generator).to(dtype)


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
        row_sums_two_factors,
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
