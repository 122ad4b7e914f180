"""Class counts by measured errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.select import draw
from dq_fast.select.samplers import active_class_counts


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=6),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.integers(1, 5),
    st.integers(0, 10**6),
)
def test_totals_are_exact_and_every_step_fits(sizes, keep, start, rounds, seed):
    rng = np.random.default_rng(seed)
    seen = []

    def errors_of(counts):
        seen.append(counts)
        return rng.random(len(sizes)) * rng.integers(0, 2, len(sizes))

    counts = active_class_counts(errors_of, sizes, keep, start=start, rounds=rounds)
    total = round(keep * sum(sizes))
    assert counts.sum() == total
    assert len(seen) == rounds
    assert seen[0].sum() == round(start * total)
    steps = [*seen, counts]
    for earlier, later in itertools.pairwise(steps):
        assert (earlier <= later).all()
        assert (later <= sizes).all()


def test_sensitive_classes_get_more_than_stable_ones():
    sizes = np.array([1000, 1000, 1000])
    scale = np.array([5.0, 200.0, 1e9])  # learned from few, from many, never

    counts = active_class_counts(lambda counts: 0.5 * np.exp(-counts / scale), sizes, 0.3, rounds=6)
    assert counts.sum() == 900
    assert counts[1] > counts[2] > counts[0]
    assert abs(counts[0] - 150) <= 1  # nothing beyond its start


def test_one_round_follows_the_errors():
    counts = active_class_counts(lambda _: [0.1, 0.3, 0.0], [100, 100, 200], 0.4, start=0.5, rounds=1)
    assert counts.tolist() == [20 + 20, 20 + 60, 40]
    counts = active_class_counts(lambda _: [0.0, 0.0], [100, 300], 0.5, start=0.5, rounds=1)
    assert counts.tolist() == [50, 150]
    counts = active_class_counts(lambda _: [1.0, 0.0], [10, 90], 0.6, start=0.5, rounds=1)
    assert counts.tolist() == [10, 50]  # the class in need has no more


def test_a_draw_by_the_counts_has_them():
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 500, p=[0.4, 0.3, 0.2, 0.1])
    sizes = np.bincount(labels)
    counts = active_class_counts(lambda c: 1 / (1 + c), sizes, 0.25)
    rows = draw(np.arange(500) % 10, labels, 0.25, n_bins=10, class_weights=counts / sizes)
    assert np.bincount(labels[rows]).tolist() == counts.tolist()
    rows = draw(np.arange(500) % 10, labels, 0.25, n_bins=10, class_weights=counts / sizes, nested=True)
    assert np.bincount(labels[rows]).tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0}, r"keep and start must be in \(0, 1\]"),
        ({"start": 1.5}, r"keep and start must be in \(0, 1\]"),
        ({"rounds": 0}, "rounds must be a whole number of at least 1"),
        ({"class_sizes": [3, -1]}, "class_sizes must be numbers >= 0"),
        ({"errors_of": lambda _: [1.0]}, "errors_of must return 2 finite numbers >= 0"),
        ({"errors_of": lambda _: [1.0, np.nan]}, "errors_of must return 2 finite numbers >= 0"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        active_class_counts(**{"errors_of": lambda _: [0, 1], "class_sizes": [10, 10], "keep": 0.5, **options})
