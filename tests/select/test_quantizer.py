"""SampleQuantizer against a plain float64 greedy over explicit similarity matrices, class by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dq_fast import SampleQuantizer
from dq_fast.errors import InputError


def exhaustive(x: np.ndarray, n_bins: int) -> list[list[int]]:
    """Bins of one class: the paper's recursive greedy, every gain recomputed from its definition for every pick."""
    x = x.astype(np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(norm > 0, norm, 1)
    s = 0.5 + 0.5 * x @ x.T
    left = list(range(len(x)))
    sizes = [len(x) // n_bins + (k < len(x) % n_bins) for k in range(n_bins)]
    bins = []
    for size in sizes:
        remaining, picked = list(left), []
        for _ in range(size):
            candidates = [i for i in remaining if i not in picked]
            gains = [s[i, remaining].sum() - 2 * s[i, picked].sum() for i in candidates]
            picked.append(candidates[int(np.argmax(gains))])
        bins.append(picked)
        left = [i for i in left if i not in picked]
    return bins


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([7, -2, 30], [41, 23, 8]))
    return rng.normal(size=(72, 6)) + 2 * rng.normal(size=6), labels


@pytest.mark.parametrize("method", ["auto", "naive", "gram", "lazy"])
def test_bins_within_classes(data, method):
    x, labels = data
    sq = SampleQuantizer(n_bins=4, method=method).fit(torch.tensor(x), labels)
    expected = [[], [], [], []]
    for label in (-2, 7, 30):
        rows = np.flatnonzero(labels == label)
        for k, picked in enumerate(exhaustive(x[rows], 4)):
            expected[k] += rows[picked].tolist()
    assert [b.tolist() for b in sq.bins_] == expected
    assert sorted(sq.ranking_.tolist()) == list(range(72))
    assert all((sq.bin_of_[b] == k).all() for k, b in enumerate(sq.bins_))
    assert sq.classes_.tolist() == [-2, 7, 30]
    # the ranking lists class after class, within a class bin after bin
    assert labels[sq.ranking_].tolist() == sorted(labels.tolist())


def test_whole_set_as_one_group(data):
    x, _ = data
    sq = SampleQuantizer(n_bins=3).fit(x)
    assert [b.tolist() for b in sq.bins_] == exhaustive(x, 3)
    assert sq.ranking_.tolist() == np.concatenate(sq.bins_).tolist()
    assert (sq.groups_ == 0).all()


def test_factors_are_their_outer_product(data):
    x, labels = data
    h = np.abs(x) + 0.1
    outer = (x[:, :, None] * h[:, None, :]).reshape(len(x), -1)
    of_factors = SampleQuantizer(n_bins=5).fit((torch.tensor(x), torch.tensor(h)), labels)
    of_outer = SampleQuantizer(n_bins=5).fit(outer, labels)
    assert of_factors.ranking_.tolist() == of_outer.ranking_.tolist()
    np.testing.assert_allclose(of_factors.gains_, of_outer.gains_, rtol=1e-9, atol=1e-9)


def test_order_of_rows_does_not_matter(data):
    x, labels = data
    order = np.random.default_rng(5).permutation(len(x))
    a = SampleQuantizer(n_bins=4).fit(x, labels)
    b = SampleQuantizer(n_bins=4).fit(x[order], torch.tensor(labels[order]))
    assert order[b.ranking_].tolist() == a.ranking_.tolist()


def test_sample_takes_from_every_bin_and_class(data):
    x, labels = data
    sq = SampleQuantizer(n_bins=4).fit(x, labels)
    rows = sq.sample(0.5, seed=1)
    assert len(rows) == 36
    assert np.abs(np.bincount(sq.bin_of_[rows]) - np.bincount(sq.bin_of_) / 2).max() <= 1
    for label in (7, -2, 30):
        assert abs((labels[rows] == label).sum() - (labels == label).sum() / 2) < 2
    assert len(sq.sample(1.0)) == 72
    globally = SampleQuantizer(n_bins=4).fit(x)
    balanced = globally.sample(0.5, labels=labels)
    for label in (7, -2, 30):
        assert abs((labels[balanced] == label).sum() - (labels == label).sum() / 2) < 2


def test_restore_continues_where_fit_ended(data):
    x, labels = data
    sq = SampleQuantizer(n_bins=4).fit(x, labels)
    again = SampleQuantizer(n_bins=4).restore(sq.ranking_, sq.bin_of_, sq.gains_, sq.groups_)
    assert again.sample(0.3, seed=2).tolist() == sq.sample(0.3, seed=2).tolist()
    with pytest.raises(InputError, match="one fit's results"):
        SampleQuantizer(n_bins=3).restore(sq.ranking_, sq.bin_of_, sq.gains_, sq.groups_)


@pytest.mark.parametrize(
    ("parameters", "arguments", "words"),
    [
        ({"n_bins": 0}, (np.ones((3, 2)),), "n_bins must be a whole number of at least 1, got 0"),
        ({"n_bins": 2.5}, (np.ones((3, 2)),), "n_bins must be"),
        ({}, (np.ones(3),), r"embedding must be 2-D \[n, d\]"),
        ({}, (np.ones((3, 2)), [1, 2]), r"labels must have one entry a row"),
        ({}, (np.array([["a", "b"]]),), "embedding must be"),
        ({}, (np.array([["a", {}]], object),), "embedding must be numbers"),
        ({}, (np.full((3, 2), np.nan),), "finite"),
        ({"method": "fast"}, (np.ones((3, 2)),), "method must be"),
    ],
)
def test_mistakes_are_named(parameters, arguments, words):
    with pytest.raises(InputError, match=words):
        SampleQuantizer(**parameters).fit(*arguments)


def test_sample_before_fit():
    with pytest.raises(InputError, match="fitted before sample"):
        SampleQuantizer().sample(0.5)


def test_repr_shows_parameters():
    assert repr(SampleQuantizer()) == "SampleQuantizer()"
    assert repr(SampleQuantizer(n_bins=3, center=True)) == "SampleQuantizer(n_bins=3, center=True)"
