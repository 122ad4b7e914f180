"""Shares follow weights and floors, and whole numbers from them have exact sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.select.samplers.shares import apportion, levels, weighted_shares


@st.composite
def tables(draw):
    bins, strata = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = rng.integers(0, draw(st.sampled_from([2, 12, 300])), (bins, strata))
    capacity = sizes - rng.integers(0, 3, sizes.shape).clip(0, sizes) * rng.integers(0, 2)
    weights = np.exp(rng.normal(size=sizes.shape) * draw(st.sampled_from([0, 1, 40]))) * (rng.random(sizes.shape) < 0.9)
    floors = rng.integers(0, draw(st.sampled_from([1, 5, 100])), strata)
    reach = np.where(weights * sizes > 0, capacity, 0)
    least = int(np.minimum(floors, reach.sum(0)).sum())
    total = draw(st.integers(least, int(reach.sum())))
    return sizes, capacity, weights, floors, reach, total


@settings(max_examples=300, deadline=None)
@given(tables())
def test_shares_have_one_level_but_for_floors_and_full_cells(table):
    sizes, capacity, weights, floors, reach, total = table
    share = weighted_shares(sizes, capacity, weights, floors, total)
    assert abs(share.sum() - total) < 1e-6 * max(1, total)
    assert ((share >= 0) & (share <= reach)).all()
    least = np.minimum(floors, reach.sum(0))
    of_class = share.sum(0)
    assert (of_class > least - 1e-6).all()
    # what defines the shares: cells that are not full have share = t · weight · size, t that of their class; classes
    # above their floor have one t, and those at their floor at least as large a one
    pull = weights * sizes
    open_ = (reach > 0) & (share < reach * (1 - 1e-9))
    full = (reach > 0) & ~open_
    level = np.divide(share, pull, out=np.full(pull.shape, np.nan), where=open_)
    above = of_class > least + 1e-6
    common = level[:, above][open_[:, above]]
    if common.size:
        assert np.ptp(common) <= 1e-6 * common.max() + 1e-300
        t = common.max()
        assert (reach[:, above][full[:, above]] <= t * pull[:, above][full[:, above]] * (1 + 1e-6)).all()
        at = level[:, ~above][open_[:, ~above]]
        assert (at >= t * (1 - 1e-6)).all()


@settings(max_examples=300, deadline=None)
@given(tables())
def test_whole_numbers_have_the_sum_and_stay_near_the_shares(table):
    sizes, capacity, weights, floors, reach, total = table
    share = weighted_shares(sizes, capacity, weights, floors, total)
    counts = apportion(share, reach, total)
    assert counts.sum() == total
    assert ((counts >= 0) & (counts <= reach)).all()
    assert (np.abs(counts - share) < 1 + 1e-6).all()
    assert (np.abs(counts.sum(1) - share.sum(1)) < 1 + 1e-6).all()


def test_tiny_weights_are_not_lost_beside_large_ones():
    # two cells of ten; the second one's weight is 1e-250 of the first: after the first is used up it gives the rest
    share = weighted_shares(
        np.array([[10], [10]]), np.array([[10], [10]]), np.array([[1.0], [1e-250]]), np.array([0]), 14
    )
    assert share.reshape(-1).tolist() == pytest.approx([10, 4], abs=1e-9)


def test_levels_invert_the_filling():
    pull, reach = np.array([1.0, 2.0, 0.0, 5.0]), np.array([4, 4, 0, 20])
    for t in (0.0, 0.3, 2.0, 3.0, 3.9, 4.0):
        assert levels(pull, reach, np.array([np.minimum(reach, t * pull).sum()]))[0] == pytest.approx(t, abs=1e-12)


def test_shares_that_sum_a_little_off_are_still_given_out_exactly():
    share = np.full((3, 3), 1 / 3) - 1e-12
    counts = apportion(share, np.ones((3, 3), np.int64), 3)
    assert counts.sum() == 3
    assert (counts.sum(1) == 1).all()
    assert (counts.sum(0) == 1).all()
    assert apportion(np.full((2, 2), 1.0), np.ones((2, 2), np.int64), 3).sum() == 3
    assert apportion(np.full((2, 2), 0.25), np.ones((2, 2), np.int64), 3).sum() == 3


def test_impossible_totals_are_refused():
    one = np.ones((2, 2), np.int64)
    with pytest.raises(InputError, match="floor must leave room"):
        weighted_shares(10 * one, 10 * one, one * 1.0, np.array([8, 8]), 15)
    with pytest.raises(InputError, match=r"keep must be at most 0\.5 here"):
        weighted_shares(10 * one, 10 * one, np.array([[1.0, 1.0], [0.0, 0.0]]), np.zeros(2, np.int64), 21)
