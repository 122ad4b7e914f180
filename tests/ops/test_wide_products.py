"""Short groups of wide products, for which similarities are formed first in float64 and sums of rows when asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dq_fast import ops
from dq_fast.errors import InputError

from . import exhaustive

WIDTHS = (263, 257)  # odd, and a product of more than 2^16 numbers
SIZES = (1, 0, 24, 97, 149)  # around the tiles of the kernel


def embedding(dtype):
    g = torch.Generator().manual_seed(11)
    factors = [torch.randn(sum(SIZES), d, generator=g, dtype=torch.float64) + 0.3 for d in WIDTHS]
    for x in factors:
        x[40] = x[30]  # twins in the third group, of which the first is to win
        x[150] = 0
    return [x.to(dtype) for x in factors], np.cumsum([0, *SIZES])


def similarities(factors, shifted, center):
    """s [n, n] of one group, without its products."""
    c = np.ones((len(factors[0]), len(factors[0])))
    for x in factors:
        unit = exhaustive.unit(x.double().numpy(), 0.0)
        c = c * (unit @ unit.T)
    if center and len(c):
        c = c - c.mean(0) - c.mean(1, keepdims=True) + c.mean()
        norm = np.sqrt(np.maximum(c.diagonal(), 0))
        scale = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 1e-12)
        c = c * scale * scale[:, None]
    return 0.5 + 0.5 * c if shifted else c


@pytest.mark.parametrize(
    ("dtype", "shifted", "center"),
    [(torch.float32, True, False), (torch.float64, False, False), (torch.float32, False, True)],
)
def test_bins_and_sums(backend, threads, dtype, shifted, center):
    factors, offsets = embedding(dtype)
    ranking, _, gains = ops.graph_cut_bins(factors, 3, offsets=offsets, shifted=shifted, center=center)
    sums = ops.cosine_row_sums(factors, offsets=offsets, shifted=shifted, center=center)
    for begin, end in itertools.pairwise(offsets):
        s = similarities([x[begin:end] for x in factors], shifted, center)
        rows, wanted, _ = exhaustive.greedy(s, exhaustive.bin_sizes(end - begin, 3))
        np.testing.assert_array_equal(ranking[begin:end].numpy() - begin, rows)
        np.testing.assert_allclose(gains[torch.from_numpy(rows + begin)].numpy(), wanted, rtol=1e-11, atol=1e-9)
        np.testing.assert_allclose(sums[begin:end].numpy(), s.sum(0), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("factor", [0, 1])
def test_a_row_that_is_not_finite_is_told(backend, threads, factor):
    factors, offsets = embedding(torch.float32)
    factors[factor][120, 256] = float("nan")
    with pytest.raises(InputError, match="120"):
        ops.graph_cut_bins(factors, 3, offsets=offsets)
