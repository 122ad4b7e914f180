"""The public ops as functions of a few tensors, for tests of how they are called rather than of what they compute."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dq_fast import ops

from ..ops.inputs import clustered, gradient_like

Op = Callable[..., tuple[Tensor, ...]]


def _row_sums(x: Tensor) -> tuple[Tensor, ...]:
    return (ops.cosine_row_sums(x),)


def _factor_sums(b: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return (ops.cosine_row_sums((b, h)),)


def _group_sums(b: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return (ops.cosine_row_sums((b, h), offsets=[0, 100, 300]),)


def _bins(x: Tensor) -> tuple[Tensor, ...]:
    return ops.graph_cut_bins(x, 3, offsets=[0, 130, 200])


def _lazy(x: Tensor) -> tuple[Tensor, ...]:
    return ops.graph_cut_bins(x, 3, method="lazy")


def _greedy(b: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return ops.graph_cut_greedy((b, h), 30)


def _given(s: Tensor) -> tuple[Tensor, ...]:
    return ops.graph_cut_greedy(None, 20, similarity=s)


def _scores(a: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    return (ops.patch_scores(a, g, (6, 6)),)


def _maps(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 20, 5, 5, generator=generator), torch.randn(3, 20, 5, 5, generator=generator)


def _matrix(seed: int) -> Tensor:
    x = torch.nn.functional.normalize(clustered(90, 7, 4, seed), dim=1)
    return 0.5 + 0.5 * x @ x.T


CALLS: dict[str, tuple[Op, Callable[[int], tuple[Tensor, ...]]]] = {
    "row sums": (_row_sums, lambda seed: (clustered(700, 33, 5, seed),)),
    "row sums, two factors": (_factor_sums, lambda seed: gradient_like(300, 10, 24, seed)),
    "row sums, two factors, two groups": (_group_sums, lambda seed: gradient_like(300, 10, 24, seed)),
    "bins": (_bins, lambda seed: (clustered(200, 16, 6, seed),)),
    "bins, lazy": (_lazy, lambda seed: (clustered(600, 16, 6, seed),)),
    "greedy, two factors": (_greedy, lambda seed: gradient_like(300, 10, 24, seed)),
    "greedy, given similarities": (_given, lambda seed: (_matrix(seed),)),
    "patch scores": (_scores, _maps),
}
"""Name -> op and maker of its inputs, on the CPU, from a seed."""


def same(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    """Integers equal, scores and sums up to rounding."""
    for x, y in zip(got, want, strict=True):
        if x.dtype == torch.int64:
            assert torch.equal(x.cpu(), y.cpu())
        else:
            tight = x.dtype == torch.float64
            torch.testing.assert_close(x.cpu(), y.cpu(), rtol=1e-10 if tight else 1e-5, atol=1e-10 if tight else 1e-6)
