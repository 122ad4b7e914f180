"""Every sampler: exact totals, its own definition, floors and weights, and nesting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.errors import InputError
from dq_fast.select import draw
from dq_fast.select.samplers import SAMPLERS, adq_rates, class_difficulty, difficulty_rates, early_weights
from dq_fast.select.samplers.shares import weighted_shares

NESTED = [name for name, sampler in SAMPLERS.items() if sampler.nested]


def partition(n: int, n_bins: int, classes: int, seed: int, *, imbalance: float = 0.0) -> dict:
    """Labels, and per class a pick order cut in bins as the quantizer does, with falling gains."""
    rng = np.random.default_rng(seed)
    weights = np.exp(-imbalance * np.arange(classes))
    labels = rng.choice(classes, n, p=weights / weights.sum())
    ranking, bin_of, gains = [], np.zeros(n, np.int64), np.zeros(n)
    for c in range(classes):
        rows = rng.permutation(np.flatnonzero(labels == c))
        ranking.append(rows)
        bin_of[rows] = np.repeat(np.arange(n_bins), [len(part) for part in np.array_split(rows, n_bins)])
        gains[rows] = -np.arange(len(rows)) + rng.normal(size=len(rows))
    known = np.unique(labels)
    return {
        "bin_of": bin_of,
        "strata": labels,
        "n_bins": n_bins,
        "ranking": np.concatenate(ranking) if ranking else np.empty(0, np.int64),
        "gains": gains,
        "importance": rng.random(n_bins) + 0.1,
        "difficulty": rng.random(len(known)) + 0.1,
    }


@st.composite
def cases(draw_):
    n, n_bins, classes = draw_(st.integers(1, 250)), draw_(st.integers(1, 11)), draw_(st.integers(1, 8))
    return partition(n, n_bins, classes, draw_(st.integers(0, 10**6)), imbalance=draw_(st.sampled_from([0.0, 1.0])))


keeps = st.one_of(st.floats(1e-6, 1), st.sampled_from([0.1, 0.29, 0.5, 0.6, 1.0, 1 / 3]))


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_totals_are_exact_and_draws_reproducible(data):
    case = data.draw(cases())
    sampler = data.draw(st.sampled_from(sorted(SAMPLERS)))
    keep, seed = data.draw(keeps), data.draw(st.integers(0, 2**40))
    n, classes = len(case["bin_of"]), len(np.unique(case["strata"]))
    options = {"nested": data.draw(st.booleans()) and sampler != "early", "sampler": sampler}
    if sampler != "first" and data.draw(st.booleans()):
        options["bin_weights"] = [data.draw(st.floats(0.01, 9)) for _ in range(case["n_bins"])]
    if data.draw(st.booleans()):
        options["class_weights"] = [data.draw(st.floats(0.01, 9)) for _ in range(classes)]
    total = round(keep * n)
    options["floor"] = data.draw(st.integers(0, total // classes))
    rows = draw(keep=keep, seed=seed, **case, **options)
    assert rows.dtype == np.int64
    assert len(rows) == total == len(np.unique(rows))
    assert (np.diff(rows) > 0).all()
    assert rows.size == 0 or 0 <= rows[0] <= rows[-1] < n
    assert (rows == draw(keep=keep, seed=seed, **case, **options)).all()
    drawn = np.bincount(np.unique(case["strata"], return_inverse=True)[1][rows], minlength=classes)
    there = np.unique(case["strata"], return_counts=True)[1]
    assert (drawn >= np.minimum(there, options["floor"])).all()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_smaller_nested_draw_is_part_of_every_larger_one(data):
    case = data.draw(cases())
    n, classes = len(case["bin_of"]), len(np.unique(case["strata"]))
    options = {"sampler": data.draw(st.sampled_from(NESTED)), "seed": data.draw(st.integers(0, 99)), "nested": True}
    options["within"] = None if options["sampler"] == "first" else data.draw(st.sampled_from([None, "first", "gain"]))
    if options["sampler"] != "first":
        options["bin_weights"] = data.draw(st.sampled_from([None, np.arange(case["n_bins"]) + 1.0]))
    options["class_weights"] = data.draw(st.sampled_from([None, np.arange(classes) + 0.5]))
    options["floor"] = data.draw(st.integers(0, 3))
    least = int(np.minimum(np.unique(case["strata"], return_counts=True)[1], options["floor"]).sum())
    smaller: set[int] = set()
    for keep in sorted({*data.draw(st.lists(keeps, min_size=2, max_size=12)), 1.0}):
        if round(keep * n) < least:
            with pytest.raises(InputError, match="floor must leave room"):
                draw(keep=keep, **case, **options)
            continue
        rows = set(draw(keep=keep, **case, **options).tolist())
        assert len(rows) == round(keep * n)
        assert smaller <= rows
        smaller = rows


@pytest.mark.parametrize("sampler", ["uniform", "gain"])
@pytest.mark.parametrize("imbalance", [0.0, 0.5])
def test_nested_draws_keep_bins_and_classes_near_their_shares(sampler, imbalance):
    case = partition(3000, 10, 7, 3, imbalance=imbalance)
    for total in (1, 7, 30, 123, 500, 999, 1500, 2500, 2999):
        keep = total / 3000
        rows = draw(keep=keep, sampler=sampler, nested=True, seed=5, **case)
        assert np.abs(np.bincount(case["strata"][rows], minlength=7) - keep * np.bincount(case["strata"])).max() < 1.5
        # seven classes, each within one of its share in a bin
        assert np.abs(np.bincount(case["bin_of"][rows], minlength=10) - keep * np.bincount(case["bin_of"])).max() < 5


def test_nested_draws_of_one_class_are_spread_over_bins_exactly():
    case = partition(1000, 10, 1, 0)
    for total in range(0, 1000, 37):
        if total == 0:
            continue
        rows = draw(keep=total / 1000, nested=True, **case)
        assert np.ptp(np.bincount(case["bin_of"][rows], minlength=10)) <= 1


def test_nested_weights_meet_the_water_filled_shares():
    case = partition(2000, 10, 4, 1)
    weights = 2.0 ** -np.arange(10)
    for keep in (0.05, 0.2, 0.5, 0.9):
        a = draw(keep=keep, bin_weights=weights, nested=True, **case)
        b = draw(keep=keep, bin_weights=weights, **case)
        per_bin = [np.bincount(case["bin_of"][rows], minlength=10) for rows in (a, b)]
        assert np.abs(per_bin[0] - per_bin[1]).max() <= 4


@settings(max_examples=100, deadline=None)
@given(cases(), keeps)
def test_first_takes_the_first_picks_of_every_class(case, keep):
    rows = draw(keep=keep, sampler="first", **case)
    for c in np.unique(case["strata"]):
        ranked = case["ranking"][case["strata"][case["ranking"]] == c]
        count = int((case["strata"][rows] == c).sum())
        assert abs(count - keep * len(ranked)) < 1 + 1e-9
        assert set(ranked[:count].tolist()) == set(rows[case["strata"][rows] == c].tolist())


def test_first_with_a_ranking_of_some_rows():
    labels = np.repeat([0, 1], [6, 14])
    ranking = np.array([5, 4, 3, 19, 18, 17, 16, 15])
    kept = {"sampler": "first", "ranking": ranking, "n_bins": 1}
    assert draw(np.zeros(20, int), labels, 0.2, **kept).tolist() == [5, 17, 18, 19]
    assert draw(np.zeros(20, int), labels, 0.4, **kept).tolist() == sorted(ranking.tolist())
    assert draw(np.zeros(20, int), labels, 0.4, nested=True, **kept).tolist() == sorted(ranking.tolist())
    with pytest.raises(InputError, match=r"keep must be at most 0\.4 here, got one of 9 samples"):
        draw(np.zeros(20, int), labels, 0.45, **kept)
    with pytest.raises(InputError, match="ranking must be a permutation of the 20 row numbers"):
        draw(np.zeros(20, int), labels, 0.2, n_bins=1, ranking=ranking, within="first")


def test_first_within_the_bins_of_uniform():
    case = partition(600, 5, 3, 2)
    rows = draw(keep=0.3, within="first", **case)
    assert len(rows) == 180
    for c in range(3):
        for k in range(5):
            ranked = case["ranking"][(case["strata"] == c)[case["ranking"]] & (case["bin_of"] == k)[case["ranking"]]]
            ours = rows[(case["strata"][rows] == c) & (case["bin_of"][rows] == k)]
            assert set(ranked[: len(ours)].tolist()) == set(ours.tolist())


def test_gain_draws_the_first_row_with_softmax_probabilities():
    # cells of four rows, one drawn of each: P(row) = softmax of the standardised gains
    gains, cells = np.array([3.0, 1.0, 0.0, -2.0]), 3000
    z = (gains - gains.mean()) / gains.std()
    many = {
        "bin_of": np.zeros(4 * cells, int),
        "strata": np.repeat(np.arange(cells), 4),
        "gains": np.tile(gains, cells),
    }
    for temperature in (0.5, 1.0, 3.0):
        expected = np.exp(z / temperature) / np.exp(z / temperature).sum()
        drawn = draw(keep=0.25, n_bins=1, sampler="gain", seed=5, temperature=temperature, **many)
        assert (drawn // 4 == np.arange(cells)).all()
        assert np.abs(np.bincount(drawn % 4, minlength=4) / cells - expected).max() < 0.04
    top = draw(np.zeros(4, int), np.zeros(4, int), 0.5, n_bins=1, sampler="gain", gains=gains, temperature=1e-3)
    assert top.tolist() == [0, 1]


def test_gain_does_not_depend_on_the_units_of_gain_and_takes_equal_ones():
    case = partition(300, 4, 3, 9)
    rows = draw(keep=0.4, sampler="gain", seed=1, **case)
    assert (rows == draw(keep=0.4, sampler="gain", seed=1, **{**case, "gains": 1e6 * case["gains"] - 7})).all()
    assert len(draw(keep=0.4, sampler="gain", **{**case, "gains": np.full(300, 1e9)})) == 120


def test_early_weights_move_to_uniform():
    case = partition(1000, 10, 2, 4)
    shares = []
    for keep in (0.02, 0.1, 0.3, 0.6, 0.95):
        counts = np.bincount(case["bin_of"][draw(keep=keep, sampler="early", **case)], minlength=10)
        shares.append(counts / counts.sum())
    assert shares[0][0] == 1  # 2 % come from the first bin
    assert np.abs(shares[-1] - 0.1).max() < 0.01
    firsts = [share[0] for share in shares]
    assert firsts == sorted(firsts, reverse=True)
    assert all((np.diff(share) <= 0.004).all() for share in shares)
    assert (early_weights(10, 1.0) == 1).all()
    assert early_weights(4, 0.5, 2.0).tolist() == pytest.approx(np.exp([0, -0.5, -1, -1.5]))
    assert (draw(keep=0.3, sampler="early", early=0, **case) == draw(keep=0.3, **case)).all()
    assert len(draw(keep=1e-3, sampler="early", early=1e9, **case)) == 1


def test_adq_rates_are_the_papers_and_share_the_total():
    importance, sizes = np.array([0.5, 0.9, 0.6]), np.array([100, 100, 200])
    rates = adq_rates(importance, sizes, alpha=0.3)
    assert rates.tolist() == pytest.approx([0.15 + 0.7 * 0.25, 0.27 + 0.7 * 0.25, 0.18 + 0.7 * 0.5])
    bin_of = np.repeat([0, 1, 2], sizes)
    rows = draw(bin_of, np.zeros(400, int), 0.2, n_bins=3, sampler="adq", importance=importance, alpha=0.3)
    expected = 80 * rates * sizes / (rates * sizes).sum()
    assert np.abs(np.bincount(bin_of[rows]) - expected).max() < 1


def test_difficulty_gives_more_of_difficult_classes():
    labels = np.repeat([3, 5, 9], [200, 200, 400])
    rows = draw(np.zeros(800, int), labels, 0.25, n_bins=1, sampler="difficulty", difficulty=[0.1, 0.3, 0.2])
    assert np.unique(labels[rows], return_counts=True)[1].tolist() == [25, 75, 100]
    same = draw(np.zeros(800, int), labels, 0.25, n_bins=1, sampler="difficulty", difficulty={3: 0.1, 5: 0.3, 9: 0.2})
    assert (rows == same).all()
    half = draw(np.zeros(800, int), labels, 0.25, n_bins=1, sampler="difficulty", difficulty=[1, 3, 2], strength=0.5)
    assert np.abs(np.unique(labels[half], return_counts=True)[1] - [37.5, 62.5, 100]).max() <= 0.5
    assert difficulty_rates([0, 0], [5, 5]).tolist() == [1, 1]


def test_class_difficulty_is_one_less_the_mean_probability():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(50, 4)) * 5, rng.integers(0, 4, 50)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    expected = [np.mean([1 - p[i, y[i]] for i in range(50) if y[i] == c]) for c in range(4)]
    assert class_difficulty(z, y).tolist() == pytest.approx(expected)
    assert class_difficulty(np.array([[800.0, 0.0], [0.0, 800.0]]), np.array([0, 0])).tolist() == [0.5]
    with pytest.raises(InputError, match=r"logits must be \[n, C\]"):
        class_difficulty(z, y[:-1])
    with pytest.raises(InputError, match="labels must be whole numbers from 0 to 3"):
        class_difficulty(z, y + 1)


def test_bin_and_class_weights_are_relative_rates():
    bin_of, labels = np.tile([0, 1], 200), np.repeat(["cat", "dog"], 200)
    rows = draw(bin_of, labels, 0.25, n_bins=2, bin_weights=[3, 1])
    assert np.bincount(bin_of[rows]).tolist() == [75, 25]
    rows = draw(bin_of, labels, 0.25, n_bins=2, class_weights={"dog": 4})
    assert np.unique(labels[rows], return_counts=True)[1].tolist() == [20, 80]
    rows = draw(bin_of, labels, 0.7, n_bins=2, bin_weights=[3, 1])  # the first bin has no more than 200
    assert np.bincount(bin_of[rows]).tolist() == [200, 80]
    rows = draw(bin_of, labels, 0.5, n_bins=2, bin_weights=[0, 1])
    assert np.bincount(bin_of[rows], minlength=2).tolist() == [0, 200]
    with pytest.raises(InputError, match=r"keep must be at most 0\.5 here"):
        draw(bin_of, labels, 0.51, n_bins=2, bin_weights=[0, 1])


@pytest.mark.parametrize("nested", [False, True])
def test_floors_hold_where_a_class_has_enough(nested):
    labels = np.repeat([0, 1, 2, 3], [1000, 30, 12, 3])
    bin_of = np.arange(1045) % 10
    rows = draw(bin_of, labels, 0.1, n_bins=10, floor=10, nested=nested)
    counts = np.bincount(labels[rows])
    assert len(rows) == round(104.5)
    assert counts[1:].tolist() == [10, 10, 3]
    rows = draw(bin_of, labels, 0.1, n_bins=10, floor={2: 7}, nested=nested)
    counts = np.bincount(labels[rows])
    assert counts[2] == 7
    assert abs(counts[1] - 3) <= 1
    with pytest.raises(InputError, match="floor must leave room in the round"):
        draw(bin_of, labels, 0.02, n_bins=10, floor=10, nested=nested)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "best"}, "sampler must be one of uniform, first, gain"),
        ({"sampler": "gain", "gains": None}, "gains must be given for the sampler 'gain'"),
        ({"sampler": "first", "ranking": None}, "ranking must be given for the sampler 'first'"),
        ({"sampler": "adq", "importance": None}, "importance must be given for the sampler 'adq'"),
        ({"sampler": "difficulty", "difficulty": None}, "difficulty must be given for the sampler 'difficulty'"),
        ({"sampler": "early", "nested": True}, "sampler must be one whose rates do not change with keep"),
        ({"sampler": "early", "early": -1}, "early must be a finite number >= 0"),
        ({"sampler": "adq", "alpha": 1.5}, r"alpha must be in \[0, 1\]"),
        ({"sampler": "adq", "importance": [1, 2]}, "importance must have one number a bin, 3"),
        ({"sampler": "difficulty", "strength": 2}, r"strength must be in \[0, 1\]"),
        ({"sampler": "first", "bin_weights": [1, 1, 1]}, "bin_weights must be None with the sampler 'first'"),
        ({"sampler": "first", "within": "random"}, "within must be 'first' or None"),
        ({"within": "best"}, "within must be one of random, first, gain"),
        ({"within": "gain", "gains": None}, "gains must be given to take rows by gain"),
        ({"within": "first", "ranking": None}, "ranking must be given to take rows in pick order"),
        ({"sampler": "gain", "temperature": 0}, "temperature must be a finite number > 0"),
        ({"bin_weights": [1, 1]}, "bin_weights must have one number a bin, 3"),
        ({"bin_weights": [1, 1, -1]}, "bin_weights must be finite numbers >= 0"),
        ({"class_weights": [1]}, "class_weights must have one number a class, 2"),
        ({"class_weights": {7: 1}}, "class_weights must name classes that rows have, got 7"),
        ({"class_weights": "many"}, "class_weights must be numbers"),
        ({"floor": 0.5}, "floor must be whole numbers"),
        ({"floor": -1}, "floor must be finite numbers >= 0"),
        ({"seed": -1}, "seed must be a whole number >= 0"),
        ({"seed": True}, "seed must be a whole number >= 0"),
        ({"keep": "half"}, r"keep must be a fraction in \(0, 1\]"),
        ({"n_bins": 2}, "bin_of must be whole numbers from 0 to 1"),
        ({"strata": np.zeros(5, int)}, "labels must have one entry a row"),
        ({"within": "gain", "gains": np.zeros(5)}, "gains must have one number a row"),
        ({"sampler": "gain", "gains": np.full(12, np.nan)}, "gains must be finite"),
        ({"within": "first", "ranking": np.zeros(12, int)}, "ranking must be a permutation of the 12 row numbers"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    case = {**partition(12, 3, 2, 0), "keep": 0.5}
    with pytest.raises(InputError, match=message):
        draw(**{**case, **options})


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_no_rows_and_one_row(sampler):
    none = partition(0, 3, 2, 0)
    assert draw(keep=0.5, sampler=sampler, **none).tolist() == []
    one = partition(1, 3, 2, 0)
    assert draw(keep=1.0, sampler=sampler, **one).tolist() == [0]
    assert draw(keep=0.2, sampler=sampler, **one).tolist() == []


@pytest.mark.parametrize("seed", [384, 478])  # rounding bins before classes leaves a class more than one off here
def test_class_weights_leave_classes_within_one_of_their_share(seed):
    rng = np.random.default_rng(seed)
    classes, n_bins = int(rng.integers(1, 40)), int(rng.integers(1, 12))
    sizes = rng.integers(0, int(rng.choice([2, 4, 9])), (n_bins, classes))
    total = int(rng.integers(0, sizes.sum() + 1))
    of_bin, of_class = np.exp(rng.normal(size=n_bins)), np.exp(rng.normal(size=classes))
    share = weighted_shares(sizes, sizes, of_bin, of_class, np.zeros(classes, int), total).sum(0)
    cell = np.repeat(np.arange(sizes.size), sizes.reshape(-1))
    weights = {"bin_weights": of_bin, "class_weights": dict(enumerate(of_class))}
    weights["class_weights"] = {c: w for c, w in weights["class_weights"].items() if sizes[:, c].any()}
    rows = draw(cell // classes, cell % classes, total / sizes.sum(), n_bins=n_bins, **weights)
    assert len(rows) == total
    assert np.abs(np.bincount(cell[rows] % classes, minlength=classes) - share).max() < 1
