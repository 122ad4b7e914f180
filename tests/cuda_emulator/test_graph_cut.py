"""Graph cut by the CUDA kernels, emulated under the public ops: against exhaustive greedy and other backends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.ops import graph_cut_torch, native, registry
from dq_fast.ops.cuda import blocks, launch

from ..ops.exhaustive import bin_sizes, greedy, ranked
from ..ops.inputs import HARD, clustered, gradient_like
from .conftest import STREAM

METHODS = ["auto", "gram", "lazy", "naive"]
SETTINGS = {  # each thread order has its own: they need not be crossed
    "forward": {"lam": 1.0, "shifted": True, "center": False},
    "reverse": {"lam": 0.3, "shifted": False, "center": True},
    "random": {"lam": 2.5, "shifted": True, "center": True},
}
forward = pytest.mark.parametrize("emulated", ["forward"], indirect=True)
# sanitizers look at every access in whatever order: one is enough for them
orders = pytest.mark.parametrize(
    "emulated", [pytest.param(o, id=o + ("" if o == "forward" else "-plain_only")) for o in SETTINGS], indirect=True
)


@pytest.fixture
def small_blocks(monkeypatch):
    """Few candidates, so that small groups have rows outside of a block; and bursts that end."""
    monkeypatch.setattr(blocks, "BLOCK", 30)
    monkeypatch.setattr(blocks, "FEW_PICKS", 3)
    monkeypatch.setattr(blocks, "LONGEST_BURST", 12)


def check_bins(factors, offsets, n_bins, method, lam=1.0, shifted=True, center=False):
    """Against the exhaustive definition: rows, order, bins and gains."""
    ranking, bin_of, gains = ops.graph_cut_bins(
        tuple(factors), n_bins, offsets=torch.tensor(offsets), lam=lam, shifted=shifted, center=center, method=method
    )
    arrays = [x.double().numpy() for x in factors]
    rows, want = ranked(arrays, offsets, lambda g, n: bin_sizes(n, n_bins), lam, shifted, center)
    np.testing.assert_array_equal(ranking.numpy(), rows)
    np.testing.assert_allclose(gains.numpy()[rows], want, rtol=1e-12, atol=1e-12 * max(1, len(rows)))
    want_bins, at = np.empty(len(rows), dtype=np.int64), 0
    for begin, end in itertools.pairwise(offsets):
        for k, size in enumerate(bin_sizes(end - begin, n_bins)):
            want_bins[rows[at : at + size]] = k
            at += size
    np.testing.assert_array_equal(bin_of.numpy(), want_bins)


@orders
@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("method", ["gram", "lazy"])
def test_bins_of_hard_inputs(emulated, name, method):
    factors, offsets = HARD[name]
    check_bins(factors, offsets, 4, method, **SETTINGS[emulated.order])
    kernel = {"gram": "graph_cut_gram", "lazy": "pick_block"}[method]
    assert bool(emulated.launched(kernel)) == (offsets[-1] > 0)


@orders
@pytest.mark.parametrize("name", [name for name in HARD if HARD[name][1][-1] <= 100])
def test_blocks_with_rows_outside(emulated, small_blocks, name):
    factors, offsets = HARD[name]
    check_bins(factors, offsets, 3, "lazy", **SETTINGS[emulated.order])


@forward
@pytest.mark.parametrize("name", [name for name in HARD if HARD[name][1][-1] > 100])
def test_blocks_with_more_rows_outside_plain_only(emulated, small_blocks, name):
    factors, offsets = HARD[name]
    check_bins(factors, offsets, 3, "lazy", **SETTINGS["random" if len(factors) == 1 else "forward"])


@forward
@pytest.mark.parametrize(
    "name", ["duplicated", "zero rows", "integers", "two factors", "small and odd groups", "tight"]
)
def test_row_by_row(emulated, name):
    factors, offsets = HARD[name]
    check_bins(factors, offsets, 4, "naive", 0.7, True, name == "two factors")
    assert emulated.launched("pick_winner") == offsets[-1]
    assert not emulated.launched("pick_block")
    assert not emulated.launched("graph_cut_gram")


@forward
@pytest.mark.parametrize("lam", [0.0, 1e6])
@pytest.mark.parametrize("method", METHODS)
def test_weights(emulated, small_blocks, method, lam):
    factors, offsets = HARD["clustered"]
    check_bins(factors, offsets, 4, method, lam, True, False)


@forward
@pytest.mark.parametrize("method", METHODS)
def test_more_bins_than_rows(emulated, small_blocks, method):
    factors, offsets = HARD["small and odd groups"]
    check_bins(factors, offsets, 9, method)


@forward
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types(emulated, small_blocks, dtype, method):
    b, h = (x.to(dtype) for x in gradient_like(90, 7, 21, 5))
    check_bins([b, h], [0, 40, 90], 3, method)
    check_bins([h], [0, 90], 5, method, 1.0, True, True)


@forward
@pytest.mark.parametrize("kind", ["isotropic", "duplicates", "all equal", "integers", "orthogonal", "zero"])
def test_ties_by_hundreds(emulated, monkeypatch, kind):
    """More equal rows than a block has candidates, and rows that no bound tells apart."""
    monkeypatch.setattr(blocks, "BLOCK", 40)
    g = torch.Generator().manual_seed(11)
    x = {
        "isotropic": lambda: torch.randn(250, 48, generator=g),
        "duplicates": lambda: torch.randn(5, 16, generator=g).repeat(60, 1)[torch.randperm(300, generator=g)],
        "all equal": lambda: torch.ones(300, 6),
        "integers": lambda: torch.randint(0, 2, (300, 3), generator=g).float(),
        "orthogonal": lambda: torch.eye(200),
        "zero": lambda: torch.zeros(150, 3),
    }[kind]()
    check_bins([x], [0, len(x)], 3, "lazy")
    check_bins([x], [0, len(x)], 3, "gram")


@forward
@pytest.mark.parametrize("method", ["lazy", "gram"])
def test_large_groups_plain_only(emulated, monkeypatch, method):
    """Several chunks of gains, blocks of hundreds of candidates; and few blocks, each with a few dozen picks."""
    monkeypatch.setattr(blocks, "BLOCK", 301)
    b, h = gradient_like(1100, 10, 24, 7)
    check_bins([b, h], [0, 1100], 6, method)
    if method == "lazy":
        assert 6 <= emulated.launched("pick_block") <= 30, emulated.launches()
        assert emulated.launched("pick_winner") <= 60, emulated.launches()


@forward
@pytest.mark.parametrize("n", [5, 900, 9000])
def test_bounds_of_rows_outside(emulated, n):
    """Buckets of neighbours, against numpy: rows inside and rows that are gone do not count."""
    g = torch.Generator().manual_seed(n)
    along = 2 * torch.rand(n, generator=g, dtype=torch.float64) - 1
    gains = torch.randn(n, generator=g, dtype=torch.float64)
    gains[torch.rand(n, generator=g) < 0.3] = -torch.inf
    inside = (torch.rand(n, generator=g) < 0.3).to(torch.uint8)
    order = along.sort().indices
    bounds = torch.full((4, emulated.module.graph_cut_bounds() // 4), torch.nan, dtype=torch.float64)
    emulated.module.graph_cut_outside(
        *(x.data_ptr() if isinstance(x, torch.Tensor) else x for x in (order, n, along, gains, inside, bounds)), STREAM
    )
    each = max(8, -(-n // bounds.shape[1]))
    for k, rows in enumerate(order.split(each)):
        rows = rows[(inside[rows] == 0) & torch.isfinite(gains[rows])]
        if len(rows) == 0:
            assert bounds[0, k] == -torch.inf
            continue
        a = along[rows]
        want = [gains[rows].max(), a.min(), a.max(), ((1 - a.square()).max() + 1e-10).sqrt()]
        torch.testing.assert_close(bounds[:, k], torch.stack(want), rtol=1e-14, atol=0)


@forward
@pytest.mark.parametrize(
    ("outside", "along", "picks"),
    [
        ((-torch.inf, 0.0, 0.0, 0.0), 1.0, 6),  # nobody there
        ((9.5, 0.0, 1.0, 0.0), 1.0, 1),  # may have lost nothing
        ((9.5, 1.0, 1.0, 0.0), 1.0, 6),  # loses what the candidates lose
        ((9.5, -1.0, 0.0, 0.0), -1.0, 1),
        ((9.5, -1.0, -1.0, 0.0), -1.0, 6),
        ((9.5, 0.0, 0.0, 1.0), 0.0, 1),  # may have gained
        ((3.5, 0.0, 0.0, 0.0), 0.0, 4),  # the candidates have 10, 8, 6, 4
        ((5.5, 0.5, 0.5, 0.5), 0.6, 3),  # 5.5 - 2 t * (0.6 * 0.5 - 0.8 * 0.5) = 5.5 + 0.2 t against 10 - 2 t
        ((10.0, 0.0, 1.0, 0.0), 1.0, 0),  # a tie
    ],
)
def test_a_block_stops_where_a_row_outside_may_win(emulated, outside, along, picks):
    """Six candidates that are the same row; the gain of one falls by 2 with every pick."""
    m = 6
    rows = torch.arange(m)
    s, gains = torch.ones(m, m, dtype=torch.float64), torch.full((m,), 10.0, dtype=torch.float64)
    alongs = torch.full((m,), along, dtype=torch.float64)
    bounds = torch.full((4, emulated.module.graph_cut_bounds() // 4), torch.nan, dtype=torch.float64)
    bounds[:, 0] = torch.tensor(outside, dtype=torch.float64)
    gone, indices = torch.zeros(m, dtype=torch.uint8), torch.full((m,), -1)
    values, count = torch.zeros(m, dtype=torch.float64), torch.full((1,), -1)
    emulated.module.graph_cut_block(
        s.data_ptr(), m, rows.data_ptr(), alongs.data_ptr(), gains.data_ptr(), bounds.data_ptr(), 1, 1e-9, False, m,
        100, 0.0, gone.data_ptr(), indices.data_ptr(), values.data_ptr(), count.data_ptr(), STREAM,
    )  # fmt: skip
    assert int(count) == picks
    assert indices.tolist() == [100 + k if k < picks else -1 for k in range(m)]
    assert gone.tolist() == [k < picks for k in range(m)]
    torch.testing.assert_close(values[:picks], 10 - 2 * torch.arange(picks, dtype=torch.float64), rtol=0, atol=0)


@orders
@pytest.mark.parametrize("method", METHODS)
def test_greedy(emulated, small_blocks, method):
    for name in ("gradients", "signed", "small and odd groups", "no rows", "no groups"):
        factors, offsets = HARD[name]
        sizes = [(end - begin) // 3 for begin, end in itertools.pairwise(offsets)]
        indices, gains = ops.graph_cut_greedy(tuple(factors), sizes, offsets=torch.tensor(offsets), method=method)
        rows, want = ranked([x.double().numpy() for x in factors], offsets, lambda g, n, sizes=sizes: [sizes[g]])
        np.testing.assert_array_equal(indices.numpy(), rows)
        np.testing.assert_allclose(gains.numpy(), want, rtol=1e-12, atol=1e-12 * max(1, len(factors[0])))


@forward
@pytest.mark.parametrize("method", METHODS)
def test_budgets(emulated, small_blocks, method):
    x = clustered(70, 8, 4, 13)
    for budgets in ([0, 40], [30, 0], [0, 0], [30, 40], [1, 39]):
        indices, _ = ops.graph_cut_greedy(x, budgets, offsets=[0, 30, 70], method=method)
        rows, _ = ranked([x.double().numpy()], [0, 30, 70], lambda g, n, budgets=budgets: [budgets[g]])
        np.testing.assert_array_equal(indices.numpy(), rows)
    with pytest.raises(InputError, match="budget must be at most 30"):
        ops.graph_cut_greedy(x, [31, 0], offsets=[0, 30, 70], method=method)


def given_similarities():
    g = torch.Generator().manual_seed(17)
    return [
        torch.rand(131, 131, generator=g),  # not symmetric: s[j, x] is what row j does to x; rows at odd addresses
        100 * torch.randn(70, 70, generator=g),
        torch.randint(0, 3, (63, 63), generator=g).float(),
        torch.zeros(9, 9),
        torch.ones(1, 1),
        torch.ones(2, 2),
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_given_similarity(emulated, dtype):
    for s in (s.to(dtype) for s in given_similarities()):
        array = s.double().numpy()
        scale = np.abs(array).max()
        ranking, _, gains = ops.graph_cut_bins(None, 3, similarity=s, lam=0.7)
        rows, want, _ = greedy(array, bin_sizes(len(s), 3), 0.7, scale)
        np.testing.assert_array_equal(ranking.numpy(), rows)
        np.testing.assert_allclose(gains.numpy()[rows], want, rtol=1e-12, atol=1e-12 * len(s) * scale)
        budget = (len(s) + 1) // 2
        indices, _ = ops.graph_cut_greedy(None, budget, similarity=s)
        np.testing.assert_array_equal(indices.numpy(), greedy(array, [budget], 1.0, scale)[0])
    assert emulated.launched("graph_cut_gram<double" if dtype is torch.float64 else "graph_cut_gram<float") == 12
    assert len(ops.graph_cut_bins(None, 3, similarity=torch.zeros(0, 0, dtype=dtype))[0]) == 0


@forward
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_given_similarity_at_any_address(emulated, dtype, shift):
    numbers = torch.rand(37 * 37 + 3, generator=torch.Generator().manual_seed(3), dtype=dtype)
    s = numbers[shift : shift + 37 * 37].view(37, 37)
    ranking, _, _ = ops.graph_cut_bins(None, 2, similarity=s)
    np.testing.assert_array_equal(ranking.numpy(), greedy(s.double().numpy(), [19, 18])[0])
    transposed, _, _ = ops.graph_cut_bins(None, 2, similarity=s.T)
    np.testing.assert_array_equal(transposed.numpy(), greedy(s.T.double().numpy(), [19, 18])[0])


@forward
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_groups_longer_than_shared_memory(emulated, dtype):
    """Their state is in global memory."""
    n = 6161 if dtype is torch.float32 else 6149
    s = torch.rand(n, n, generator=torch.Generator().manual_seed(5), dtype=dtype)
    indices, gains = ops.graph_cut_greedy(None, 4, similarity=s)
    kind = "double" if dtype is torch.float64 else "float"
    assert emulated.launched(f"graph_cut_gram<{kind}, false>") == 1, emulated.launches()
    now, want = s.sum(0, dtype=torch.float64), []
    for row, gain in zip(indices.tolist(), gains.tolist()):  # noqa: B905
        want.append(int(now.argmax()))
        assert abs(float(now[row]) - gain) < 1e-9 * n
        now -= 2 * s[row].double()
        now[row] = -torch.inf
    assert indices.tolist() == want


@forward
def test_groups_in_several_launches(emulated, monkeypatch, small_blocks):
    """Groups whose matrices do not fit together, and one whose matrix does not fit at all."""
    monkeypatch.setattr(graph_cut_torch, "GRAM_NUMBERS", 2000)
    x, offsets = clustered(190, 9, 5, 23), [0, 20, 65, 85, 127, 130, 190]
    check_bins([x], offsets, 3, "auto")
    assert emulated.launched("graph_cut_gram") == 2, "42 rows; 20, 20 and 3"
    assert emulated.launched("pick_block"), "45 and 60 rows"
    monkeypatch.setattr(launch, "free_bytes", lambda device: 4 * 8 * 2600)
    check_bins([x], offsets, 3, "auto")
    assert emulated.launched("graph_cut_gram") == 3, "now all four together"


@orders
@pytest.mark.parametrize("method", METHODS)
def test_other_backends_agree(emulated, small_blocks, method):
    """The same rows as the definition in torch and as the native CPU code, and gains to rounding."""
    b, h = gradient_like(140, 6, 17, 31)
    arguments = ([b, h], None, torch.tensor([0, 60, 60, 140]), 4, 1.3, True, emulated.order == "random", method)
    ranking, bin_of, gains = registry._overloads["graph_cut_bins"](*arguments)
    others = [registry.reference("graph_cut_bins")]
    if native.find("cpu")[0] is not None:
        others.append(registry.offered()["graph_cut_bins", "cpu"])
    for other in others:
        found = other(*arguments)
        assert torch.equal(found[0], ranking)
        assert torch.equal(found[1], bin_of)
        torch.testing.assert_close(found[2], gains, rtol=1e-12, atol=1e-10)


@forward  # these two are about Python: the kernels do what they do in other tests
@pytest.mark.parametrize("method", METHODS)
def test_progress_counts_every_row_plain_only(emulated, small_blocks, monkeypatch, method):
    monkeypatch.setattr("time.monotonic", itertools.count(1).__next__)  # every word gets through
    monkeypatch.setattr(graph_cut_torch, "GRAM_NUMBERS", 13_000)
    factors, offsets = HARD["two factors"]
    calls = []
    ops.graph_cut_bins(tuple(factors), 3, offsets=offsets, method=method, progress=lambda *call: calls.append(call))
    done = [c[1] for c in calls]
    assert calls[-1] == ("bins", 160, 160)
    assert len(done) >= 2
    assert done == sorted(set(done))


@forward
@pytest.mark.parametrize("method", METHODS)
def test_an_error_in_the_listener_comes_through_plain_only(emulated, method):
    def listen(stage, done, total):
        raise RuntimeError("stop it")

    with pytest.raises(RuntimeError, match="stop it"):
        ops.graph_cut_bins(HARD["gradients"][0], 3, method=method, progress=listen)


@forward
@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_are_not_finite(emulated, method):
    x = torch.ones(30, 5)
    x[7, 2] = torch.inf
    with pytest.raises(InputError, match="row 7"):
        ops.graph_cut_bins(x, 3, offsets=[0, 10, 30], method=method)
    x[7, 2], x[21, 0] = 1, torch.nan
    with pytest.raises(InputError, match=r"embedding\[1\].*row 21"):
        ops.graph_cut_bins((torch.ones(30, 2), x), 3, offsets=[0, 10, 30], method=method)
    for bad in (torch.nan, torch.inf, -torch.inf):
        s = torch.rand(12, 12, dtype=torch.float64)
        s[3, 4] = bad
        with pytest.raises(InputError, match=r"similarity.*row 3"):
            ops.graph_cut_bins(None, 2, similarity=s, method=method)


@forward
def test_gains_that_overflow_end(emulated):
    """Nothing useful, but every row once."""
    s = torch.full((20, 20), 1e308, dtype=torch.float64)
    s[3] = -1e308
    ranking, _, _ = ops.graph_cut_bins(None, 3, similarity=s, lam=1e10)
    assert sorted(ranking.tolist()) == list(range(20))
    x = clustered(60, 5, 3, 1)
    for method in METHODS:
        ranking, _, _ = ops.graph_cut_bins(torch.cat([x, -x]), 3, lam=1e308, method=method)
        assert sorted(ranking.tolist()) == list(range(120))
