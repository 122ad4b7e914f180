"""Random subsets: sizes, classes, repeatability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dq_fast.data import Source, open_source
from dq_fast.errors import InputError
from dq_fast.train import random_subset

COUNTS = [50, 30, 19, 1]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))
    np.savez(tmp_path / "x.npz", x=np.arange(100 * 12, dtype=np.uint8).reshape(100, 2, 2, 3), y=labels)
    return open_source(str(tmp_path / "x.npz"), split=None)


@pytest.mark.parametrize("n", [0, 1, 7, 50, 99, 100])
def test_stratified_sizes(source: Source, n: int) -> None:
    subset = random_subset(source, n, seed=3)
    assert len(subset) == n
    assert len(set(subset.ids)) == n
    counts = np.bincount(subset.labels, minlength=4)
    assert (np.abs(counts - np.array(COUNTS) * n / 100) < 1).all()
    assert list(subset.indices) == sorted(subset.indices)


def test_uniform_sizes_vary_by_class(source: Source) -> None:
    counts = {tuple(np.bincount(random_subset(source, 50, s, stratified=False).labels, minlength=4)) for s in range(9)}
    assert len(counts) > 1
    assert {sum(c) for c in counts} == {50}


def test_given_counts(source: Source) -> None:
    subset = random_subset(source, 12, per_class=[10, 0, 1, 1])
    assert np.bincount(subset.labels, minlength=4).tolist() == [10, 0, 1, 1]
    with pytest.raises(InputError, match="sum to 12"):
        random_subset(source, 12, per_class=[10, 0, 1, 0])
    with pytest.raises(InputError, match=r"for 0\.\.1 images, got 2"):
        random_subset(source, 12, per_class=[10, 0, 0, 2])


def test_seeds(source: Source) -> None:
    a, b, c = (random_subset(source, 40, s).ids for s in (1, 1, 2))
    assert a == b
    assert a != c
    # every image has its chance: 0.4 of 400 draws each, five deviations wide
    hits = np.zeros(100)
    for seed in range(400):
        hits[random_subset(source, 40, seed, stratified=False).indices] += 1
    assert np.abs(hits - 160).max() < 5 * np.sqrt(400 * 0.4 * 0.6)


def test_too_many(source: Source) -> None:
    with pytest.raises(InputError, match=r"0\.\.100"):
        random_subset(source, 101)
