"""Rankings against exhaustive float64 greedy: same rows, order and gains, whatever the method, backend or threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dq_fast import ops

from .exhaustive import bin_sizes, greedy, ranked, similarities
from .inputs import HARD, clustered, gradient_like

METHODS = ["auto", "naive", "gram", "lazy"]
SETTINGS = [
    {"lam": 1.0, "shifted": True, "center": False},
    {"lam": 0.3, "shifted": False, "center": False},
    {"lam": 2.5, "shifted": True, "center": True},
    {"lam": 1.0, "shifted": False, "center": True},
    {"lam": 0.0, "shifted": True, "center": False},
]


def check_bins(factors, offsets, n_bins, method, lam, shifted, center):
    ranking, bin_of, gains = ops.graph_cut_bins(
        tuple(factors), n_bins, offsets=torch.tensor(offsets), lam=lam, shifted=shifted, center=center, method=method
    )
    arrays = [x.double().numpy() for x in factors]
    rows, want = ranked(arrays, offsets, lambda g, n: bin_sizes(n, n_bins), lam, shifted, center)
    np.testing.assert_array_equal(ranking.numpy(), rows)
    n = len(rows)
    np.testing.assert_allclose(gains.numpy()[rows], want, rtol=1e-12, atol=1e-12 * max(1, n))
    want_bins = np.empty(n, dtype=np.int64)
    at = 0
    for begin, end in itertools.pairwise(offsets):
        for k, size in enumerate(bin_sizes(end - begin, n_bins)):
            want_bins[rows[at : at + size]] = k
            at += size
    np.testing.assert_array_equal(bin_of.numpy(), want_bins)


@pytest.mark.parametrize("settings", SETTINGS[:3], ids=str)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", HARD)
def test_bins_of_hard_inputs(backend, name, method, settings):
    factors, offsets = HARD[name]
    check_bins(factors, offsets, 4, method, **settings)


@pytest.mark.parametrize("settings", SETTINGS[3:], ids=str)
@pytest.mark.parametrize("name", HARD)
def test_more_settings(backend, name, settings):
    factors, offsets = HARD[name]
    check_bins(factors, offsets, 7, "auto", **settings)


@pytest.mark.parametrize("method", METHODS)
def test_threads_change_nothing(backend, method, threads):
    for name in ("gradients", "small and odd groups", "duplicated", "two factors"):
        factors, offsets = HARD[name]
        check_bins(factors, offsets, 3, method, 1.0, True, False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types(backend, dtype, method):
    b, h = (x.to(dtype) for x in gradient_like(150, 7, 21, 5))
    check_bins([b, h], [0, 70, 150], 3, method, 1.0, True, False)
    check_bins([h], [0, 150], 5, method, 1.0, True, True)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", ["auto", "gram", "lazy"])
def test_bins_where_bounds_matter(backend, method, center, threads):
    """Groups larger than the pool of candidates: rows wait outside, come in, go out."""
    n = 1200 if backend == "native" else 600  # 512 in the pool, or in a block
    b, h = gradient_like(n, 10, 40, 7)
    check_bins([b, h], [0, n], 4, method, 1.0, True, center)
    check_bins([clustered(n, 24, 9, 8)], [0, n], 3, method, 1.0, False, center)


@pytest.mark.parametrize("method", ["auto", "gram", "lazy"])
@pytest.mark.parametrize("kind", ["isotropic", "duplicates", "all equal", "integers", "orthogonal"])
def test_large_groups_that_bounds_do_not_help(backend, kind, method):
    g = torch.Generator().manual_seed(11)
    x = {
        "isotropic": lambda: torch.randn(700, 48, generator=g),
        "duplicates": lambda: torch.randn(70, 16, generator=g).repeat(10, 1)[torch.randperm(700, generator=g)],
        "all equal": lambda: torch.ones(700, 6),
        "integers": lambda: torch.randint(0, 3, (700, 5), generator=g).float(),
        "orthogonal": lambda: torch.eye(560),
    }[kind]()
    check_bins([x], [0, len(x)], 3, method, 1.0, True, False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["gradients", "clustered", "signed", "integers", "small and odd groups", "no rows"])
def test_greedy(backend, name, method):
    factors, offsets = HARD[name]
    sizes = [(end - begin) // 2 for begin, end in itertools.pairwise(offsets)]
    indices, gains = ops.graph_cut_greedy(tuple(factors), sizes, offsets=torch.tensor(offsets), method=method)
    rows, want = ranked([x.double().numpy() for x in factors], offsets, lambda g, n: [sizes[g]])
    np.testing.assert_array_equal(indices.numpy(), rows)
    np.testing.assert_allclose(gains.numpy(), want, rtol=1e-12, atol=1e-12 * max(1, len(factors[0])))


def test_one_budget_for_all_groups(backend):
    x = clustered(90, 8, 4, 13)
    indices, _ = ops.graph_cut_greedy(x, 5, offsets=[0, 40, 90])
    rows, _ = ranked([x.double().numpy()], [0, 40, 90], lambda g, n: [5])
    np.testing.assert_array_equal(indices.numpy(), rows)
    assert len(ops.graph_cut_greedy(x, 0)[0]) == 0
    assert sorted(ops.graph_cut_greedy(x, 90)[0].tolist()) == list(range(90)), "negative gains do not stop it"


def test_no_pick_is_short_of_the_maximum(backend):
    """The tie rule gives away at most its tolerance: checked without it, pick by pick."""
    for name in ("gradients", "duplicated", "random"):
        factors, _ = HARD[name]
        n = len(factors[0])
        s = similarities([x.double().numpy() for x in factors])
        ranking = ops.graph_cut_bins(tuple(factors), 4)[0].numpy()
        left, at = np.ones(n, dtype=bool), 0
        for size in bin_sizes(n, 4):
            gain = s[left].sum(0)
            for row in ranking[at : at + size]:
                assert gain[left].max() - gain[row] <= 1e-9 * n
                gain = gain - 2 * s[row]
                left[row] = False
            at += size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_given_similarity(backend, dtype, method, threads):
    g = torch.Generator().manual_seed(17)
    for s in (
        torch.rand(130, 130, generator=g),  # not symmetric: s[j, x] is what row j does to x
        100 * torch.randn(70, 70, generator=g),
        torch.randint(0, 3, (60, 60), generator=g).float(),
        torch.zeros(9, 9),
        torch.ones(1, 1),
    ):
        s = s.to(dtype)
        array = s.double().numpy()
        scale = np.abs(array).max()
        ranking, _, gains = ops.graph_cut_bins(None, 3, similarity=s, lam=0.7, method=method)
        rows, want, _ = greedy(array, bin_sizes(len(s), 3), 0.7, scale)
        np.testing.assert_array_equal(ranking.numpy(), rows)
        np.testing.assert_allclose(gains.numpy()[rows], want, rtol=1e-12, atol=1e-12 * len(s) * scale)
        budget = (len(s) + 1) // 2
        indices, _ = ops.graph_cut_greedy(None, budget, similarity=s, method=method)
        np.testing.assert_array_equal(indices.numpy(), greedy(array, [budget], 1.0, scale)[0])
    assert len(ops.graph_cut_bins(None, 3, similarity=torch.zeros(0, 0))[0]) == 0


def test_given_similarity_equals_the_embedding_it_came_from(backend):
    factors, _ = HARD["two factors"]
    s = torch.from_numpy(similarities([x.double().numpy() for x in factors]))
    given = ops.graph_cut_bins(None, 5, similarity=s)
    formed = ops.graph_cut_bins(tuple(factors), 5)
    assert torch.equal(given[0], formed[0])
    assert torch.equal(given[1], formed[1])


def test_progress_counts_every_row(backend):
    factors, offsets = HARD["two factors"]
    calls = []
    ops.graph_cut_bins(
        tuple(factors), 3, offsets=offsets, progress=lambda stage, done, total: calls.append((stage, done, total))
    )
    assert calls[-1] == ("bins", 160, 160)
    assert [c[1] for c in calls] == sorted(c[1] for c in calls)


def test_an_error_in_the_listener_comes_through(backend):
    def listen(stage, done, total):
        raise RuntimeError("stop it")

    with pytest.raises(RuntimeError, match="stop it"):
        ops.graph_cut_bins(HARD["gradients"][0], 3, progress=listen)
