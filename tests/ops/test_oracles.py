"""Other people's graph cut picks the same rows in the same order on s = 1/2 + 1/2 cos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dq_fast import ops

from .exhaustive import similarities
from .inputs import clustered, gradient_like

EMBEDDINGS = {
    "clustered": (clustered(120, 10, 5, 21),),
    "gradients": gradient_like(150, 6, 12, 22),
    "signed": (torch.randn(90, 4, generator=torch.Generator().manual_seed(23)),),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_apricot(backend, name):
    apricot = pytest.importorskip("apricot")
    factors = EMBEDDINGS[name]
    s, budget = similarities([x.double().numpy() for x in factors]), 40
    for optimizer in ("naive", "lazy"):
        theirs = apricot.GraphCutSelection(budget, metric="precomputed", alpha=1, optimizer=optimizer).fit(s)
        ours, _ = ops.graph_cut_greedy(factors, budget)
        np.testing.assert_array_equal(ours.numpy(), theirs.ranking)
        ours, _ = ops.graph_cut_greedy(None, budget, similarity=torch.from_numpy(s))
        np.testing.assert_array_equal(ours.numpy(), theirs.ranking)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_submodlib(backend, name):
    submodlib = pytest.importorskip("submodlib")
    factors = EMBEDDINGS[name]
    s, budget = similarities([x.double().numpy() for x in factors]).astype(np.float32), 40
    function = submodlib.GraphCutFunction(n=len(s), mode="dense", lambdaVal=1, ggsijs=s)
    theirs = [row for row, _ in function.maximize(budget=budget, optimizer="NaiveGreedy", stopIfNegativeGain=False)]
    ours, _ = ops.graph_cut_greedy(None, budget, similarity=torch.from_numpy(s))
    assert ours.tolist() == theirs
