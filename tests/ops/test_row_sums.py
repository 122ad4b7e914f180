"""Cosine row sums against the explicit matrix in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dq_fast import ops

from .exhaustive import similarities
from .inputs import HARD


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("name", HARD)
def test_row_sums_of_hard_inputs(backend, name, shifted, center):
    factors, offsets = HARD[name]
    out = ops.cosine_row_sums(tuple(factors), offsets=offsets, shifted=shifted, center=center)
    want = [np.zeros(0)]
    for begin, end in itertools.pairwise(offsets):
        want.append(similarities([x[begin:end].double().numpy() for x in factors], shifted, center).sum(1))
    want = np.concatenate(want)
    assert out.dtype == torch.float64
    np.testing.assert_allclose(out.numpy(), want, rtol=1e-12, atol=1e-11 * max(1, len(want)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types(backend, dtype):
    x = torch.randn(70, 45, generator=torch.Generator().manual_seed(1)).to(dtype)
    want = similarities([x.double().numpy()]).sum(1)
    np.testing.assert_allclose(ops.cosine_row_sums(x).numpy(), want, rtol=1e-12)


def test_same_bits_for_any_thread_count(backend):
    x = torch.randn(5000, 37, generator=torch.Generator().manual_seed(2))
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(ops.cosine_row_sums(x, center=True))
    torch.set_num_threads(before)
    if backend == "native":
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0], results[2], rtol=1e-12, atol=1e-9)


def test_gradients_do_not_flow(backend):
    x = torch.randn(5, 3, requires_grad=True)
    assert not ops.cosine_row_sums(x).requires_grad
