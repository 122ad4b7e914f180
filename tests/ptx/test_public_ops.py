"""The public ops on the kernels' PTX for sm_80 and sm_90, against definitions in float64 that know nothing of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.ops.cuda import blocks
from dq_fast.ops.patch_scores import VARIANTS

from ..cuda_emulator import fault_cases
from ..ops.exhaustive import bin_sizes, greedy, ranked, similarities
from ..ops.inputs import clustered, gradient_like
from ..ops.test_patch_scores import case, independent
from .compile import plain
from .interpreter import PtxError

HALVES = [torch.float16, torch.bfloat16]
LAUNCHED: dict[str, set[str]] = {}  # plain names of kernels that ran, by target; the last test looks at it


@pytest.fixture(autouse=True)
def _note(interpreted, library):
    yield
    LAUNCHED.setdefault(library.target, set()).update(plain(name) for name in interpreted.kernels)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unaligned(x):
    """The same rows one element behind an address that is a multiple of 16."""
    flat = torch.empty(x.numel() + 16, dtype=x.dtype)
    start = (-flat.data_ptr() // x.element_size()) % (16 // x.element_size()) + 1
    out = flat[start : start + x.numel()].view(x.shape)
    return out.copy_(x)


def sums(factors, offsets, shifted=True, center=False):
    parts = [np.zeros(0)]
    for begin, end in itertools.pairwise(offsets):
        parts.append(similarities([x[begin:end].double().numpy() for x in factors], shifted, center).sum(1))
    return np.concatenate(parts)


@pytest.mark.parametrize("name", fault_cases.CASES)
def test_cases_of_the_emulator(interpreted, name):
    got = fault_cases.CASES[name]()
    assert interpreted.kernels, "no kernel ran"
    for a, b in zip(got, CPU[name], strict=True):
        assert fault_cases.same(a, b)


CPU = {name: fault_cases.expected(name) for name in fault_cases.CASES}  # before any fixture stands in their way


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (5, 33), (37, 130), (20, 515)])
def test_row_sums(interpreted, n, d, center):
    x = randn(n, d, seed=n)
    if n > 2:
        x[2] = 0
        x[1] = x[0]
    for rows in (x, unaligned(x)):
        for shifted in (False, True):
            out = ops.cosine_row_sums(rows, shifted=shifted, center=center)
            np.testing.assert_allclose(out.numpy(), sums([x], [0, n], shifted, center), rtol=1e-12, atol=1e-11 * n)
    assert interpreted.kernels


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("d", [1, 40, 77])
def test_row_sums_of_halves_in_groups(interpreted, dtype, d):
    offsets = [0, 0, 1, 3, 3, 40, 41, 60]
    x = randn(60, d, seed=3).to(dtype)
    x[1:3] = 1
    for center in (False, True):
        out = ops.cosine_row_sums(x, offsets=offsets, center=center)
        np.testing.assert_allclose(out.numpy(), sums([x], offsets, True, center), rtol=1e-12, atol=1e-9)
    assert interpreted.kernels


@pytest.mark.parametrize("center", [False, True])
def test_row_sums_of_two_factors(interpreted, center):
    b, h = gradient_like(50, 6, 21, 5)
    wider = gradient_like(50, 17, 21, 6)  # neither is narrow: torch forms the products
    for factors in ((b, h), (h.bfloat16(), b.half()), wider):
        out = ops.cosine_row_sums(factors, offsets=[0, 20, 50], center=center)
        np.testing.assert_allclose(out.numpy(), sums(factors, [0, 20, 50], True, center), rtol=1e-12, atol=1e-9)
    assert interpreted.kernels


def test_wide_rows(interpreted):
    x = randn(5, 6147)
    out = ops.cosine_row_sums(x, center=True)
    np.testing.assert_allclose(out.numpy(), sums([x], [0, 5], True, True), rtol=1e-12, atol=1e-10)
    assert interpreted.kernels


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite(interpreted, bad):
    x = randn(40, 33)
    x[7, 32] = x[9, 0] = bad
    with pytest.raises(InputError, match="row 7"):
        ops.cosine_row_sums(x)
    assert interpreted.kernels


def check_bins(factors, offsets, n_bins, method, lam=1.0, shifted=True, center=False):
    ranking, _, gains = ops.graph_cut_bins(
        tuple(factors), n_bins, offsets=torch.tensor(offsets), lam=lam, shifted=shifted, center=center, method=method
    )
    arrays = [x.double().numpy() for x in factors]
    rows, want = ranked(arrays, offsets, lambda g, n: bin_sizes(n, n_bins), lam, shifted, center)
    np.testing.assert_array_equal(ranking.numpy(), rows)
    np.testing.assert_allclose(gains.numpy()[rows], want, rtol=1e-12, atol=1e-12 * max(1, len(rows)))


@pytest.fixture
def small_blocks(monkeypatch):
    """Few candidates, so that small groups have rows outside of a block; and bursts that end."""
    monkeypatch.setattr(blocks, "BLOCK", 24)
    monkeypatch.setattr(blocks, "FEW_PICKS", 3)
    monkeypatch.setattr(blocks, "LONGEST_BURST", 12)


GROUPS = {
    "clusters": ((clustered(70, 12, 5, 4),), [0, 40, 40, 41, 70]),
    "ties": ((clustered(10, 6, 3, 1).repeat(5, 1),), [0, 50]),
    "all equal": ((torch.ones(30, 4),), [0, 30]),
    "integers": ((torch.randint(-1, 2, (60, 4), generator=torch.Generator().manual_seed(1)).float(),), [0, 60]),
    "two factors": (gradient_like(60, 5, 12, 3), [0, 25, 60]),
    "halves": ((clustered(50, 9, 4, 6).half(),), [0, 50]),
}


@pytest.mark.parametrize("method", ["gram", "lazy", "naive"])
@pytest.mark.parametrize("name", GROUPS)
def test_graph_cut(interpreted, small_blocks, name, method):
    factors, offsets = GROUPS[name]
    check_bins(factors, offsets, 3, method, *((0.4, False, True) if name == "two factors" else ()))
    assert interpreted.kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_graph_cut_of_given_similarities(interpreted, dtype):
    s = torch.rand(40, 40, generator=torch.Generator().manual_seed(5), dtype=dtype)
    s = (s + s.T) / 2
    s[7] = s[3]
    s[:, 7] = s[:, 3]
    for method in ("gram", "lazy", "naive"):
        ranking, _, _ = ops.graph_cut_bins(None, 3, similarity=s, method=method)
        rows, _, _ = greedy(s.double().numpy(), bin_sizes(40, 3))
        np.testing.assert_array_equal(ranking.numpy(), rows)
    assert interpreted.kernels


SHAPES = [(1, 1, 1, 1, 2, 3), (2, 5, 1, 5, 4, 2), (2, 37, 7, 7, 3, 4), (1, 7, 13, 5, 5, 6), (1, 6, 17, 16, 2, 2)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("constant", [False, True], ids=["full", "constant"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_patch_scores(interpreted, shape, constant, layout):
    for variant in VARIANTS:
        a, g, grid = case(shape, signed=False, constant=constant)
        found = ops.patch_scores(a.contiguous(memory_format=layout), g, grid, variant=variant)
        want = independent(a, g, grid, variant)
        scale = want.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
        assert ((found.double() - want).abs() / scale).max() <= 2e-7
    assert interpreted.kernels


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_patch_scores_of_halves(interpreted, dtype, layout):
    for constant in (False, True):
        a, g, grid = case((2, 19, 4, 5, 3, 3), signed=False, constant=constant)
        a, g = a.to(dtype), g.to(dtype)
        found = ops.patch_scores(a.contiguous(memory_format=layout), g, grid)
        want = independent(a, g, grid, "paper")
        scale = want.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
        assert ((found.double() - want).abs() / scale).max() <= 2e-7
    assert interpreted.kernels


def test_a_pointer_to_memory_that_is_not_a_tensors_is_found(interpreted, monkeypatch):
    """The launchers are told addresses of float32 rows that are four bytes too high."""
    real = torch.Tensor.data_ptr
    monkeypatch.setattr(torch.Tensor, "data_ptr", lambda x: real(x) + 4 * (x.dtype == torch.float32))
    with pytest.raises(PtxError, match=r"global memory out of bounds: .* of an allocation of 5280"):
        ops.cosine_row_sums(randn(40, 33))


def test_every_kernel_has_run(library, request):
    """By name, not by template argument."""
    selected = {item.originalname for item in request.session.items if item.module is request.module}
    if not {name for name in vars(request.module) if name.startswith("test_")} <= selected:
        pytest.skip("says something only after all tests above")
    assert {plain(name) for name in library.kernels()} <= LAUNCHED[library.target], "no test above runs them"
