"""The official code's bins and draws, against an own dense float64 run of its algorithm, apricot and submodlib."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.embed import gradient_embedding, load_classifier
from dq_fast.errors import InputError
from dq_fast.select.official import bin_numbers, listing_order, official_bins, official_sample, official_sizes

CIFAR = os.environ.get("DQ_FAST_TEST_CIFAR10")


def similarity(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    return 0.5 + 0.5 * unit @ unit.T


def dense_bins(rows: np.ndarray, labels: np.ndarray, n_bins: int) -> list[np.ndarray]:
    """The algorithm as it is described, class by class on whole similarity matrices."""
    matrices = {c: (np.flatnonzero(labels == c), similarity(rows[labels == c])) for c in np.unique(labels)}
    there = np.ones(len(rows), bool)
    size = round(len(rows) * (1 / n_bins))
    bins = []
    for _ in range(n_bins - 1):
        fraction = size / there.sum()
        found = []
        for index, s in matrices.values():
            live = there[index]
            left, part = index[live], s[np.ix_(live, live)]
            gain = part.sum(0)
            picked = np.zeros(len(left), bool)
            for _ in range(round(fraction * len(left))):
                best = int(np.argmax(np.where(picked, -np.inf, gain)))
                picked[best] = True
                gain = gain - 2 * part[best]
            found.append(left[picked])
        bins.append(np.concatenate(found))
        there[bins[-1]] = False
    return [*bins, np.flatnonzero(there)]


def clustered(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, d))
    return centres[rng.integers(0, 4, n)] + 0.4 * rng.normal(size=(n, d))


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert [a.tolist() for a in ours] == [b.tolist() for b in theirs]


@pytest.mark.parametrize("method", ["auto", "naive", "gram", "lazy"])
@pytest.mark.parametrize(
    ("sizes", "n_bins"), [((67, 31, 50), 10), ((40,), 10), ((33, 34), 3), ((9, 23), 1), ((64, 80), 2)]
)
def test_bins_are_the_dense_ones(method, sizes, n_bins):
    n = sum(sizes)
    rows = clustered(n, 7, n)
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    bins = official_bins(rows, labels, n_bins, method=method)
    same(bins, dense_bins(rows, labels, n_bins))
    assert all(b.dtype == np.int64 for b in bins)
    assert [len(b) for b in bins] == official_sizes(sizes, n_bins).sum(1).tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.lists(st.integers(20, 45), min_size=1, max_size=4))
def test_bins_of_two_factors_are_those_of_their_product(seed, n_bins, sizes):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    b, h = rng.normal(size=(n, 3)), np.concatenate([np.ones((n, 1)), rng.normal(size=(n, 4))], 1)
    labels = rng.permutation(np.repeat(np.array([2, 3, 7, 11])[: len(sizes)], sizes))
    product = (b[:, :, None] * h[:, None, :]).reshape(n, -1)
    same(official_bins((torch.from_numpy(b), h), labels, n_bins), dense_bins(product, labels, n_bins))


def test_ties_go_to_the_lowest_row():
    rows = np.repeat(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 10, axis=0)
    same(official_bins(rows, None, 5), dense_bins(rows, np.zeros(30), 5))
    same(official_bins(np.ones((20, 1)), None, 10), [np.array([2 * k, 2 * k + 1]) for k in range(10)])


def test_classes_that_do_not_fit_a_block_come_one_by_one(monkeypatch):
    rows, labels = clustered(120, 5, 0), np.arange(120) % 3
    seen = []
    monkeypatch.setattr("dq_fast.select.official.bins._BLOCK_BYTES", 41 * 5 * 8)
    bins = official_bins(rows, labels, 4, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert seen == [("bins", 40, 120), ("bins", 80, 120), ("bins", 120, 120)]
    same(bins, dense_bins(rows, labels, 4))


def test_bins_are_ascending_within_a_class_and_the_last_one_throughout():
    labels = np.arange(90) % 2
    bins = official_bins(clustered(90, 4, 5), labels, 5)
    for rows in bins[:-1]:
        assert (np.diff(labels[rows]) >= 0).all()
        assert all((np.diff(rows[labels[rows] == c]) > 0).all() for c in (0, 1))
    assert (np.diff(bins[-1]) > 0).all()
    assert sorted(np.concatenate(bins).tolist()) == list(range(90))
    assert (bin_numbers(bins, 90)[bins[3]] == 3).all()


def test_sizes_are_rounded_to_even():
    assert (official_sizes([5000] * 10) == 500).all()
    # 105 samples: round(10.5) = 10 a bin; of 25, 35 and 45: 2.38, 3.33, 4.29, then 2.42 (23 of 95) and so on
    assert official_sizes([25, 35, 45])[0].tolist() == [2, 3, 4]
    assert official_sizes([25, 35, 45]).sum(0).tolist() == [25, 35, 45]
    # 65 samples: round(6.5) = 6; 6/65 · 65 = 6, and 59 left: 6/59 · 59 = 6 …; the last bin holds 11
    assert official_sizes([65])[:, 0].tolist() == [6] * 9 + [11]
    assert official_sizes([75])[:, 0].tolist() == [8] * 9 + [3]
    assert official_sizes([7], 1).tolist() == [[7]]
    assert official_sizes([30], 3, fraction=0.333333).tolist() == [[10], [10], [10]]


def test_classes_that_run_out_are_refused_as_the_official_code_does():
    with pytest.raises(InputError, match="labels must have enough samples of each class for 10 official bins"):
        official_sizes([4, 100])  # round(0.4) = 0 of the small class
    with pytest.raises(InputError, match=r"class \(number 0\) with 0 left before bin 0"):
        official_sizes([0], 2)
    with pytest.raises(InputError, match="n_bins must be a whole number of at least 1"):
        official_sizes([50], 0)


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"fraction must be 1 / n_bins = 0\.1"):
        official_sizes([50], fraction=0.2)
    with pytest.raises(InputError, match="embedding must be 2-D"):
        official_bins(np.zeros(3))
    with pytest.raises(InputError, match="embedding must be 2-D"):
        official_bins((np.zeros((3, 1)), np.zeros((4, 1))))
    with pytest.raises(InputError, match="labels must have one entry a row"):
        official_bins(np.zeros((30, 1)), np.zeros(29))
    with pytest.raises(InputError, match="bins must hold each of the 4 rows once"):
        bin_numbers([[0, 1], [1, 2]], 4)


def drawn_by_numpy(bins: list[np.ndarray], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The sampling as it is described, with numpy's global legacy generator."""
    state = np.random.get_state()  # noqa: NPY002
    found = []
    for name in sorted(f"exp{k}" for k in range(len(bins))):
        rows = bins[int(name[3:])]
        np.random.seed(seed)  # noqa: NPY002
        places = np.arange(len(rows))
        for c in range(int(labels.max()) + 1):
            mask = labels[rows] == c
            found.append(rows[np.random.choice(places[mask], round(fraction * mask.sum().item()), replace=False)])  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    return np.concatenate(found)


@pytest.mark.parametrize("fraction", [0.05, 0.125, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("n_bins", [1, 10, 12])
def test_draws_are_those_of_the_legacy_generator(fraction, n_bins):
    labels = np.random.default_rng(0).integers(0, 4, 500)
    bins = np.array_split(np.random.default_rng(1).permutation(500), n_bins)
    got = official_sample(bins, labels, fraction, seed=17)
    assert got.tolist() == drawn_by_numpy(bins, labels, fraction, 17).tolist()
    assert got.dtype == np.int64


def test_draws_known_from_numpys_documented_streams():
    # RandomState(0).permutation(10) is 2 8 4 9 1 6 7 3 0 5 in every numpy
    assert official_sample([np.arange(10)], np.zeros(10, int), 0.3, seed=0).tolist() == [2, 8, 4]
    assert official_sample([np.arange(10, 20), np.arange(10)], None, 0.2, seed=0).tolist() == [12, 18, 2, 8]


def test_an_eighth_of_cifar10_is_6200_samples():
    labels = np.tile(np.repeat(np.arange(10), 500), 10)
    bins = np.split(np.arange(50_000), 10)
    rows = official_sample(bins, labels, 0.125, seed=0)
    assert len(rows) == 6200
    assert (np.bincount(labels[rows]) == 620).all()
    # seeded anew for every bin: the same places in each
    assert (rows.reshape(10, 620) == rows[:620] + 5000 * np.arange(10)[:, None]).all()


def test_files_are_listed_by_name():
    assert listing_order(10) == list(range(10))
    assert listing_order(12) == [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert listing_order(10, 1) == [0, 9, 1, 2, 3, 4, 5, 6, 7, 8]  # exp1, exp10, exp2, …


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0}, r"fraction must be in \(0, 1\]"),
        ({"fraction": "all"}, r"fraction must be in \(0, 1\]"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 2**32}, "seed must be a whole number from 0"),
        ({"labels": np.zeros(9, int)}, "labels must have one entry for each row of the bins"),
    ],
)
def test_wrong_draws_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        official_sample([np.arange(10)], **{"labels": np.zeros(10, int), "fraction": 0.5, "seed": 0, **options})


@pytest.fixture(scope="module")
def cifar(real_data: Path) -> tuple[tuple[torch.Tensor, torch.Tensor], np.ndarray]:
    """Double-softmax gradient factors of real CIFAR-10 images by a trained ResNet-20, unequal classes."""
    data = np.load(real_data / "cifar10_ci_2000_500.npz")
    images, labels = data["x_train"], data["y_train"].astype(np.int64)
    rank = np.zeros(len(labels), np.int64)
    for c in range(10):
        rank[labels == c] = np.arange((labels == c).sum())
    some = rank < 200 - 13 * labels
    return embedded(images[some], labels[some], real_data), labels[some]


def embedded(images: np.ndarray, labels: np.ndarray, real_data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    weights = next((real_data.parent / "weights").glob("resnet20*.th"))
    classifier = load_classifier("resnet20_cifar", num_classes=10, weights=weights)
    features, logits = [], []
    with torch.no_grad():
        for start in range(0, len(images), 250):
            batch = torch.stack([classifier.preprocess(image) for image in images[start : start + 250]])
            f, z = classifier.features_and_logits(batch)
            features.append(f)
            logits.append(z)
    return gradient_embedding(torch.cat(logits), torch.cat(features), torch.from_numpy(labels), loss="double_softmax")


def product(factors: tuple[torch.Tensor, torch.Tensor], rows: np.ndarray) -> np.ndarray:
    b, h = (f[torch.from_numpy(rows)].double().numpy() for f in factors)
    return (b[:, :, None] * h[:, None, :]).reshape(len(rows), -1)


def test_bins_of_real_cifar_images(cifar):
    factors, labels = cifar
    same(official_bins(factors, labels), dense_bins(product(factors, np.arange(len(labels))), labels, 10))


def test_single_bins_of_real_images_by_apricot(cifar):
    apricot = pytest.importorskip("apricot")
    factors, labels = cifar
    bins = official_bins(factors, labels)
    for c in (0, 4):
        left = np.flatnonzero(labels == c)
        for k in range(3):
            ours = bins[k][labels[bins[k]] == c]
            s = similarity(product(factors, left))
            theirs = apricot.GraphCutSelection(len(ours), metric="precomputed", alpha=1, optimizer="naive").fit(s)
            assert np.sort(left[theirs.ranking]).tolist() == ours.tolist()
            left = np.setdiff1d(left, ours)


def test_single_bins_of_real_images_by_submodlib(cifar):
    submodlib = pytest.importorskip("submodlib")
    factors, labels = cifar
    bins = official_bins(factors, labels)
    for c in (1, 9):
        left = np.flatnonzero(labels == c)
        for k in range(3):
            ours = bins[k][labels[bins[k]] == c]
            function = submodlib.GraphCutFunction(
                n=len(left), mode="dense", lambdaVal=1, ggsijs=similarity(product(factors, left))
            )
            picks = function.maximize(
                budget=len(ours),
                optimizer="NaiveGreedy",
                stopIfZeroGain=False,
                stopIfNegativeGain=False,
                show_progress=False,
            )
            assert sorted(left[i] for i, _ in picks) == ours.tolist()
            left = np.setdiff1d(left, ours)


@pytest.mark.timeout(1800)
def test_bins_of_all_of_cifar10(real_data: Path):
    """All 50,000 images, some minutes: with the python batches' folder in DQ_FAST_TEST_CIFAR10."""
    if not CIFAR:
        pytest.skip("set DQ_FAST_TEST_CIFAR10 to the folder with CIFAR-10's python batches to run this test (minutes)")
    from dq_fast.data import open_source

    source = open_source(CIFAR)
    labels = source.labels
    images = np.stack([source.read(i) for i in range(len(source))])
    factors = embedded(images, labels, real_data)
    bins = official_bins(factors, labels)
    assert [len(b) for b in bins] == [5000] * 10
    for c in range(10):
        mine = np.flatnonzero(labels == c)
        theirs = dense_bins(product(factors, mine), np.zeros(len(mine)), 10)
        same([b[labels[b] == c] for b in bins], [mine[b] for b in theirs])
