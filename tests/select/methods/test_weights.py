"""CRAIG's and GradMatch's weights, and whose gradients they compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls as scipy_nnls

from dq_fast.select.methods import select
from dq_fast.select.methods.nnls import GrowingNNLS

from . import oracles
from .inputs import evidence, lattices, rows


@pytest.mark.parametrize("widths", [(4,), (2, 3)])
@pytest.mark.parametrize("budget", [1, 3, 9])
def test_craig_counts_the_nearest(widths: tuple[int, ...], budget: int) -> None:
    factors = [rows(35, d, seed=d) for d in widths]
    chosen = select("craig", evidence(factors, budget))
    picks, weights = oracles.craig(oracles.written_out(factors), budget)
    assert chosen.ranking.tolist() == picks
    assert chosen.weights is not None
    assert chosen.weights.tolist() == weights.tolist()
    assert chosen.weights.sum() == 35


@settings(max_examples=60, deadline=None)
@given(factors=lattices(), data=st.data())
def test_craig_counts_ties_for_the_earliest_pick(factors: tuple[torch.Tensor, ...], data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, len(factors[0])))
    chosen = select("craig", evidence(factors, budget))
    assert chosen.weights is not None
    assert chosen.weights.tolist() == oracles.craig(oracles.written_out(factors), budget)[1].tolist()


@pytest.mark.parametrize("lam", [0.0, 0.5, 1000.0])
@pytest.mark.parametrize("widths", [(12,), (2, 7)])
def test_grad_match_weights_are_the_best(widths: tuple[int, ...], lam: float) -> None:
    factors = [rows(40, d, seed=d) - 1 for d in widths]
    x = oracles.written_out(factors)
    chosen = select("grad-match", evidence(factors, 9), lam=lam)
    picks, scores, weights = oracles.grad_match(x, 9, lam)
    assert chosen.ranking.tolist() == picks
    assert chosen.weights is not None
    np.testing.assert_allclose(chosen.scores, scores, rtol=1e-8)
    np.testing.assert_allclose(chosen.weights, weights, rtol=1e-7, atol=1e-7 * weights.max())


@settings(max_examples=60, deadline=None)
@given(factors=lattices(), lam=st.sampled_from([0.0, 0.1, 3.0]), data=st.data())
def test_grad_match_reaches_the_least_error(factors: tuple[torch.Tensor, ...], lam: float, data: st.DataObject) -> None:
    budget = data.draw(st.integers(1, len(factors[0])))
    chosen = select("grad-match", evidence(factors, budget), lam=lam)
    x = oracles.written_out(factors)
    mine, whole = x[chosen.ranking], x.sum(0)
    assert chosen.weights is not None
    assert chosen.weights.min() >= 0

    def error(w: np.ndarray) -> float:
        return float(((w @ mine - whole) ** 2).sum() + lam * (w**2).sum())

    best = oracles.nnls(mine @ mine.T, mine @ whole, lam)
    assert error(chosen.weights) <= error(best) + 1e-8 * (1 + float(whole @ whole))


def test_grad_match_with_more_picks_than_it_takes() -> None:
    x = rows(60, 3) - 1  # three dimensions: a few rows match the sum exactly
    chosen = select("grad-match", evidence(x, 60), lam=0.0)
    assert sorted(chosen.ranking.tolist()) == list(range(60))
    assert chosen.weights is not None
    assert 1 <= (chosen.weights > 0).sum() <= 3
    np.testing.assert_allclose(chosen.weights @ x.double().numpy()[chosen.ranking], x.double().sum(0), rtol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 2.0])
def test_nnls_with_many_variables(ridge: float) -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(60, 90)) + 0.3
    wanted = a @ np.maximum(rng.normal(size=90), 0) + rng.normal(size=60)
    solver = GrowingNNLS(90, ridge, 1e-9, torch.device("cpu"))
    gram, target = torch.from_numpy(a.T @ a), torch.from_numpy(a.T @ wanted)
    for k in range(90):
        solver.add(gram[k, : k + 1], float(target[k]))
        if k % 7 and k != 89:
            continue
        some = a[:, : k + 1]
        best = scipy_nnls(np.vstack((some, np.sqrt(ridge) * np.eye(k + 1))), np.concatenate((wanted, np.zeros(k + 1))))[
            0
        ]
        found = solver.weights().numpy()
        assert found.min() >= 0

        def error(w: np.ndarray, some: np.ndarray = some) -> float:
            return float(((some @ w - wanted) ** 2).sum() + ridge * (w**2).sum())

        assert error(found) <= error(best) * (1 + 1e-9) + 1e-12 * float(wanted @ wanted)
        if ridge:
            np.testing.assert_allclose(found, best, atol=1e-6)


@pytest.mark.parametrize("name", ["craig", "grad-match"])
def test_gradients_of_the_loss(name: str) -> None:
    rng = np.random.default_rng(0)
    features, logits = rng.normal(size=(30, 4)), 3 * rng.normal(size=(30, 3))
    labels = rng.integers(0, 3, 30)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    b = p - np.eye(3)[labels]
    gradient = (b[:, :, None] * np.concatenate((np.ones((30, 1)), features), 1)[:, None, :]).reshape(30, -1)
    x = rows(30, 2)
    more = {"features": torch.from_numpy(features), "logits": torch.from_numpy(logits), "labels": labels}
    of_loss = select(name, evidence(torch.from_numpy(gradient), 8))
    given_all = select(name, evidence(x, 8, **more))
    assert given_all.ranking.tolist() == of_loss.ranking.tolist()
    assert select(name, evidence(x, 8, **more), gradients="loss").ranking.tolist() == of_loss.ranking.tolist()
    of_rows = select(name, evidence(x, 8)).ranking.tolist()
    assert select(name, evidence(x, 8, **more), gradients="embedding").ranking.tolist() == of_rows
    with pytest.raises(ValueError, match="features, logits and labels must be given"):
        select(name, evidence(x, 8), gradients="loss")
    with pytest.raises(ValueError, match="gradients must be one of"):
        select(name, evidence(x, 8), gradients="some")
