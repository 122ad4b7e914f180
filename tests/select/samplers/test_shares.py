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
    spread = draw(st.sampled_from([0, 1, 40]))
    of_bin, of_class = (np.exp(rng.normal(size=k) * spread) * (rng.random(k) < 0.9) for k in (bins, strata))
    floors = rng.integers(0, draw(st.sampled_from([1, 5, 100])), strata)
    reach = np.where(np.outer(of_bin, of_class) > 0, capacity, 0)
    floors = np.minimum(floors, reach.sum(0))
    total = draw(st.integers(int(floors.sum()), int(reach.sum())))
    return sizes, capacity, of_bin, of_class, floors, reach, total


def one_level(share, pull, reach):
    """share = min(reach, t · pull) with one t; returns t, or None where everything is full."""
    open_ = (reach > 0) & (share < reach * (1 - 1e-9))
    level = share[open_] / pull[open_]
    if not level.size:
        return None
    assert np.ptp(level) <= 1e-6 * level.max() + 1e-300
    full = (reach > 0) & ~open_
    assert (reach[full] <= level.max() * pull[full] * (1 + 1e-6)).all()
    return level.max()


@settings(max_examples=300, deadline=None)
@given(tables())
def test_shares_have_one_level_but_for_floors_and_full_cells(table):
    sizes, capacity, of_bin, of_class, floors, reach, total = table
    share = weighted_shares(sizes, capacity, of_bin, of_class, floors, total)
    assert abs(share.sum() - total) < 1e-6 * max(1, total)
    assert ((share >= 0) & (share <= reach)).all()
    given_ = share.sum(0)
    assert (given_ > floors - 1e-6).all()
    above = given_ > floors + 1e-6
    pull = of_class * sizes.sum(0)
    t = one_level(given_[above], pull[above], reach.sum(0)[above])
    if t is not None:  # classes at their floor would get less than it
        assert (t * pull[~above] <= floors[~above] * (1 + 1e-6) + 1e-6).all() or (floors == reach.sum(0))[~above].any()
    for c in range(sizes.shape[1]):
        one_level(share[:, c], of_bin * sizes[:, c], reach[:, c])


@settings(max_examples=300, deadline=None)
@given(tables())
def test_whole_numbers_have_the_sum_and_stay_near_the_shares(table):
    sizes, capacity, of_bin, of_class, floors, reach, total = table
    share = weighted_shares(sizes, capacity, of_bin, of_class, floors, total)
    counts = apportion(share, reach, total)
    assert counts.sum() == total
    assert ((counts >= 0) & (counts <= reach)).all()
    assert (np.abs(counts - share) < 1 + 1e-6).all()
    assert (np.abs(counts.sum(1) - share.sum(1)) < 1 + 1e-6).all()
    turned = apportion(share.T, reach.T, total)
    assert turned.sum() == total
    assert (turned.sum(1) >= floors).all()


def test_tiny_weights_are_not_lost_beside_large_ones():
    # two cells of ten; the second one's weight is 1e-250 of the first: after the first is used up it gives the rest
    sizes, none = np.array([[10], [10]]), np.array([0])
    share = weighted_shares(sizes, sizes, np.array([1.0, 1e-250]), np.ones(1), none, 14)
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
    sizes, one = np.full((2, 2), 10), np.ones(2)
    with pytest.raises(InputError, match="floor must leave room"):
        weighted_shares(sizes, sizes, one, one, np.array([8, 8]), 15)
    with pytest.raises(InputError, match=r"keep must be at most 0\.5 here"):
        weighted_shares(sizes, sizes, np.array([1.0, 0.0]), one, np.zeros(2, np.int64), 21)


def test_weights_of_bins_leave_classes_their_share():
    # the small class has rows in the first two bins only
    sizes = np.array([[50, 1], [50, 1], [50, 0], [50, 0]])
    share = weighted_shares(sizes, sizes, np.array([8.0, 4.0, 2.0, 1.0]), np.ones(2), np.zeros(2, np.int64), 50)
    assert share.sum(0).tolist() == pytest.approx([50 * 200 / 202, 50 * 2 / 202])
