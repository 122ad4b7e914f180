"""Bins of every kind of rows, within every limit of memory, against float64 greedy over explicit similarities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.select.dots import outside, pool, rank, streamed
from dq_fast.select.dots.products import Products
from dq_fast.select.groups import Groups
from dq_fast.select.plan import plan_bins
from dq_fast.select.ranking import rank_bins
from dq_fast.select.rows import as_factors
from dq_fast.select.settings import Settings

from .marks import native


def product_rows(factors, normalise):
    """The product embedding [n, d1 * d2 * ...] in float64, of normalised factors or of factors as they are."""
    phi = np.ones((len(factors[0]), 1))
    for x in factors:
        x = np.asarray(x, np.float64)
        if normalise:
            norm = np.linalg.norm(x, axis=1, keepdims=True)
            x = x / np.where(norm > 0, norm, 1)
        phi = (phi[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    return phi


def similarities(factors, similarity="cosine", shifted=True, center=False):
    phi = product_rows(factors, similarity == "cosine")
    if center:
        phi = phi - phi.mean(0)
        if similarity == "cosine":
            norm = np.linalg.norm(phi, axis=1, keepdims=True)
            phi = phi / np.where(norm > 1e-12, norm, 1)
    s = phi @ phi.T
    return s if similarity == "dot" or not shifted else 0.5 + 0.5 * s


def exhaustive(s, n_bins, lam):
    """Ranking, bin and gain of every row of one group: every gain from its definition."""
    n = len(s)
    tolerance = 1e-12 * n * (lam + 2) * max(1.0, np.abs(s).max(initial=0))
    left, ranking = list(range(n)), []
    bin_of, gains = np.empty(n, int), np.empty(n)
    for k in range(n_bins):
        remaining, picked = list(left), []
        for _ in range(n // n_bins + (k < n % n_bins)):
            gain = lam * s[:, remaining].sum(1) - 2 * s[:, picked].sum(1)
            gain = np.where(np.isin(np.arange(n), left), gain, -np.inf)
            row = int(np.flatnonzero(gain >= gain.max() - tolerance)[0])
            picked.append(row)
            left.remove(row)
            bin_of[row], gains[row] = k, gain[row]
        ranking += picked
    return np.array(ranking, int), bin_of, gains


def expected(factors, groups, n_bins, lam, **kind):
    n = len(factors[0])
    ranking, bin_of, gains = [], np.empty(n, int), np.empty(n)
    for g in range(len(groups)):
        rows = groups.rows(g)
        order, bins, gained = exhaustive(similarities([np.asarray(x)[rows] for x in factors], **kind), n_bins, lam)
        ranking += rows[order].tolist()
        bin_of[rows], gains[rows] = bins, gained
    return np.array(ranking, int), bin_of, gains


def check(ranked, truth):
    assert np.array_equal(ranked.ranking, truth[0])
    assert np.array_equal(ranked.bin_of, truth[1])
    assert np.allclose(ranked.gains, truth[2], rtol=1e-9, atol=1e-9 * max(1, np.abs(truth[2]).max(initial=0)))


@pytest.fixture
def data():
    rng = np.random.default_rng(2)
    labels = rng.permutation(np.repeat([4, 0, 9, 7], [61, 1, 40, 23]))
    return (rng.normal(size=(125, 7)) + 1).astype(np.float32), rng.normal(size=(125, 3)).astype(np.float32), labels


LIMITS = (None, "16.3MiB", "16.6MiB", "17MiB", "19MiB", "22MiB", "200MiB", 10**10)


@native
@pytest.mark.parametrize("factors", [1, 2, 3])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_the_same_whatever_the_memory(data, factors, grouped, center):
    x, y, labels = data
    given_rows = (x, y, x[:, :2] ** 2)[:factors]
    groups = Groups.of(np.sort(labels) if grouped else labels, 125)
    truth = expected(given_rows, groups, 4, 1.0, center=center)
    seen = set()
    for limit in LIMITS:
        try:
            plan = plan_bins(as_factors(given_rows), groups, Settings(4, center=center), max_memory=limit)
        except InputError:  # test_plan.py looks at what it says
            continue
        ranked = rank_bins(as_factors(given_rows), groups, Settings(4, center=center), plan)
        check(ranked, truth)
        seen.add((plan.method, plan.batches))
        assert plan.memory <= plan.max_memory
        assert plan.bounds[0] == 0
        assert plan.bounds[-1] == 4
        assert len(plan.bounds) == plan.batches + 1
        assert ranked.report["batches"] == plan.batches
        assert ranked.report["passes"] > 0
        assert plan.source == ("in place" if grouped else "gathered in memory")
    assert len(seen) > 1 or factors == 3


@pytest.mark.parametrize("algorithm", ["naive", "gram", "lazy", "dq"])
def test_every_algorithm(data, algorithm):
    x, _, labels = data
    groups = Groups.of(labels, 125)
    plan = plan_bins(as_factors(x), groups, Settings(3, lam=0.5), algorithm=algorithm)
    check(rank_bins(as_factors(x), groups, Settings(3, lam=0.5), plan), expected((x,), groups, 3, 0.5))


@pytest.mark.parametrize("kind", ["half", "bfloat16", "float64", "columns first", "strided", "mapped"])
def test_every_kind_of_rows(data, kind, tmp_path):
    x, _, labels = data
    np.save(tmp_path / "x.npy", x)
    rows = {
        "half": torch.tensor(x).half(),
        "bfloat16": torch.tensor(x).bfloat16(),
        "float64": x.astype(np.float64),
        "columns first": np.asfortranarray(x),
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "mapped": tmp_path / "x.npy",
    }[kind]
    factors = as_factors(rows)
    for labelled in (labels, np.sort(labels), None):
        groups = Groups.of(labelled, 125)
        ranked = rank_bins(factors, groups, Settings(4), plan_bins(factors, groups, Settings(4)))
        check(ranked, expected((factors.tensors[0].double().numpy(),), groups, 4, 1.0))


@native
def test_a_group_that_does_not_fit_goes_through_a_file():
    x, labels = np.random.default_rng(0).normal(size=(300, 3000)).astype(np.float32), np.arange(300) % 2
    factors, groups = as_factors(x), Groups.of(labels, 300)
    limit = 40 << 20
    kind = Settings(5)
    while (plan := plan_bins(factors, groups, kind, algorithm="lazy", max_memory=limit)).source != "gathered in a file":
        limit -= 1 << 19
    ranked = rank_bins(factors, groups, kind, plan)
    whole = rank_bins(factors, groups, kind, plan_bins(factors, groups, kind))
    assert np.array_equal(ranked.ranking, whole.ranking)
    assert np.array_equal(ranked.bin_of, whole.bin_of)


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_hardly_any_rows(n, similarity):
    x = np.ones((n, 3), np.float32)
    groups = Groups.of(None, n)
    kind = Settings(3, similarity=similarity)
    ranked = rank_bins(as_factors(x), groups, kind, plan_bins(as_factors(x), groups, kind))
    assert ranked.ranking.tolist() == list(range(n))


@native
def test_bad_rows_are_named_by_their_number(data):
    x, _, labels = data
    x = x.copy()
    row = int(np.flatnonzero(labels == 9)[5])
    x[row, 2] = np.nan
    groups = Groups.of(labels, 125)
    for limit, similarity in itertools.product((None, "19MiB"), ("cosine", "dot")):
        plan = plan_bins(as_factors(x), groups, Settings(4, similarity=similarity), max_memory=limit)
        with pytest.raises(InputError, match=rf"row {row};"):
            rank_bins(as_factors(x), groups, Settings(4, similarity=similarity), plan)


def _into(heard):
    return lambda stage, done, total: heard.append((stage, done, total))


@native
def test_progress_counts_all_rows_once(data):
    x, _, labels = data
    groups = Groups.of(labels, 125)
    for limit, similarity in (("19MiB", "cosine"), (None, "cosine"), (None, "dot")):
        heard = []
        plan = plan_bins(as_factors(x), groups, Settings(4, similarity=similarity), max_memory=limit)
        rank_bins(as_factors(x), groups, Settings(4, similarity=similarity), plan, progress=_into(heard))
        assert heard[-1] == ("bins", 125, 125)
        assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)


@native
def test_stopping_from_progress(data):
    x, _, labels = data

    def stop(stage, done, total):
        raise KeyboardInterrupt

    factors, groups, kind = as_factors(x), Groups.of(labels, 125), Settings(4)
    plan = plan_bins(factors, groups, kind, max_memory="19MiB")
    with pytest.raises(KeyboardInterrupt):
        rank_bins(factors, groups, kind, plan, progress=stop)


def test_mistakes(data):
    x, _, labels = data
    factors, groups = as_factors(x), Groups.of(labels, 125)
    for wrong in ({"algorithm": "fast"}, {"max_memory": "much"}, {"max_memory": 1000}):
        with pytest.raises(InputError):
            plan_bins(factors, groups, Settings(4), **wrong)
    for kind in (Settings(0), Settings(4, similarity="l2"), Settings(4, lam=-1.0)):
        with pytest.raises(InputError):
            plan_bins(factors, groups, kind)


# Dot products.


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 40), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 5),
    st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.booleans(), st.sampled_from(["normal", "shifted", "whole", "twins"]),
    st.integers(0, 10**6), st.sampled_from([8, 64]), st.booleans(),
)  # fmt: skip
def test_dot_products(n, widths, n_bins, lam, center, kind, seed, capacity, kept):
    rng = np.random.default_rng(seed)
    factors = [rng.normal(size=(n, d)) + (3 if kind == "shifted" else 0) for d in widths]
    if kind == "whole":
        factors = [np.round(x) for x in factors]
    if kind == "twins":
        factors = [x[np.arange(n) // 2] for x in factors]
    s = similarities(factors, "dot", center=center)
    truth = exhaustive(s, n_bins, lam)
    rows, groups = as_factors(tuple(factors)), Groups.of(None, n)
    asked = Settings(n_bins, lam=lam, center=center, similarity="dot")
    plan = plan_bins(rows, groups, asked)
    assert plan.algorithm == "given"
    check(rank_bins(rows, groups, asked, plan), truth)
    products = Products(rows, np.arange(n), center=center, room=1 << 30 if kept else 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamed, "_POOL", capacity)
        ranking, bin_of, gains = streamed.rank_streamed(products, n_bins, lam, 1 << 30, lambda done: None)
    assert np.array_equal(ranking, truth[0])
    assert np.array_equal(bin_of, truth[1])
    assert np.allclose(gains, truth[2], rtol=1e-9, atol=1e-9 * max(1, np.abs(truth[2]).max(initial=0)))


def _greedy(s, n_bins, lam):
    """As `exhaustive`, with gains kept up to date: for more rows."""
    n = len(s)
    tolerance = 1e-12 * n * (lam + 2) * np.abs(s).max()
    left, ranking = np.ones(n, bool), []
    for k in range(n_bins):
        gain = np.where(left, lam * s[:, left].sum(1), -np.inf)
        for _ in range(n // n_bins + (k < n % n_bins)):
            row = int(np.flatnonzero(gain >= gain.max() - tolerance)[0])
            ranking.append(row)
            gain -= 2 * s[row]
            gain[row], left[row] = -np.inf, False
    return ranking


@pytest.mark.parametrize("kind", ["clusters", "isotropic", "whole", "one row again and again"])
@pytest.mark.parametrize(("kept", "center"), [(True, False), (False, True)])
def test_blocks_of_streamed_dot_products(kind, kept, center, monkeypatch):
    """Many blocks, moments and renewals, whether bounds leave few rows or nearly all."""
    rng = np.random.default_rng(3)
    n, d = 400, 24
    x = {
        "clusters": 3 * rng.normal(size=(9, d))[rng.integers(0, 9, n)] + rng.normal(size=(n, d)) + 1,
        "isotropic": rng.normal(size=(n, d)),
        "whole": rng.integers(-1, 2, size=(n, d)).astype(float),
        "one row again and again": np.ones((n, d)),
    }[kind]
    for name, value in {"SEGMENTS": 3, "NUMBERS": 2000}.items():
        monkeypatch.setattr(outside, name, value)
    monkeypatch.setattr(streamed, "_POOL", 40)
    products = Products(as_factors(x), np.arange(n), center=center, room=1 << 30 if kept else 0)
    told = []
    ranking, _, _ = streamed.rank_streamed(products, 3, 1.0, 1 << 30, told.append)
    s = similarities([x], "dot", center=center)
    if kind == "one row again and again" and center:  # all products are 0, but for rounding
        assert ranking.tolist() == list(range(n))
    else:
        assert ranking.tolist() == _greedy(s, 3, 1.0)
    assert sum(told) == n
    assert max(told) > 1


def test_bounds_of_dot_products_hold_at_every_pick():
    rng = np.random.default_rng(5)
    n = 160
    x = rng.normal(size=(40, 80))[np.arange(n) % 40] + 0.1 * rng.normal(size=(n, 80))
    s = x @ x.T
    products = Products(as_factors(x), np.arange(n), center=False, room=1 << 30)
    out, inside = outside.Outside(products, 1.0, 1e-9), pool.Pool(products, 80)
    out.begin_bin()
    inside.add(np.arange(80), out.gains[:80].numpy())
    out.there[:80] = False
    gone: list[int] = []
    for _ in range(2):  # the second block begins when much has been picked that no gain knows of
        picks = inside.draw(30, 1e-9)
        rows = inside.rows.take(torch.from_numpy(picks.slots))
        for places, against in out._by_segment((picks, rows)):
            bounds = out.gains[places, None] - out.known[places] @ against + torch.from_numpy(picks.tops)
            for t in range(len(picks)):
                truth = s.sum(1) - 2 * s[:, gone + picks.places[:t].tolist()].sum(1)
                assert (bounds[:, t].numpy() >= truth[places] - 1e-9).all()
        inside.take(picks, len(picks))
        gone += picks.places.tolist()
        out.sum += rows.total()
        out.along += out._along(picks).sum(0)


def test_streamed_dot_products_by_class(data, monkeypatch):
    x, y, labels = data
    groups = Groups.of(labels, 125)
    monkeypatch.setattr(rank, "given_bytes", lambda factors, rows, center: 1 << 60)
    kind = Settings(4, similarity="dot")
    plan = plan_bins(as_factors((x, y)), groups, kind)
    assert plan.algorithm == "streamed"
    ranked = rank_bins(as_factors((x, y)), groups, kind, plan)
    check(ranked, expected((x, y), groups, 4, 1.0, similarity="dot"))


def test_dot_products_beyond_float64_are_refused():
    x = np.full((4, 2), 1e200)
    kind = Settings(2, similarity="dot")
    plan = plan_bins(as_factors(x), Groups.of(None, 4), kind)
    with pytest.raises(InputError, match="scale"):
        rank_bins(as_factors(x), Groups.of(None, 4), kind, plan)
