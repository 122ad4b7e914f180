"""The geometric methods against their definitions: same rows in the same order, same scores and weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.select.groups import Groups
from dq_fast.select.methods import Evidence, select

from . import oracles
from .inputs import evidence, lattices, rows

ORACLES = {
    "facility-location": oracles.facility_location,
    "k-center": oracles.k_center,
    "herding": oracles.herding,
    "craig": lambda x, budget: (oracles.craig(x, budget)[0], None),
    "grad-match": lambda x, budget: oracles.grad_match(x, budget, 0.5)[:2],
}
NAMES = list(ORACLES)
MORE = [1 << 30, 0]  # room for copies and all products, and none


@pytest.mark.parametrize("max_memory", MORE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n", "d", "budget"), [(1, 1, 1), (2, 3, 1), (7, 1, 7), (33, 5, 9), (40, 17, 12)])
def test_one_factor_is_the_definition(name: str, n: int, d: int, budget: int, max_memory: int) -> None:
    x = rows(n, d, seed=n)
    chosen = select(name, evidence(x, budget), max_memory=max_memory)
    picks, scores = ORACLES[name](x.double().numpy(), budget)
    assert chosen.ranking.tolist() == picks
    if scores is not None:
        np.testing.assert_allclose(chosen.scores, scores, rtol=1e-6, atol=1e-6 * max(1.0, max(scores)))


@pytest.mark.parametrize("max_memory", MORE)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("widths", [(3, 5), (6, 2), (2, 3, 2)])
def test_factors_are_their_product(name: str, widths: tuple[int, ...], max_memory: int) -> None:
    factors = [rows(26, d, seed=d + k) for k, d in enumerate(widths)]
    chosen = select(name, evidence(factors, 8), max_memory=max_memory)
    formed = oracles.written_out(factors)
    assert chosen.ranking.tolist() == ORACLES[name](formed, 8)[0]
    again = select(name, evidence(torch.from_numpy(formed), 8))
    assert chosen.ranking.tolist() == again.ranking.tolist()
    np.testing.assert_allclose(chosen.scores[1:], again.scores[1:], rtol=1e-9, atol=1e-9 * abs(again.scores).max())
    if chosen.weights is not None and again.weights is not None:
        np.testing.assert_allclose(chosen.weights, again.weights, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(factors=lattices(), data=st.data())
def test_ties_go_to_the_lowest_row(name: str, factors: tuple[torch.Tensor, ...], data: st.DataObject) -> None:
    n = len(factors[0])
    budget = data.draw(st.integers(0, n))
    max_memory = data.draw(st.sampled_from(MORE))
    chosen = select(name, evidence(factors, budget), max_memory=max_memory)
    assert chosen.ranking.tolist() == ORACLES[name](oracles.written_out(factors), budget)[0]


@pytest.mark.parametrize("name", NAMES)
def test_repeated_rows(name: str) -> None:
    x = rows(6, 4).repeat(3, 1)
    chosen = select(name, evidence(x, 18))
    assert sorted(chosen.ranking.tolist()) == list(range(18))
    assert chosen.ranking.tolist() == ORACLES[name](x.double().numpy(), 18)[0] if name != "grad-match" else True
    assert np.isfinite(chosen.scores).all()


@pytest.mark.parametrize("name", [*NAMES, "graph-cut", "random"])
def test_groups_are_chosen_from_each_by_itself(name: str) -> None:
    labels = np.array([2, 0, 1] * 14 + [3])
    x = rows(43, 6)
    budgets = [5, 14, 0, 1]
    chosen = select(name, evidence(x, budgets, labels))
    assert chosen.ranking.dtype == np.int64
    assert len(chosen.ranking) == len(chosen.scores) == 20
    begin = 0
    for g, budget in enumerate(budgets):
        members = np.flatnonzero(labels == g)
        mine = chosen.ranking[begin : begin + budget]
        assert set(mine) <= set(members)
        assert len(set(mine)) == budget
        if name != "random":
            alone = select(name, evidence(x[members], budget))
            assert mine.tolist() == members[alone.ranking].tolist()
            np.testing.assert_allclose(chosen.scores[begin : begin + budget], alone.scores, rtol=1e-9, atol=1e-12)
        begin += budget


@pytest.mark.parametrize("name", [*NAMES, "graph-cut", "random"])
def test_a_smaller_budget_is_a_prefix(name: str) -> None:
    x = rows(30, 5)
    all_of_it = select(name, evidence(x, 30)).ranking
    assert sorted(all_of_it.tolist()) == list(range(30))
    for budget in (0, 1, 11):
        assert select(name, evidence(x, budget)).ranking.tolist() == all_of_it[:budget].tolist()


@pytest.mark.parametrize("name", [*NAMES, "graph-cut", "random"])
def test_groups_of_no_rows(name: str) -> None:
    groups = Groups(np.arange(3), np.array([0, 0, 3, 3]), np.arange(3), np.ones(3, np.int64))
    chosen = select(name, Evidence((rows(3, 2),), groups, np.array([0, 2, 0])))
    assert len(chosen.ranking) == 2
    empty = select(name, evidence(torch.empty(0, 4), 0))
    assert empty.ranking.shape == empty.scores.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_types_and_strides(name: str, dtype: torch.dtype) -> None:
    x = rows(21, 5, dtype=torch.float64).to(dtype)
    expected = ORACLES[name](x.double().numpy(), 6)[0]
    wide = torch.zeros(42, 10, dtype=dtype)
    wide[::2, ::2] = x
    assert select(name, evidence(x, 6)).ranking.tolist() == expected
    assert select(name, evidence(wide[::2, ::2], 6)).ranking.tolist() == expected


@pytest.mark.parametrize("name", NAMES)
def test_many_blocks_are_as_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dq_fast.select.methods import coverage, products

    factors = (rows(90, 4, seed=1), rows(90, 7, seed=2))
    labels = np.arange(90) % 2
    expected = select(name, evidence(factors, [20, 30], labels))
    monkeypatch.setattr(products, "_BLOCK_NUMBERS", 50)
    monkeypatch.setattr(coverage, "_BLOCK_NUMBERS", 100)
    for max_memory in MORE:
        found = select(name, evidence(factors, [20, 30], labels), max_memory=max_memory)
        assert found.ranking.tolist() == expected.ranking.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_progress_reaches_the_end(name: str) -> None:
    calls = []
    more = evidence(rows(20, 3), [4, 6], np.arange(20) % 2, progress=lambda *call: calls.append(call))
    select(name, more)
    assert calls[-1] == (name, 10, 10)


@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_not_finite(name: str) -> None:
    x = rows(9, 3)
    x[4, 1] = float("nan")
    with pytest.raises(ValueError, match="embedding must be finite, got NaN or infinity in row 4"):
        select(name, evidence(x, 2))


@pytest.mark.parametrize("name", ["herding", "k-center"])
def test_normalised(name: str) -> None:
    x = rows(25, 4)
    chosen = select(name, evidence(x, 7), normalised=True)
    assert chosen.ranking.tolist() == ORACLES[name](oracles.unit(x.double().numpy()), 7)[0]


def test_random_depends_on_the_seed_only() -> None:
    x = rows(200, 2)
    one = select("random", evidence(x, 50, seed=1)).ranking
    assert one.tolist() == select("random", evidence(2 * x, 50, seed=1)).ranking.tolist()
    assert one.tolist() != select("random", evidence(x, 50, seed=2)).ranking.tolist()
    counts = np.zeros(10)
    for seed in range(2000):
        counts[select("random", evidence(x[:10], 3, seed=seed)).ranking] += 1
    assert abs(counts - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_graph_cut_once_is_one_bin() -> None:
    x = rows(30, 4)
    s = oracles.shifted_cosines(x.double().numpy())
    picks: list[int] = []
    for _ in range(10):
        gain = s.sum(1) - 2 * s[:, picks].sum(1)
        gain[picks] = -np.inf
        picks.append(int(gain.argmax()))
    assert select("graph-cut", evidence(x, 10)).ranking.tolist() == picks
