"""Draws have exact totals, and bins and classes keep their shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.select import draw, quotas


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_quotas_keep_every_margin(data):
    bins = data.draw(st.integers(1, 12))
    strata = data.draw(st.integers(1, 12))
    sizes = np.array(data.draw(st.lists(st.integers(0, 60), min_size=bins * strata, max_size=bins * strata)))
    sizes = sizes.reshape(bins, strata)
    keep = data.draw(st.one_of(st.floats(0.001, 1), st.sampled_from([0.1, 0.29, 0.5, 0.6, 1.0, 1 / 3])))
    counts = quotas(sizes, keep)
    assert counts.sum() == round(keep * sizes.sum())
    assert (counts >= 0).all()
    assert (counts <= sizes).all()
    share = keep * sizes
    assert (np.abs(counts - share) < 1 + 1e-9).all()
    assert (np.abs(counts.sum(1) - share.sum(1)) < 1 + 1e-9).all()


@pytest.mark.parametrize("keep", [0.05, 0.1, 0.125, 0.3, 0.6, 0.77])
def test_balanced_classes_stay_within_two_of_their_share(keep):
    rng = np.random.default_rng(0)
    per_class = rng.integers(50, 500, 25)
    sizes = np.stack([[n // 10 + (k < n % 10) for n in per_class] for k in range(10)])
    counts = quotas(sizes, keep)
    assert np.abs(counts.sum(0) - keep * per_class).max() < 2


def test_the_published_rounding_mistake_is_not_repeated():
    # 10 classes x 10 bins x 500: the official code takes round(62.5) = 62 of each cell, 6,200 in all
    sizes = np.full((10, 10), 500)
    counts = quotas(sizes, 0.125)
    assert counts.sum() == 6250
    assert (counts.sum(0) == 625).all()
    assert (counts.sum(1) == 625).all()


def test_draws_are_uniform_reproducible_and_from_the_right_cells():
    rng = np.random.default_rng(1)
    bin_of = rng.integers(0, 4, 400)
    strata = rng.integers(-3, 3, 400)
    rows = draw(bin_of, strata, 0.25, n_bins=4, seed=7)
    assert rows.dtype == np.int64
    assert len(rows) == 100
    assert len(set(rows.tolist())) == 100
    assert (np.diff(rows) > 0).all()
    assert (rows == draw(bin_of, strata, 0.25, n_bins=4, seed=7)).all()
    assert (rows != draw(bin_of, strata, 0.25, n_bins=4, seed=8)).any()
    hits = np.zeros(400)
    for seed in range(600):
        hits[draw(bin_of, strata, 0.25, n_bins=4, seed=seed)] += 1
    # each row is drawn with its cell's own rate; all cells' rates lie between floor and ceil of the share
    for k in range(4):
        for s in range(-3, 3):
            cell = (bin_of == k) & (strata == s)
            rate = hits[cell] / 600
            expected = rate.mean()
            assert np.abs(rate - expected).max() < 5 * np.sqrt(expected * (1 - expected) / 600) + 1e-9


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, float("nan")])
def test_keep_outside_its_range_is_refused(keep):
    with pytest.raises(InputError, match=r"keep must be a fraction in \(0, 1\]"):
        draw(np.zeros(3, np.int64), np.zeros(3, np.int64), keep, n_bins=1)


def test_keep_all_keeps_all():
    bin_of = np.arange(30) % 4
    assert draw(bin_of, np.arange(30) % 7, 1.0, n_bins=4).tolist() == list(range(30))
