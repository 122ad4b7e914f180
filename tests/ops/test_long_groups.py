"""Groups so long that most rows share one bound on their gains, against exhaustive greedy by matrix-vector products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dq_fast import ops

from .inputs import clustered

LONG = 17_003  # more than the kernel's kFar


def normalised(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def exhaustive(rows, sizes, lam, shifted):
    """Picks and gains in float64: gains of all rows for every pick, from sums of rows (they are linear)."""
    n, half = len(rows), 0.5 if shifted else 1.0
    left, picks, gains = np.ones(n, bool), [], []
    for size in sizes:
        remaining = left.sum()
        base = half * lam * (rows @ rows[left].sum(0)) + (half * lam * remaining if shifted else 0)
        taken = np.zeros(rows.shape[1])
        for t in range(size):
            gain = base - 2 * half * (rows @ taken) - (2 * half * t if shifted else 0)
            gain[~left] = -np.inf
            best = int(np.flatnonzero(gain >= gain.max() - 1e-12 * n * (lam + 2))[0])
            picks.append(best)
            gains.append(gain[best])
            left[best] = False
            taken += rows[best]
    return np.array(picks), np.array(gains)


def kinds():
    g = torch.Generator().manual_seed(5)
    x = clustered(LONG, 8, 30, 6)
    copies = x.clone()
    copies[9_000:12_000] = x[:3_000]
    return {
        "clustered": x,
        "isotropic": torch.randn(LONG, 6, generator=g),
        "copies": copies,
        "in file order": x[x[:, 0].argsort()].contiguous(),
        "opposite": torch.cat([x[: LONG // 2], -x[LONG // 2 :]]),
    }


@pytest.mark.parametrize(("lam", "shifted"), [(1.0, True), (0.25, False)])
@pytest.mark.parametrize("kind", list(kinds()))
def test_greedy(backend, kind, lam, shifted, threads):
    if backend == "torch":
        pytest.skip("the definition in torch has one way for all lengths")
    x = kinds()[kind]
    rows, gains = ops.graph_cut_greedy(x, 900, lam=lam, shifted=shifted, method="lazy")
    want, want_gains = exhaustive(normalised(x), [900], lam, shifted)
    np.testing.assert_array_equal(rows.numpy(), want)
    np.testing.assert_allclose(gains.numpy(), want_gains, rtol=1e-11, atol=1e-9)


def test_bins_down_to_the_last_row(backend):
    if backend == "torch":
        pytest.skip("the definition in torch has one way for all lengths")
    x = kinds()["clustered"]
    sizes = [LONG // 3 + (k < LONG % 3) for k in range(3)]
    ranking, _, _ = ops.graph_cut_bins(x, 3, method="lazy")
    want, _ = exhaustive(normalised(x), sizes, 1.0, True)
    np.testing.assert_array_equal(ranking.numpy(), want)


def test_two_factors_and_centred(backend):
    """No shorter definition of these here: against the exhaustive method, which shares no bounds."""
    if backend == "torch":
        pytest.skip("the definition in torch has one way for all lengths")
    b, h = clustered(LONG, 4, 9, 1), clustered(LONG, 9, 20, 2)
    for center in (False, True):
        lazy = ops.graph_cut_greedy((b, h), 700, center=center, method="lazy")
        naive = ops.graph_cut_greedy((b, h), 700, center=center, method="naive")
        assert torch.equal(lazy[0], naive[0])
