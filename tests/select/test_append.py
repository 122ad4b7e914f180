"""Rows appended to a partition against the definition: explicit rows and every gain anew for every pick."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.select.groups import Groups
from dq_fast.select.partition import Partition, Settings, add, remove
from dq_fast.select.partition.append import level
from tests.select import dense


def partition(x, labels, chosen, **options):
    """The partition that explicit greedy finds."""
    n = len(x[0])
    names = ("lam", "shifted", "center", "similarity")
    found = dense.fitted(x, labels, chosen.n_bins, **{name: getattr(chosen, name) for name in names})
    return Partition.of(tuple(torch.as_tensor(f) for f in x), Groups.of(labels, n), *found, chosen, **options)


def bins_of(made, group):
    """Rows of every bin of a group, in order."""
    mine = made.ranking[made.of_row[made.ranking] == group]
    return [mine[made.bin_of[mine] == k].tolist() for k in range(made.settings.n_bins)]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_new_rows_go_where_the_definition_puts_them(data):
    n, m = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 12))
    widths = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    values = st.integers(-2, 2)  # ties, duplicates and zero rows abound
    x = [
        np.array(data.draw(st.lists(values, min_size=(n + m) * d, max_size=(n + m) * d)), float).reshape(n + m, d)
        for d in widths
    ]
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n + m, max_size=n + m)), np.int64)
    chosen = Settings(
        data.draw(st.integers(1, 5)),
        data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        data.draw(st.booleans()),
        data.draw(st.booleans()),
        data.draw(st.sampled_from(["cosine", "dot"])),
    )
    before = partition([f[:n] for f in x], labels[:n], chosen)
    change = add(before, tuple(torch.tensor(f[n:]) for f in x), labels[n:])
    made = change.partition
    assert made.imbalance <= 1
    assert change.rows.tolist() == list(range(n, n + m))
    for g, name in enumerate([] if made.names is None else made.names):
        rows = np.flatnonzero(labels == name)
        old = np.flatnonzero(labels[:n] == name)
        here = [f[rows] for f in x]
        fixed = {"similarity": chosen.similarity, "center": chosen.center}
        if len(old) and chosen.center:
            fixed["mean"] = dense.rows_of([f[old] for f in x], similarity=chosen.similarity).mean(0)
        s = dense.similarities(dense.rows_of(here, **fixed), shifted=chosen.shifted, similarity=chosen.similarity)
        tol = dense.tolerance(len(rows), chosen.lam, s if chosen.similarity == "dot" else None)
        sizes = dense.bin_sizes(len(rows), chosen.n_bins)
        at = {row: i for i, row in enumerate(rows)}
        if len(old):
            was = bins_of(before, int(before.of_row[old[0]]))
            expected = dense.appended_bins(s, [[at[row] for row in picked] for picked in was], sizes, chosen.lam, tol)
        else:
            was = [[] for _ in sizes]
            expected = [list(zip(*found, strict=True)) for found in dense.greedy_bins(s, sizes, chosen.lam, tol)]
        for k, picked in enumerate(bins_of(made, g)):
            assert picked == was[k] + [int(rows[i]) for i, _ in expected[k]]
            new = picked[len(was[k]) :]
            np.testing.assert_allclose(made.gains[new], [gain for _, gain in expected[k]], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(made.gains[:n], before.gains)
    np.testing.assert_array_equal(made.bin_of[:n], before.bin_of)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(["cosine", "dot"]))
def test_sums_stay_sums_of_the_rows(seed, center, similarity):
    rng = np.random.default_rng(seed)
    x = [rng.normal(size=(40, d)) + 1 for d in (2, 4)]
    labels = rng.integers(0, 3, 40)
    start, rows = 25, np.arange(25)
    first = labels[:start].copy()
    kept = {}
    for name in np.unique(first):
        phi = dense.rows_of([f[:start][first == name] for f in x], similarity=similarity)
        kept[name] = phi.mean(0)
    made = partition([f[:start] for f in x], first, Settings(3, center=center, similarity=similarity))
    for begin in (25, 30):
        gone = rng.choice(len(rows), 4, replace=False)
        change = remove(made, rows=gone, embedding=tuple(torch.tensor(f[rows[gone]]) for f in x))
        rows = np.concatenate([np.delete(rows, gone), np.arange(begin, begin + 5)])
        part = tuple(torch.tensor(f[begin : begin + 5]) for f in x)
        made = add(change.partition, part, labels[begin : begin + 5]).partition
    assert len(rows) == len(made)
    for g, name in enumerate(made.names):
        if name not in kept or (labels[:start] == name).sum() == 0:
            continue
        mine = np.flatnonzero(made.of_row == g)
        assert (labels[rows[mine]] == name).all()
        phi = dense.rows_of([f[rows[mine]] for f in x], similarity=similarity, center=center, mean=kept[name])
        for k in range(3):
            total = phi[made.bin_of[mine] == k].sum(0)
            np.testing.assert_allclose(made.sums.of_bin[g, k].ravel(), total, atol=1e-11)
        if center:
            plain = dense.rows_of([f[rows[mine]] for f in x], similarity=similarity)
            np.testing.assert_allclose(made.sums.total[g].ravel(), plain.sum(0), atol=1e-11)
    change = add(made, tuple(torch.zeros(0, d) for d in (2, 4)), labels[:0])
    shift = 0.0
    for g, name in enumerate(made.names):
        old = dense.rows_of([f[:start][first == name] for f in x], similarity=similarity)
        mine = np.flatnonzero(made.of_row == g)
        new = dense.rows_of([f[rows[mine]] for f in x], similarity=similarity).mean(0)
        spread = np.sqrt(((old - kept[name]) ** 2).sum(1).mean()) if name in kept else 0
        shift = max(shift, np.linalg.norm(new - kept[name]) / spread) if spread > 1e-9 else shift
    if center:
        assert change.mean_shift == pytest.approx(shift, rel=1e-6)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(0, 60))
def test_bins_fill_up_evenly(counts, more):
    counts = np.array(counts)
    wanted = level(counts, more)
    simple = counts.copy()
    for _ in range(more):  # one by one into the emptiest bin, the first of such
        simple[int(np.argmin(simple))] += 1
    assert (counts + wanted).tolist() == simple.tolist()


def test_many_new_rows_without_their_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    before = partition([x[:30]], None, Settings(3))
    expected = add(before, x[30:]).partition
    monkeypatch.setattr("dq_fast.select.partition.append._GRAM_ROWS", 5)
    found = add(before, x[30:]).partition
    assert found.ranking.tolist() == expected.ranking.tolist()
    np.testing.assert_allclose(found.gains, expected.gains, atol=1e-12)
