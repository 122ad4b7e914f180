"""Certificates against explicit similarity matrices in float64, and rankings with faults."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.select.certificate import certify, exhaustive
from dq_fast.select.groups import Groups
from dq_fast.select.settings import Settings
from tests.select import dense


def problem(n=45, factors=1, groups=3, seed=0, dtype=torch.float32):
    rng = np.random.default_rng(seed)
    x = tuple(torch.tensor(rng.normal(size=(n, 5 + 2 * k)) + 1).to(dtype) for k in range(factors))
    labels = rng.integers(0, groups, n) if groups > 1 else None
    return x, labels, Groups.of(labels, n)


def check(x, groups, ranking, bin_of, gains, n_bins, k=10**6, **options):
    kind = {name: options.pop(name) for name in ("lam", "shifted", "center", "similarity") if name in options}
    return certify(x, groups, ranking, bin_of, gains, Settings(n_bins, **kind), k, **options)


@pytest.mark.parametrize("factors", [1, 2, 3])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("shifted", [True, False])
def test_numbers_are_those_of_the_definition(factors, center, shifted, monkeypatch):
    monkeypatch.setattr(exhaustive, "_CHUNK_NUMBERS", 100)  # several chunks
    monkeypatch.setattr(exhaustive, "_TABLE_NUMBERS", 3000)  # several batches
    x, _, groups = problem(factors=factors)
    x[0][4:7], x[0][8] = x[0][3], 0
    rng = np.random.default_rng(1)
    ranking = np.concatenate([rng.permutation(groups.rows(g)) for g in range(3)])  # far from greedy
    place = np.empty(45, np.int64)
    place[ranking] = np.arange(45) - groups.offsets[:-1][groups.of_row[ranking]]
    bin_of = place * 4 // groups.sizes[groups.of_row]
    gains = rng.normal(size=45)
    found = check(x, groups, ranking, bin_of, gains, 4, lam=0.7, center=center, shifted=shifted)
    assert [p.row for p in found.picks] == ranking.tolist()
    for p in found.picks:
        rows = groups.rows(p.group)
        s = dense.similarities(dense.rows_of([f.numpy()[rows] for f in x], center=center), shifted=shifted)
        mine = ranking[groups.offsets[p.group] : groups.offsets[p.group + 1]]
        at = {row: i for i, row in enumerate(rows)}
        remaining = [at[row] for row in mine if bin_of[row] >= p.bin]
        picked = [at[row] for row in mine[: p.place] if bin_of[row] == p.bin]
        values = {row: dense.gain(s, at[row], remaining, picked, 0.7) for row in mine[p.place :]}
        assert p.bin == bin_of[p.row]
        assert p.gain == gains[p.row]
        assert p.picked == pytest.approx(values[p.row], abs=1e-11)
        assert p.best == pytest.approx(max(values.values()), abs=1e-11)
        assert p.shortfall == pytest.approx(max(values.values()) - values[p.row], abs=1e-11)
        assert p.mean == pytest.approx(np.mean(list(values.values())), abs=1e-11)
        assert p.lowest == min(row for row, v in values.items() if v >= max(values.values()) - p.tolerance)
        assert p.scale == pytest.approx(0.7 * len(remaining) + 2 * len(picked))
        assert p.error == pytest.approx(abs(gains[p.row] - values[p.row]), abs=1e-11)
    assert found.shortfall == max(p.shortfall for p in found.picks)
    assert found.loss == pytest.approx(
        sum(p.shortfall for p in found.picks) / sum(p.best - p.mean for p in found.picks)
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_exact_rankings_hold(data):
    n = data.draw(st.integers(0, 30))
    n_bins = data.draw(st.integers(1, 6))
    values = st.integers(-2, 2)  # ties, duplicates and zero rows abound
    widths = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    x = tuple(
        np.array(data.draw(st.lists(values, min_size=n * d, max_size=n * d)), float).reshape(n, d) for d in widths
    )
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int64)
    options = {
        "lam": data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        "shifted": data.draw(st.booleans()),
        "similarity": data.draw(st.sampled_from(["cosine", "dot"])),
        "center": data.draw(st.booleans()),
    }
    ranking, bin_of, gains = dense.fitted(x, labels, n_bins, **options)
    tensors = tuple(torch.tensor(f) for f in x)
    found = check(tensors, Groups.of(labels, n), ranking, bin_of, gains, n_bins, **options)
    assert found.holds, str(found)
    assert len(found.picks) == n
    assert found.relative_shortfall < 1e-11
    assert found.relative_error < 1e-11


@pytest.mark.parametrize("seed", range(4))
def test_two_swapped_picks_are_named(seed):
    x, labels, groups = problem(seed=seed)
    ranking, bin_of, gains = dense.fitted(x, labels, 4)
    assert check(x, groups, ranking, bin_of, gains, 4).holds
    i = int(groups.offsets[1]) + 1  # picks 1 and 2 of group 1: both in bin 0
    right = int(ranking[i])
    ranking[[i, i + 1]] = ranking[[i + 1, i]]
    found = check(x, groups, ranking, bin_of, gains, 4)
    assert not found.holds
    first = found.faults[0]
    assert (first.group, first.place, first.row, first.fault, first.lowest) == (1, 1, ranking[i], "shortfall", right)
    assert f"pick 1 of group 1 (bin 0, row {ranking[i]}): row {right} gains" in str(found)
    assert found.as_dict()["faults"][0]["row"] == ranking[i]


def test_rows_swapped_between_bins_are_named():
    x, labels, groups = problem()
    ranking, bin_of, gains = dense.fitted(x, labels, 3)
    a, b = int(groups.offsets[2]), int(groups.offsets[3]) - 1
    bin_of[ranking[[a, b]]] = bin_of[ranking[[b, a]]]
    with pytest.raises(
        InputError, match=rf"ascending along a group's ranking, got .* of group 2 \(row {ranking[a + 1]}\)"
    ):
        check(x, groups, ranking, bin_of, gains, 3)
    ranking[[a, b]] = ranking[[b, a]]
    found = check(x, groups, ranking, bin_of, gains, 3)
    assert (found.faults[0].group, found.faults[0].place, found.faults[0].fault) == (2, 0, "shortfall")


def test_wrong_gains_are_named():
    x, labels, groups = problem()
    ranking, bin_of, gains = dense.fitted(x, labels, 3)
    row = int(ranking[20])
    gains[row] += 1e-6
    found = check(x, groups, ranking, bin_of, gains, 3)
    assert [(p.row, p.fault) for p in found.faults] == [(row, "gain")]
    assert found.error == pytest.approx(1e-6, rel=1e-6)
    assert f"row {row}): gain" in str(found)
    assert check(x, groups, ranking, bin_of, None, 3).holds
    assert "error of a gain" not in str(check(x, groups, ranking, bin_of, None, 3))


def test_ties_go_to_the_lowest_row():
    x, _, groups = problem(n=12, groups=1)
    x[0][[2, 5, 9]] = x[0][7].clone()
    ranking, bin_of, gains = dense.fitted(x, None, 1)
    at = [int(np.flatnonzero(ranking == row)[0]) for row in (2, 5, 7, 9)]
    assert at == sorted(at)
    ranking[at[0]], ranking[at[1]] = 5, 2
    gains[[2, 5]] = gains[[5, 2]]
    found = check(x, groups, ranking, bin_of, gains, 1)
    assert [(p.row, p.lowest, p.fault) for p in found.faults] == [(5, 2, "tie")]
    assert "row 2 ties with it, and is lower" in str(found)


def test_all_rows_tie():
    x = (torch.ones(300, 3),)
    groups = Groups.of(None, 300)
    for center in (False, True):  # centred, all rows are zero rows
        found = check(x, groups, np.arange(300), np.arange(300) * 4 // 300, None, 4, center=center)
        assert found.holds, str(found)
        assert found.loss == 0
    wrong = check(x, groups, np.arange(300)[::-1], None, None, 1)
    assert len(wrong.faults) == 299
    assert all(p.fault == "tie" and p.lowest == 0 for p in wrong.faults)
    assert "and 289 more" in str(wrong)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_rankings_of_a_part(similarity):
    x, labels, groups = problem(n=60)
    ranking, _, gains = dense.fitted(x, labels, 1, similarity=similarity)
    budgets = [7, 0, 11]
    part = np.concatenate([ranking[groups.offsets[g] : groups.offsets[g] + b] for g, b in enumerate(budgets)])
    found = check(x, groups, part, None, gains, 1, similarity=similarity)
    assert found.holds, str(found)
    assert (len(found.picks), found.of) == (18, 18)
    part[[0, 1]] = part[[1, 0]]
    assert check(x, groups, part, None, None, 1, similarity=similarity).faults[0].place == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_against_the_op_with_labels_in_any_order(dtype):
    x, _, groups = problem(n=90, factors=2, dtype=dtype)
    order = torch.from_numpy(groups.order)
    ranking, bins, gained = ops.graph_cut_bins(tuple(f[order] for f in x), 5, offsets=groups.offsets, center=True)
    bin_of, gains = np.empty(90, np.int64), np.empty(90)
    bin_of[groups.order], gains[groups.order] = bins.numpy(), gained.numpy()
    assert check(x, groups, groups.order[ranking.numpy()], bin_of, gains, 5, center=True).holds


def test_extreme_rows():
    x, labels, groups = problem(n=30, dtype=torch.float64)
    ranking, bin_of, gains = dense.fitted(x, labels, 3)
    scale = torch.tensor(10.0 ** np.random.default_rng(0).integers(-300, 300, 30))[:, None]
    assert check((x[0] * scale,), groups, ranking, bin_of, gains, 3).relative_error < 1e-12


def test_tight_groups_with_centred_rows():
    rng = np.random.default_rng(0)
    x = tuple(1 + 1e-5 * rng.normal(size=(40, d)) for d in (3, 6))
    ranking, bin_of, gains = dense.fitted(x, None, 2, center=True)
    found = check(tuple(map(torch.tensor, x)), Groups.of(None, 40), ranking, bin_of, gains, 2, center=True)
    assert found.relative_shortfall < 1e-9
    assert found.relative_error < 1e-9


def test_a_row_equal_to_the_mean_of_rows_far_from_it():
    rng = np.random.default_rng(0)
    b, h = rng.normal(size=(4, 3)), rng.normal(size=(4, 5))
    # Factors have means, their products none, so that large terms cancel in the distance of the zero row from the mean.
    x = (np.concatenate([b, -b[:2], b[2:], 0 * b[:1]]), np.concatenate([h, h[:2], -h[2:], 0 * h[:1]]))
    ranking, bin_of, gains = dense.fitted(x, None, 2, center=True)
    found = check(tuple(map(torch.tensor, x)), Groups.of(None, 9), ranking, bin_of, gains, 2, center=True)
    assert found.relative_error < 1e-12
    assert found.relative_shortfall < 1e-12


def test_a_few_picks_read_a_few_groups_in_order(tmp_path):
    x, labels, groups = problem(n=200, groups=20)
    np.save(tmp_path / "x.npy", x[0].numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    ranking, bin_of, gains = dense.fitted(x, labels, 2)
    calls = []
    found = check((mapped,), groups, ranking, bin_of, gains, 2, k=3, seed=5, progress=lambda *c: calls.append(c))
    assert found.holds
    assert len(found.picks) == 3
    rows = sum(int(groups.sizes[g]) for g in {p.group for p in found.picks})
    assert found.passes == 2
    assert found.bytes_read == 2 * rows * x[0].shape[1] * 4
    assert calls[-1] == ("certify", 2 * rows, 2 * rows)
    same = check(x, groups, ranking, bin_of, gains, 2, k=3, seed=5)
    assert [p.row for p in same.picks] == [p.row for p in found.picks]
    assert [p.row for p in check(x, groups, ranking, bin_of, gains, 2, k=3, seed=6).picks] != [
        p.row for p in same.picks
    ]


def test_text_and_json():
    x, labels, groups = problem()
    ranking, bin_of, gains = dense.fitted(x, labels, 3)
    found = check(x, groups, ranking, bin_of, gains, 3, k=10)
    assert str(found).startswith("certificate: 10 of 10 picks exact (of 45; 2 reads")
    assert "largest shortfall 0, relative 0" in str(found)
    numbers = json.loads(json.dumps(found.as_dict()))
    assert numbers["holds"] is True
    assert numbers["picks"] == 10
    assert numbers["faults"] == []
    empty = check(x, groups, ranking, bin_of, gains, 3, k=0)
    assert empty.holds
    assert str(empty) == "certificate: no picks looked at"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranking": np.array([0, 1, 1])}, "ranking must be different rows, got row 1 twice"),
        ({"ranking": np.array([0, 99])}, "ranking must be row numbers below 45, got 99 at pick 1"),
        ({"ranking": np.array([0.0])}, "ranking must be row numbers, 1-D"),
        ({"bin_of": np.zeros(3, np.int64)}, "bin_of must be one integer for every row"),
        ({"bin_of": np.full(45, 7)}, "bin_of must be from 0 to n_bins - 1, got 7 at pick 0 of group 0"),
        ({"gains": np.zeros(3)}, "gains must be one for every row"),
        ({"factors": (torch.ones(3, 2),)}, "factors must be of the 45 rows"),
        ({"similarity": "euclid"}, "similarity must be one of"),
        ({"lam": -1.0}, "lam must be"),
        ({"k": -1}, "k must be"),
        ({"factors": (torch.full((45, 2), torch.nan),)}, "embedding must be finite, got NaN or infinity in row 0"),
    ],
)
def test_mistakes_are_named(change, words):
    x, labels, groups = problem()
    ranking, bin_of, gains = dense.fitted(x, labels, 3)
    arguments = {"factors": x, "ranking": ranking, "bin_of": bin_of, "gains": gains, "n_bins": 3} | change
    with pytest.raises(InputError, match=words):
        check(arguments.pop("factors"), groups, **{"k": 5, **arguments})
