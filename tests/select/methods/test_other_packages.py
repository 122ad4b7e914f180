"""Facility location as two published packages choose it."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from dq_fast.select.methods import select

from .inputs import evidence, rows
from .oracles import shifted_cosines, written_out

# Two rows that only each other are near to have the same gain, exactly: late in a choice, the packages may break such a
# tie by rounding. The first picks have none.
BUDGET = 6


def test_apricot(monkeypatch: pytest.MonkeyPatch) -> None:
    apricot = pytest.importorskip("apricot")
    # As Python, which for so few rows takes far less time than to compile it for all the types that it may get.
    source = importlib.import_module("apricot.functions.facilityLocation")
    monkeypatch.setattr(source, "njit", lambda *types, **how: lambda function: function)
    factors = [rows(100, d, seed=d) for d in (3, 4)]
    s = shifted_cosines(written_out(factors))
    theirs = apricot.FacilityLocationSelection(BUDGET, metric="precomputed", optimizer="naive").fit(s)
    chosen = select("facility-location", evidence(factors, BUDGET))
    assert chosen.ranking.tolist() == theirs.ranking.tolist()
    np.testing.assert_allclose(chosen.scores, theirs.gains, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_submodlib(seed: int) -> None:
    submodlib = pytest.importorskip("submodlib")
    x = rows(100, 5, seed=seed)
    s = shifted_cosines(x.double().numpy())
    theirs = submodlib.FacilityLocationFunction(n=100, mode="dense", sijs=s.astype(np.float32), separate_rep=False)
    picked = theirs.maximize(budget=BUDGET, optimizer="NaiveGreedy", show_progress=False)
    chosen = select("facility-location", evidence(x, BUDGET))
    assert chosen.ranking.tolist() == [i for i, _ in picked]
    np.testing.assert_allclose(chosen.scores, [gain for _, gain in picked], rtol=1e-4)
