"""What method="auto" begins with, when it changes its way, and that the rows stay those of exhaustive greedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast import ops
from dq_fast.bench.mixture import Mixture, rows
from dq_fast.ops import registry

from .exhaustive import bin_sizes, ranked
from .inputs import clustered

pytestmark = pytest.mark.skipif(
    registry.backends()["graph_cut_bins"]["cpu"].serves != "native", reason="the definition in torch has one way"
)


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def low_rank(n: int, d: int) -> torch.Tensor:
    return normal(n, 5, 1) @ normal(5, d, 2) + 0.02 * normal(n, d, 3)


def photos(n: int, d: int) -> torch.Tensor:
    return torch.from_numpy(rows(Mixture.load(), [0, n], d))


def clusters(n: int, d: int, seed: int) -> torch.Tensor:
    """Of two such factors no few directions tell, but their gains do: clusters have different numbers of rows."""
    which = torch.randint(30, (n,), generator=torch.Generator().manual_seed(seed))
    return normal(30, d, seed + 1)[which] + 0.05 * normal(n, d, seed + 2)


def deceptive(n: int, d: int) -> torch.Tensor:
    """In the middle of a few directions, which is all that a sample shows; three rows of four are apart from all.

    Samples take rows at even distances: row k * n / 128, for one.
    """
    x = normal(n, d, 4)
    x[:: n // 256] = low_rank(n, d)[:: n // 256] * 3
    return x


def way(factors: Any, budget: int | None, **more: Any) -> tuple[dict[str, Any], torch.Tensor]:
    report: dict[str, Any] = {}
    if budget is None:
        return report, ops.graph_cut_bins(factors, 10, report=report, **more)[0]
    return report, ops.graph_cut_greedy(factors, budget, report=report, **more)[0]


CLEAR = {  # what is ranked, how many are picked (None: all, in ten bins), the way, whether it was changed midway
    "no time to set anything up": (lambda: [normal(30, 8)], 5, "naive", 0),
    "few picks": (lambda: [normal(3_000, 64)], 3, "naive", 0),
    "directions cost more than the picks": (lambda: [low_rank(1_000, 20), normal(1_000, 400)], 10, "naive", 0),
    "all pairs are used many times": (lambda: [normal(400, 100), normal(400, 65, 1)], None, "gram", 0),
    "tight bounds": (lambda: [photos(6_000, 64)], 300, "lazy", 0),
    "loose bounds, gains far apart": (lambda: [clusters(10_000, 10, 5), clusters(10_000, 65, 8)], 100, "lazy", 0),
    "tight bounds, two factors": (lambda: [low_rank(6_000, 10), low_rank(6_000, 65)], 600, "lazy", 0),
    "the probe sees loose bounds": (lambda: [normal(2_500, 100), normal(2_500, 65, 1)], None, "gram", 0),
    "the first picks see them": (lambda: [normal(3_000, 32)], None, "naive", 1),
}


@pytest.mark.parametrize("name", CLEAR)
def test_clear_cases(name):
    make, budget, algorithm, switched = CLEAR[name]
    report, _ = way(make(), budget)
    assert (report["algorithm"], report["switched"]) == (algorithm, switched)


@pytest.mark.parametrize("center", [False, True])
def test_rows_that_deceive_the_probe(threads, center):
    x = (deceptive(2_560, 40), deceptive(2_560, 48))
    report, ranking = way(x, None, center=center)
    assert report["switched"] == 1, report
    assert torch.equal(ranking, way(x, None, center=center, method="naive")[1])


def test_each_group_has_its_own_way():
    x = torch.cat([photos(3_000, 512), normal(20, 512), normal(400, 512)])
    offsets = [0, 3_000, 3_020, 3_420]
    report, _ = way(x, [300, 5, 400], offsets=offsets)
    assert report["groups"] == {"naive": 1, "gram": 1, "lazy": 1}


@given(
    n=st.integers(1, 900),
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    kind=st.sampled_from(["normal", "clustered", "copies", "opposite"]),
    bins=st.sampled_from([1, 3, 10]),
    share=st.sampled_from([0.02, 0.3, 1.0]),
    center=st.booleans(),
    seed=st.integers(0, 1_000),
)
@settings(max_examples=25, deadline=None)
def test_whatever_the_way_the_rows_are_the_same(n, widths, kind, bins, share, center, seed):
    def factor(k: int, d: int) -> torch.Tensor:
        x = normal(n, d, seed + k) if kind == "normal" else clustered(n, d, 6, seed + k)
        if kind == "copies":
            x = x[torch.randint(n, (n,), generator=torch.Generator().manual_seed(seed))]
        if kind == "opposite":
            x[::2] = -x[::2]
        return x

    factors = [factor(k, d) for k, d in enumerate(widths)]  # a narrow factor of one number is a sign
    arrays = [x.double().numpy() for x in factors]
    if share == 1:
        want, _ = ranked(arrays, [0, n], lambda g, size: bin_sizes(size, bins), center=center)
        got = ops.graph_cut_bins(tuple(factors), bins, center=center)[0]
    else:
        budget = int(np.ceil(share * n))
        want, _ = ranked(arrays, [0, n], lambda g, size: [budget], center=center)
        got = ops.graph_cut_greedy(tuple(factors), budget, center=center)[0]
    np.testing.assert_array_equal(got.numpy(), want)
