"""Least confidence, entropy and margin against their definitions."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.select.methods import select

from . import score_oracles as oracles
from .score_inputs import evidence, scored

ORACLES = {"least-confidence": oracles.least_confidence, "entropy": oracles.entropy, "margin": oracles.margin}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("n", "classes"), [(1, 1), (5, 1), (9, 2), (40, 7)])
def test_definition_most_uncertain_first(name: str, n: int, classes: int, dtype: torch.dtype) -> None:
    _, z, _ = scored(n, classes=classes, dtype=dtype)
    chosen = select(name, evidence(None, z, None, n))
    expected = ORACLES[name](z.double().numpy())
    np.testing.assert_allclose(chosen.scores, expected[chosen.ranking], rtol=1e-9, atol=1e-12)
    assert (np.diff(chosen.scores) <= 0).all()
    assert sorted(chosen.ranking.tolist()) == list(range(n))


@pytest.mark.parametrize("name", ORACLES)
def test_lowest_first(name: str) -> None:
    _, z, _ = scored(20)
    chosen = select(name, evidence(None, z, None, 5), direction="lowest")
    expected = ORACLES[name](z.numpy())
    assert chosen.ranking.tolist() == np.argsort(expected, kind="stable")[:5].tolist()
    np.testing.assert_allclose(chosen.scores, np.sort(expected)[:5], rtol=1e-9)
    with pytest.raises(InputError, match="direction must be one of 'highest', 'lowest', got 'up'"):
        select(name, evidence(None, z, None, 5), direction="up")


@pytest.mark.parametrize("name", ORACLES)
def test_sure_predictions_keep_their_order(name: str) -> None:
    # Probabilities of 1 - 1e-30 and the like: every float64 difference from 1 is 0.
    z = torch.tensor([[200.0, 0, 0], [0, 70, 0], [0, 100, 99], [0, 0, 71], [300, 0, 0]], dtype=torch.float64)
    chosen = select(name, evidence(None, z, None, 5))
    assert chosen.ranking.tolist() == [2, 1, 3, 0, 4]
    assert (np.diff(chosen.scores) < 0).all()
    with mpmath.workdps(200):
        p = mpmath.exp(70) / (2 + mpmath.exp(70))
        other = (1 - p) / 2
        exact = {"least-confidence": 2 * other, "margin": 3 * other}
        if name in exact:
            assert chosen.scores[1] == pytest.approx(float(exact[name]), rel=1e-12)
        else:
            assert chosen.scores[1] == pytest.approx(float(-2 * other * mpmath.log(other)), rel=0.02)


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=1, max_size=12), st.data())
def test_ties_go_to_the_lowest_row(name: str, rows: list[list[int]], data: st.DataObject) -> None:
    z = torch.tensor(rows, dtype=torch.float32)
    budget = data.draw(st.integers(0, len(rows)))
    chosen = select(name, evidence(None, z, None, budget))
    for a, b in zip(chosen.ranking[:-1], chosen.ranking[1:], strict=True):
        if rows[a] == rows[b]:
            assert a < b
    assert len(set(chosen.ranking.tolist())) == budget
