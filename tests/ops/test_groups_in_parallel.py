"""Groups of equal size, which the native kernels take one to a thread; what goes wrong in several of them at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dq_fast import ops
from dq_fast.errors import InputError

from .exhaustive import bin_sizes, ranked
from .inputs import clustered

GROUPS, ROWS = 12, 10
OFFSETS = [ROWS * g for g in range(GROUPS + 1)]
X = clustered(GROUPS * ROWS, 7, 5, 21)


@pytest.mark.parametrize("method", ["auto", "naive", "gram", "lazy"])
def test_ranking_of_equal_groups(backend, method, threads):
    ranking, _, _ = ops.graph_cut_bins(X, 3, offsets=OFFSETS, method=method)
    rows, _ = ranked([X.double().numpy()], OFFSETS, lambda g, n: bin_sizes(n, 3))
    np.testing.assert_array_equal(ranking.numpy(), rows)


def test_row_sums_of_equal_groups(backend, threads):
    got = ops.cosine_row_sums(X, offsets=OFFSETS, shifted=False).numpy()
    for begin in OFFSETS[:-1]:
        rows = X[begin : begin + ROWS].double().numpy()
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        np.testing.assert_allclose(got[begin : begin + ROWS], (unit @ unit.T).sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("call", [ops.cosine_row_sums, lambda x, offsets: ops.graph_cut_bins(x, 3, offsets=offsets)])
def test_the_first_of_several_bad_rows_is_named(backend, call, threads):
    x = X.clone()
    x[[115, 63, 24, 37, 88]] = torch.nan
    for _ in range(20):  # whichever thread comes first
        with pytest.raises(InputError, match=r"row 24\b"):
            call(x, offsets=OFFSETS)
