"""Graph cut from similarities in the precision asked for: what float32 keeps, and where it is not used."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch

from dq_fast import ops
from dq_fast.bench.judge import replay, shifted_similarity
from dq_fast.errors import InputError
from dq_fast.ops.precision import VARIABLE, similarity_dtype

from ..ops.exhaustive import bin_sizes, ranked
from ..ops.inputs import clustered, gradient_like

forward = pytest.mark.parametrize("emulated", ["forward"], indirect=True)
OFFSETS = [0, 70, 70, 71, 150]


def quarters(n):
    """Rows of length 1 whose cosines are multiples of 1/4: float32 forms them without an error."""
    g = torch.Generator().manual_seed(2)
    places = torch.stack([torch.randperm(11, generator=g)[:4] for _ in range(n)])
    signs = torch.randint(0, 2, (n, 4), generator=g) - 0.5
    return torch.zeros(n, 11).scatter_(1, places, signs)


@forward
@pytest.mark.parametrize("method", ["gram", "auto"])
def test_exact_cosines_keep_ranking_ties_and_gains(emulated, method):
    x = quarters(150)
    for factors in ([x], [x, quarters(151)[1:]]):
        with ops.similarity_precision("float32"):
            ranking, _, gains = ops.graph_cut_bins(tuple(factors), 3, offsets=OFFSETS, method=method)
        rows, want = ranked([f.double().numpy() for f in factors], OFFSETS, lambda g, n: bin_sizes(n, 3))
        np.testing.assert_array_equal(ranking.numpy(), rows)
        np.testing.assert_allclose(gains.numpy()[rows], want, rtol=1e-12, atol=1e-11)
    assert emulated.launched("graph_cut_gram<float") == 2
    assert not emulated.launched("graph_cut_gram<double")


@pytest.mark.parametrize(
    "factors", [[clustered(150, 24, 5, 3)], list(gradient_like(150, 7, 20, 4))], ids=["one", "two"]
)
def test_float32_falls_short_by_its_rounding_only(emulated, factors):
    with ops.similarity_precision("float32"):
        ranking, _, gains = ops.graph_cut_bins(tuple(factors), 3, offsets=OFFSETS, method="gram")
    assert emulated.launched("graph_cut_gram<float") == 1
    for i, j in itertools.pairwise(OFFSETS):
        picks = ranking[i:j].numpy() - i
        similarity = shifted_similarity([x[i:j].double() for x in factors])
        short, want = replay(similarity, picks, bin_sizes(j - i, 3))
        assert short <= 1e-6
        np.testing.assert_allclose(gains.numpy()[ranking[i:j]], want, rtol=0, atol=3e-7 * max(1, j - i))


@forward
def test_where_float32_is_not_used(emulated):
    b, h = gradient_like(150, 7, 20, 4)
    cases = [
        ((b, h), {"center": True, "method": "gram"}, "graph_cut_gram<double"),
        (h, {"method": "lazy"}, "pick_block"),
    ]
    for embedding, how, kernel in cases:
        want = ops.graph_cut_bins(embedding, 3, offsets=OFFSETS, **how)
        launched = emulated.launched(kernel)
        with ops.similarity_precision("float32"):
            got = ops.graph_cut_bins(embedding, 3, offsets=OFFSETS, **how)
        assert launched
        assert emulated.launched(kernel) == 2 * launched
        assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))
    assert not emulated.launched("graph_cut_gram<float")


@forward
def test_centred_rows_of_one_factor_are_rows_like_others(emulated):
    x = clustered(150, 24, 5, 3)
    with ops.similarity_precision("float32"):
        ranking = ops.graph_cut_bins(x, 3, center=True, method="gram")[0]
    assert emulated.launched("graph_cut_gram<float") == 1
    similarity = shifted_similarity([x.double()], center=True)
    assert replay(similarity, ranking.numpy(), bin_sizes(150, 3))[0] <= 1e-6


def test_the_setting(monkeypatch):
    assert similarity_dtype() is torch.float64
    elsewhere = []
    with ops.similarity_precision("float32"):
        assert similarity_dtype() is torch.float32
        thread = threading.Thread(target=lambda: elsewhere.append(similarity_dtype()))
        thread.start()
        thread.join()
        with ops.similarity_precision("float64"):
            assert similarity_dtype() is torch.float64
        assert similarity_dtype() is torch.float32
        with pytest.raises(ZeroDivisionError), ops.similarity_precision("float64"):
            raise ZeroDivisionError
        assert similarity_dtype() is torch.float32
    assert elsewhere == [torch.float64]
    assert similarity_dtype() is torch.float64
    monkeypatch.setenv(VARIABLE, "float32")
    assert similarity_dtype() is torch.float32
    monkeypatch.setenv(VARIABLE, "half")
    with pytest.raises(InputError, match=f"{VARIABLE} must be one of 'float64', 'float32', got 'half'"):
        similarity_dtype()
    with pytest.raises(InputError, match="precision must be one of"), ops.similarity_precision("tf32"):
        pass
