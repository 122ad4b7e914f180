"""Importance of bins, against all pairs of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dq_fast.errors import InputError
from dq_fast.select.samplers import bin_importance


def by_pairs(rows: np.ndarray, bin_of: np.ndarray, labels: np.ndarray, n_bins: int) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    s = 0.5 + 0.5 * unit @ unit.T
    rep, div = np.zeros(n_bins), np.zeros(n_bins)
    for k in range(n_bins):
        with_class, pairs = [], []
        for i in np.flatnonzero(bin_of == k):
            for j in np.flatnonzero(labels == labels[i]):
                # a row with itself: its cosine is 1, but 0 for a row of zeros
                with_class.append(s[i, j])
                if bin_of[j] == k and i != j:
                    pairs.append(s[i, j])
        rep[k], div[k] = np.mean(with_class), 1 - np.mean(pairs)
    return rep / rep.sum() + div / div.sum()


@pytest.mark.parametrize("shapes", [(5,), (1,), (3, 4), (2, 1, 3)])
def test_sums_equal_all_pairs(shapes):
    rng = np.random.default_rng(0)
    n, n_bins = 90, 4
    factors = [rng.normal(size=(n, d)) + 0.5 for d in shapes]
    factors[0][7] = 0
    product = factors[0]
    for f in factors[1:]:
        product = (product[:, :, None] * f[:, None, :]).reshape(n, -1)
    bin_of, labels = rng.integers(0, n_bins, n), rng.integers(0, 3, n)
    got = bin_importance(tuple(factors) if len(factors) > 1 else factors[0], bin_of, labels, n_bins=n_bins)
    assert got.tolist() == pytest.approx(by_pairs(product, bin_of, labels, n_bins).tolist(), abs=1e-9)
    assert got.sum() == pytest.approx(2)


def test_a_bin_of_one_direction_is_less_important_than_a_spread_one():
    rng = np.random.default_rng(1)
    spread = rng.normal(size=(40, 6))
    tight = np.tile(rng.normal(size=6), (40, 1)) + 1e-3 * rng.normal(size=(40, 6))
    importance = bin_importance(
        torch.from_numpy(np.concatenate([spread, tight])), np.repeat([0, 1], 40), np.zeros(80), n_bins=2
    )
    assert importance[0] > 1.3 * importance[1]


def test_empty_bins_single_rows_and_duplicates():
    x = np.eye(3)
    importance = bin_importance(x, np.array([0, 2, 2]), np.zeros(3, int), n_bins=4)
    assert importance[[1, 3]].tolist() == [0, 0]
    assert importance.sum() == pytest.approx(2)
    same = bin_importance(np.ones((6, 2)), np.arange(6) % 2, np.zeros(6, int), n_bins=2)
    assert same.tolist() == pytest.approx([1, 1])
    assert bin_importance(np.ones((0, 2)), np.zeros(0, int), np.zeros(0, int), n_bins=2).tolist() == [0, 0]


def test_wrong_shapes_are_refused():
    with pytest.raises(InputError, match="embedding must be 2-D"):
        bin_importance(np.zeros(3), np.zeros(3, int), np.zeros(3, int), n_bins=1)
    with pytest.raises(InputError, match="bin_of and labels must have one entry a row"):
        bin_importance(np.zeros((3, 1)), np.zeros(2, int), np.zeros(3, int), n_bins=1)
    with pytest.raises(InputError, match="bin_of must be whole numbers from 0 to 0"):
        bin_importance(np.zeros((3, 1)), np.array([0, 1, 0]), np.zeros(3, int), n_bins=1)
