"""Contextual diversity and GLISTER against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.select.methods import select

from . import score_oracles as oracles
from .score_inputs import evidence, scored


@pytest.mark.parametrize(("n", "classes", "budget"), [(1, 1, 1), (2, 2, 2), (30, 3, 30), (41, 6, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contextual_diversity(n: int, classes: int, budget: int, dtype: torch.dtype) -> None:
    z = scored(n, classes=classes, dtype=dtype)[1]
    picks, scores = oracles.contextual_diversity(z.double().numpy(), budget)
    chosen = select("contextual-diversity", evidence(None, z, None, budget))
    if classes > 1:
        assert chosen.ranking.tolist() == picks
    np.testing.assert_allclose(chosen.scores, scores, rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=1, max_size=14), st.data())
def test_contextual_diversity_of_repeats(rows: list[list[int]], data: st.DataObject) -> None:
    z = torch.tensor(rows, dtype=torch.float64)
    z[:, 1] = z[:, 0]  # with a third class, predictions are one of seven
    z = torch.cat([z, torch.zeros(len(z), 1, dtype=torch.float64)], 1)
    budget = data.draw(st.integers(0, len(rows)))
    chosen = select("contextual-diversity", evidence(None, z, None, budget))
    distinct = len({row[0] for row in rows})
    first = [rows[i][0] for i in chosen.ranking[:distinct]]
    assert len(set(first)) == len(first)  # one of each before any repeat
    assert (chosen.scores[distinct:] == 0).all()
    assert (np.diff(chosen.ranking[distinct:]) > 0).all()
    for i in chosen.ranking[:distinct]:
        assert i == min(j for j, row in enumerate(rows) if row[0] == rows[i][0])


def test_contextual_diversity_where_probabilities_underflow() -> None:
    z = torch.tensor([[0.0, 0], [900, 0], [0, 900], [2000, 0]], dtype=torch.float64)
    chosen = select("contextual-diversity", evidence(None, z, None, 4))
    assert np.isfinite(chosen.scores).all()
    # By hand: half of (1 - 1/2) * 2000 from (1/2, 1/2) to log-odds of 2000, and to -900; 900 and 2000 are both (1, 0).
    assert chosen.ranking.tolist() == [0, 3, 2, 1]
    np.testing.assert_allclose(chosen.scores[1:], [500, 225, 0], rtol=1e-12)


def eta_of(x: torch.Tensor, budget: int, step: float = 1.0) -> float:
    return step / (0.5 * float((1 + x.square().sum(1)).mean())) / budget


@pytest.mark.parametrize(("n", "width", "classes", "budget"), [(1, 1, 1, 1), (6, 1, 2, 6), (25, 3, 3, 10)])
@pytest.mark.parametrize("held_out", [False, True])
def test_glister_is_greedy_with_a_fresh_validation_gradient(
    n: int, width: int, classes: int, budget: int, held_out: bool
) -> None:
    x, z, y = scored(n, width, classes)
    validation = scored(8, width, classes, seed=5) if held_out else (x, z, y)
    eta = eta_of(validation[0], budget, 3.0)
    arrays = validation[0].numpy(), validation[1].numpy(), validation[2]
    picks, scores = oracles.glister(x.numpy(), z.numpy(), y, budget, eta, arrays)
    options = {"validation": validation} if held_out else {}
    chosen = select("glister", evidence(x, z, y, budget), rounds=n, step=3.0, **options)
    np.testing.assert_allclose(chosen.scores, scores, rtol=1e-6, atol=1e-9)
    if classes > 1:
        assert chosen.ranking.tolist() == picks


def test_glister_gradients_are_updated() -> None:
    # Without updates the choice is the order of the first gains; a large step must change it.
    x, z, y = scored(40)
    once = select("glister", evidence(x, z, y, 20), rounds=1, step=20.0)
    often = select("glister", evidence(x, z, y, 20), rounds=20, step=20.0)
    assert (np.diff(once.scores) <= 0).all()
    assert once.ranking[0] == often.ranking[0]
    assert set(once.ranking.tolist()) != set(often.ranking.tolist())


def test_glister_gain_is_the_first_order_rise_of_the_log_likelihood() -> None:
    x, z, y = scored(30)
    validation = scored(50, seed=3)
    arrays = validation[0].numpy(), validation[1].numpy(), validation[2]
    chosen = select("glister", evidence(x, z, y, 1), validation=validation, step=1e-5)
    i = int(chosen.ranking[0])
    moved = eta_of(validation[0], 1, 1e-5) * oracles.gradient_of(x[i].numpy(), z[i].numpy(), int(y[i]))
    rise = oracles.log_likelihood(*arrays, moved) - oracles.log_likelihood(*arrays, 0 * moved)
    assert chosen.scores[0] == pytest.approx(rise, rel=1e-3)


def test_glister_rounds() -> None:
    # Five picks in two rounds: two by the first gradient, three by the gradient after those two.
    x, z, y = scored(20, seed=4)
    eta = eta_of(x, 5, 4.0)
    arrays = x.numpy(), z.numpy(), y
    own = [oracles.gradient_of(x[i].numpy(), z[i].numpy(), int(y[i])) for i in range(20)]
    moved, picks = np.zeros((5, 3)), []
    for count in (2, 3):
        direction = oracles.validation_gradient(*arrays, moved)
        gains = np.array([-np.inf if i in picks else (g * direction).sum() for i, g in enumerate(own)])
        found = np.argsort(-gains, kind="stable")[:count].tolist()
        moved = moved + eta * sum(own[i] for i in found)
        picks += found
    assert select("glister", evidence(x, z, y, 5), rounds=2, step=4.0).ranking.tolist() == picks


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.integers(1, 4), st.integers(1, 30), st.integers(0, 1000))
def test_glister_keeps_to_the_budgets_of_groups(n: int, groups: int, rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, z, y = scored(n, seed=seed)
    labels = rng.integers(0, groups, n)
    names, sizes = np.unique(labels, return_counts=True)
    budgets = [int(rng.integers(0, size + 1)) for size in sizes]
    chosen = select("glister", evidence(x, z, y, budgets, labels), rounds=rounds)
    begin = 0
    for name, budget in zip(names, budgets, strict=True):
        mine = chosen.ranking[begin : begin + budget]
        assert len(set(mine.tolist())) == budget
        assert (labels[mine] == name).all()
        begin += budget
    assert len(chosen.ranking) == begin


def test_glister_fills_groups_together() -> None:
    # One group with room for all but one is as good as no groups until that one is refused.
    x, z, y = scored(24, seed=1)
    labels = np.arange(24) % 2
    free = select("glister", evidence(x, z, y, 24), rounds=24).ranking
    grouped = select("glister", evidence(x, z, y, [12, 12], labels), rounds=24).ranking
    order = {row: k for k, row in enumerate(free.tolist())}
    for half in (grouped[:12], grouped[12:]):
        assert (np.diff([order[row] for row in half.tolist()]) > 0).all()


@pytest.mark.parametrize(
    "validation",
    [
        3,
        (torch.zeros(2, 4), torch.zeros(2, 3), [0]),
        (torch.zeros(1, 4), torch.zeros(1, 3), [3]),
        (torch.zeros(0, 4), torch.zeros(0, 3), np.zeros(0, int)),
    ],
)
def test_glister_validation_sets_that_do_not_fit(validation: object) -> None:
    x, z, y = scored(9)
    with pytest.raises(InputError, match="must be"):
        select("glister", evidence(x, z, y, 3), validation=validation)
