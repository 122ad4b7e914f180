"""SampleQuantizer by scikit-learn's conventions: its own checks, clone, pipelines, pandas, and what goes in and out."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from dq_fast import SampleQuantizer
from dq_fast.errors import InputError
from dq_fast.select import METHODS, PRESETS
from dq_fast.select.quantizer.given import Beside, Given

sklearn = pytest.importorskip("sklearn")
pd = pytest.importorskip("pandas")

# Checks of scikit-learn that do not apply, and why.
NOT_APPLYING = {
    "check_fit_score_takes_y": "the second argument of fit is called labels, not y; scikit-learn passes it by position",
}


def _estimators():
    yield SampleQuantizer(n_bins=3)
    yield SampleQuantizer(n_bins=2, center=True, method="lazy", certify=2)
    yield SampleQuantizer(method="herding")


def _checks():
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that we do not inherit from BaseEstimator, which is the point
        for estimator in _estimators():
            for _, check in checks.estimator_checks_generator(estimator):
                name = getattr(check, "func", check).__name__
                marks = [pytest.mark.skip(reason=NOT_APPLYING[name])] if name in NOT_APPLYING else []
                yield pytest.param(estimator, check, id=f"{estimator.method}-{estimator.n_bins}-{name}", marks=marks)


@pytest.mark.parametrize(("estimator", "check"), list(_checks()))
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(estimator, check):
    check(sklearn.base.clone(estimator))


@pytest.mark.parametrize("name", ["check_dataframe_column_names_consistency", "check_n_features_in_after_fitting"])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_of_its_own_estimators(name):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    getattr(checks, name)("SampleQuantizer", SampleQuantizer(n_bins=2))


@pytest.fixture
def data():
    rng = np.random.default_rng(7)
    labels = np.array(["cat", "dog", "eel"])[rng.integers(0, 3, 60)]
    return rng.normal(size=(60, 5)) + 1, labels


def test_works_without_scikit_learn(data):
    code = """
import sys
sys.modules["sklearn"] = None
sys.modules["pandas"] = None
import numpy as np, dq_fast
sq = dq_fast.SampleQuantizer(n_bins=2).fit(np.random.default_rng(0).normal(size=(9, 3)))
assert sq.get_params()["n_bins"] == 2 and repr(sq) == "SampleQuantizer(n_bins=2)"
try:
    sq.fit(np.ones((9, 3)), groups=3)
except ValueError as error:
    assert "dq_fast[sklearn]" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_clone_and_parameters():
    made = SampleQuantizer(n_bins=4, method="herding", max_keep=0.5, options=None, certify=0)
    again = sklearn.base.clone(made)
    assert again is not made
    assert again.get_params() == made.get_params()
    assert made.set_params(n_bins=7, seed=3) is made
    assert made.n_bins == 7
    with pytest.raises(InputError, match=r"parameter must be one of n_bins, .*got 'bins'"):
        made.set_params(seed=5, bins=3)
    assert made.seed == 3
    assert eval(repr(made)).get_params() == made.get_params()
    assert repr(SampleQuantizer(True)) == "SampleQuantizer(n_bins=True)"  # not the default 1, though equal to it


def test_in_a_pipeline_of_scikit_learn(data):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels = data
    steps = make_pipeline(StandardScaler(), SampleQuantizer(n_bins=3)).fit(x, labels)
    alone = SampleQuantizer(n_bins=3).fit(StandardScaler().fit_transform(x), labels)
    assert steps[-1].ranking_.tolist() == alone.ranking_.tolist()


def test_fitted_state_survives_pickle(data):
    x, labels = data
    sq = SampleQuantizer(n_bins=3).fit(x, labels)
    again = pickle.loads(pickle.dumps(sq))
    assert again.sample(0.5, seed=2).tolist() == sq.sample(0.5, seed=2).tolist()


@pytest.mark.parametrize(
    "kind",
    [
        lambda y: y.tolist(),
        tuple,
        pd.Series,
        pd.Categorical,
        lambda y: pd.Series(y).astype("category"),
        lambda y: pd.Series(y).astype("string"),
        lambda y: y.astype(object),
        lambda y: np.unique(y, return_inverse=True)[1],
        lambda y: torch.from_numpy(np.unique(y, return_inverse=True)[1]),
        lambda y: np.unique(y, return_inverse=True)[1].astype(float),
        lambda y: np.array(["2020-01-01", "2021-01-01", "2022-01-01"], "datetime64[D]")[
            np.unique(y, return_inverse=True)[1]
        ],
    ],
)
def test_labels_of_any_kind_give_the_same_bins(data, kind):
    x, labels = data
    expected = SampleQuantizer(n_bins=3).fit(x, labels)
    found = SampleQuantizer(n_bins=3).fit(x, kind(labels))
    assert found.ranking_.tolist() == expected.ranking_.tolist()
    assert found.groups_.tolist() == expected.groups_.tolist()
    assert len(found.classes_) == 3
    assert found.sample(0.4, labels=kind(labels)).tolist() == expected.sample(0.4).tolist()


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, float("nan")])
def test_missing_labels_are_named(data, missing):
    x, labels = data
    given = labels.astype(object)
    given[[4, 9]] = missing
    for labels in (given, given.tolist(), pd.Series(given)):
        with pytest.raises(InputError, match=r"labels must be given for every row, got none for 2 of 60 .* row 4"):
            SampleQuantizer().fit(x, labels)


def test_labels_that_cannot_be_sorted_are_named(data):
    x, _ = data
    with pytest.raises(InputError, match="labels must be of one kind that can be sorted, got int and str"):
        SampleQuantizer().fit(x, np.array(["a", 1] * 30, dtype=object))


def test_data_frames_keep_names_and_ids(data):
    x, labels = data
    names = [f"img{i:03}" for i in range(60)]
    frame = pd.DataFrame(x, columns=list("abcde"), index=names)
    sq = SampleQuantizer(n_bins=3).fit(frame, pd.Series(labels, index=names))
    assert sq.feature_names_in_.tolist() == list("abcde")
    assert sq.n_features_in_ == 5
    rows = sq.sample(0.5, seed=1)
    assert sq.sample(0.5, seed=1, as_ids=True).tolist() == [names[i] for i in rows]
    assert sq.ranking_.tolist() == SampleQuantizer(n_bins=3).fit(x, labels).ranking_.tolist()
    sq.fit(x)  # no frame: no names left of the one before
    assert not hasattr(sq, "feature_names_in_")
    assert sq.sample(0.5, as_ids=True).tolist() == sq.sample(0.5).tolist()
    with pytest.raises(InputError, match="labels must have the index of the embedding"):
        sq.fit(frame, pd.Series(labels, index=names[::-1]))
    own = SampleQuantizer(n_bins=3).fit(x, ids=names)
    assert own.sample(0.5, as_ids=True).tolist() == [names[i] for i in own.sample(0.5)]


def test_lists_of_rows_and_read_only_rows(data):
    x, labels = data
    expected = SampleQuantizer(n_bins=3).fit(x, labels).ranking_.tolist()
    assert SampleQuantizer(n_bins=3).fit(x.tolist(), labels).ranking_.tolist() == expected
    x.setflags(write=False)
    labels.setflags(write=False)
    assert SampleQuantizer(n_bins=3).fit(x, labels).ranking_.tolist() == expected
    assert SampleQuantizer(n_bins=3).fit(np.asfortranarray(x), labels).ranking_.tolist() == expected


@pytest.mark.parametrize("save", ["npy", "npz", "safetensors", "parquet"])
def test_files_are_rows_too(data, save, tmp_path):
    x, labels = data
    path = tmp_path / f"x.{save}"
    spec = str(path)
    if save == "npy":
        np.save(path, x)
    elif save == "npz":
        np.savez(path, rows=x, other=labels)
        spec += ":rows"
    elif save == "safetensors":
        from safetensors.numpy import save_file

        save_file({"rows": x, "more": x[:1]}, path)
        spec += ":rows"
    else:
        pytest.importorskip("pyarrow")
        pd.DataFrame({"rows": list(x), "label": labels}).to_parquet(path)
    expected = SampleQuantizer(n_bins=3).fit(x, labels)
    found = SampleQuantizer(n_bins=3).fit(spec, labels)
    assert found.ranking_.tolist() == expected.ranking_.tolist()


def test_groups_other_than_classes(data):
    x, labels = data
    site = np.arange(60) % 4
    by_site = SampleQuantizer(n_bins=3).fit(x, labels, groups=site)
    assert by_site.ranking_.tolist() == SampleQuantizer(n_bins=3).fit(x, site).ranking_.tolist()
    assert by_site.group_names_.tolist() == [0, 1, 2, 3]
    assert by_site.classes_.tolist() == ["cat", "dog", "eel"]
    rows = by_site.sample(0.5)  # draws keep the classes' shares
    for name in by_site.classes_:
        assert abs((labels[rows] == name).sum() - (labels == name).sum() / 2) < 2
    whole = SampleQuantizer(n_bins=3).fit(x, labels, groups="all")
    assert whole.ranking_.tolist() == SampleQuantizer(n_bins=3).fit(x).ranking_.tolist()
    assert whole.classes_.tolist() == ["cat", "dog", "eel"]
    for wrong, words in (("some", "'all', got 'some'"), ([1, 2], "groups must have one entry a row"), (61, "k must")):
        with pytest.raises(InputError, match=words):
            SampleQuantizer().fit(x, labels, groups=wrong)


def test_kmeans_groups_find_clusters():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    x = 5 * np.eye(4)[truth] + 0.3 * rng.normal(size=(300, 4))
    x *= rng.uniform(0.1, 10, (300, 1))  # only directions count
    sq = SampleQuantizer(n_bins=3, seed=1).fit(x, groups=4)
    assert len(np.unique(np.stack([truth, sq.groups_]), axis=1).T) == 4
    again = SampleQuantizer(n_bins=3, seed=1).fit(x, groups=4)
    assert again.ranking_.tolist() == sq.ranking_.tolist()
    with pytest.raises(InputError, match="features must be given"):
        SampleQuantizer().fit((x, x), groups=4)
    assert (SampleQuantizer(n_bins=3, seed=1).fit((x, x), groups=4, features=x).groups_ == sq.groups_).all()


def test_plan_tells_and_is_what_fit_does(data):
    x, labels = data
    sq = SampleQuantizer(n_bins=3, max_memory="1GiB")
    plan = sq.plan(x, labels)
    assert "passes" in str(plan)
    assert plan.as_dict()["max_memory"] == 1 << 30
    sq.fit(x, labels, plan=plan)
    assert sq.report_["passes"] > 0
    with pytest.raises(InputError, match="max_memory must be at least"):
        SampleQuantizer(max_memory=1000).plan(x, labels)
    told = SampleQuantizer(method="herding", max_keep=0.5).plan(x, labels)
    assert told.ranked == sum(-(-int((labels == name).sum()) // 2) for name in set(labels))
    assert "Welling" in str(told)


def test_certificate_of_a_fit(data):
    x, labels = data
    sq = SampleQuantizer(n_bins=3, certify=20).fit(x, labels)
    assert len(sq.certificate_.picks) == 20
    assert sq.certificate_.holds
    later = SampleQuantizer(n_bins=3).fit(x, labels)
    assert later.certificate_ is None
    assert later.certificate(x, 20).picks == sq.certificate_.picks
    later.ranking_ = later.ranking_[::-1].copy()
    later.bin_of_ = 2 - later.bin_of_
    assert not later.certificate(x, 20).holds


@pytest.mark.parametrize("center", [False, True])
def test_raw_dot_products(data, center):
    x, _ = data
    sq = SampleQuantizer(n_bins=1, similarity="dot", center=center, certify=9).fit(x)
    assert sq.certificate_.holds
    s = (x - center * x.mean(0)) @ (x - center * x.mean(0)).T
    left, picked = list(range(60)), []
    while left:
        gains = np.array([s[i].sum() - 2 * s[i, picked].sum() for i in left])
        picked.append(left.pop(int(np.argmax(gains > gains.max() - 1e-9))))  # ties, the lowest row wins
    assert sq.ranking_.tolist() == picked


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_by_its_name(data, name):
    x, labels = data
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(60, 3))
    sq = SampleQuantizer(method=name, max_keep=0.5).fit(x, labels, features=x, logits=logits)
    assert len(sq.bins_) == 1
    ranked = sq.ranking_
    assert len(set(ranked.tolist())) == len(ranked) >= 30
    assert (sq.bin_of_[ranked] == 0).all()
    assert (sq.bin_of_ == -1).sum() == 60 - len(ranked)
    assert np.isnan(sq.gains_).sum() == 60 - len(ranked)
    if sq.weights_ is not None:
        assert (sq.weights_[sq.bin_of_ < 0] == 0).all()
    rows = sq.sample(0.5)
    assert len(rows) == 30
    assert set(rows) <= set(ranked)
    with pytest.raises(InputError, match=r"keep must be at most max_keep, 0\.5, got 0\.6"):
        sq.sample(0.6)
    if METHODS[name].nested:
        few = sq.sample(0.2)
        for g in range(3):  # the first picks of each class
            first = [i for i in ranked if sq.groups_[i] == g][: int((sq.groups_[few] == g).sum())]
            assert set(first) == {i for i in few if sq.groups_[i] == g}
    else:
        with pytest.raises(InputError, match=r"keep must be max_keep, 0\.5"):
            sq.sample(0.2)


def test_methods_of_one_group_choose_over_all_classes(data):
    x, labels = data
    sq = SampleQuantizer(method="graph-cut", max_keep=0.25).fit(x, labels, groups="all")
    assert sq.sample(0.25).tolist() == sorted(sq.ranking_.tolist())


def test_graph_cut_once_takes_the_quantizers_parameters(data):
    x, labels = data
    for parameters in ({"center": True}, {"lam": 0.5}, {"shifted": False}):
        once = SampleQuantizer(method="graph-cut", **parameters).fit(x, labels)
        assert once.ranking_.tolist() == SampleQuantizer(n_bins=1, **parameters).fit(x, labels).ranking_.tolist()
        with pytest.raises(InputError, match=f"{next(iter(parameters))} must be .* for method 'herding'"):
            SampleQuantizer(method="herding", **parameters).fit(x, labels)


def test_logits_belong_to_classes_by_number_or_order():
    rng = np.random.default_rng(2)
    x, logits = rng.normal(size=(20, 4)), rng.normal(size=(20, 5))
    numbers = rng.permutation(np.repeat([1, 2, 4], [7, 7, 6]))  # classes 0 and 3 have no rows
    assert Given.of(x, numbers, Beside(logits=logits)).labels.tolist() == numbers.tolist()
    assert Given.of(x, numbers).labels.tolist() == (numbers - 1 - (numbers == 4)).tolist()
    names = np.array(["", "a", "b", "", "c"])[numbers]
    assert Given.of(x, names, Beside(logits=logits[:, :3])).labels.tolist() == (numbers - 1 - (numbers == 4)).tolist()
    with pytest.raises(InputError, match=r"logits must have a column for each class.*5 columns and 3 classes"):
        Given.of(x, names, Beside(logits=logits))


def test_official_bins_and_draws(data):
    from dq_fast.select.official import official_bins, official_sample

    x, labels = data
    sq = SampleQuantizer(n_bins=4, compat="official").fit(x, labels)
    expected = official_bins(x, labels, 4)
    assert [b.tolist() for b in sq.bins_] == [b.tolist() for b in expected]
    assert sq.sample(0.5, seed=3).tolist() == official_sample(expected, labels, 0.5, seed=3).tolist()
    again = SampleQuantizer(n_bins=4, compat="official").restore(sq.ranking_, sq.bin_of_, sq.gains_, sq.groups_)
    assert [b.tolist() for b in again.bins_] == [b.tolist() for b in expected]
    with pytest.raises(InputError, match="nested must not be given"):
        sq.sample(0.5, nested=True)


def test_rows_come_and_go(data):
    x, labels = data
    whole = SampleQuantizer(n_bins=3).fit(x, labels)
    sq = SampleQuantizer(n_bins=3).fit(x[:45], labels[:45])
    change = sq.add(x[45:], labels[45:], mode="refit", old=x[:45])
    assert change.rows.tolist() == list(range(45, 60))
    assert sq.ranking_.tolist() == whole.ranking_.tolist()
    assert sq.classes_.tolist() == whole.classes_.tolist()
    assert sq.sample(0.5).tolist() == whole.sample(0.5).tolist()
    sums = SampleQuantizer(n_bins=3, incremental=True).fit(x[:45], labels[:45], ids=[f"id{i}" for i in range(45)])
    sums.add(x[45:], labels[45:], [f"id{i}" for i in range(45, 60)])
    assert sorted(sums.ranking_.tolist()) == list(range(60))
    assert sums.bin_of_[:45].tolist() == SampleQuantizer(n_bins=3).fit(x[:45], labels[:45]).bin_of_.tolist()
    assert sums.ids_[50] == "id50"
    sums.remove(["id3", "id59"], embedding=x[[3, 59]])
    assert len(sums.ids_) == 58
    assert "id3" not in sums.ids_
    sums.refit(np.delete(x, [3, 59], 0))
    fresh = SampleQuantizer(n_bins=3).fit(np.delete(x, [3, 59], 0), np.delete(labels, [3, 59]))
    assert sums.ranking_.tolist() == fresh.ranking_.tolist()
    with pytest.raises(InputError, match="this paper's bins, got method 'herding'"):
        SampleQuantizer(method="herding").fit(x).add(x)


@pytest.mark.parametrize("classes", ["text", "numbers", "restored"])
@pytest.mark.parametrize("grouping", ["column", "all"])
def test_rows_that_come_and_go_keep_their_classes_within_other_groups(data, classes, grouping):
    x, labels = data
    labels = np.where(np.arange(60) % 17 < 15, labels, "duck")  # a class that comes, in the middle
    labels[:45][labels[:45] == "duck"] = "eel"
    if classes != "text":
        labels = np.searchsorted(["cat", "dog", "duck", "eel"], labels)
    site = np.array(["x", "y", "z"])[np.arange(60) % 3]
    groups = site if grouping == "column" else "all"
    whole = SampleQuantizer(n_bins=3).fit(x, labels, groups=groups)
    part = site[:45] if grouping == "column" else "all"
    sq = SampleQuantizer(n_bins=3, incremental=True).fit(x[:45], labels[:45], groups=part)
    if classes == "restored":  # as of a run: the labels are numbers of classes that are named elsewhere
        sq = SampleQuantizer(n_bins=3).restore(
            sq.ranking_, sq.bin_of_, sq.gains_, sq.groups_, group_names=sq.group_names_, labels=labels[:45]
        )
    new = {"groups": site[45:]} if grouping == "column" else {}
    before = sq.labels_.tolist()
    with pytest.raises(InputError, match="labels must be given"):
        sq.add(x[45:], mode="refit", old=x[:45], **new)
    with pytest.raises(InputError, match="labels must be of one kind"):
        sq.add(x[45:], np.arange(15) if classes == "text" else ["a"] * 15, mode="refit", old=x[:45], **new)
    if new:
        with pytest.raises(InputError, match="groups must be given beside labels"):
            sq.add(x[45:], labels[45:], mode="refit", old=x[:45])
    assert sq.labels_.tolist() == before
    assert len(sq.ids_) == 45
    sq.add(x[45:], labels[45:], mode="refit", old=x[:45], **new)
    named = sq.labels_ if classes == "restored" else sq.classes_[sq.labels_]
    assert named.tolist() == labels.tolist()
    assert sq.sample(0.5, seed=1).tolist() == whole.sample(0.5, seed=1).tolist()  # balanced by class
    gone = [*np.flatnonzero(labels == labels[0]).tolist(), 59]
    sq.remove(rows=gone, mode="refit", old=x)
    fresh = SampleQuantizer(n_bins=3).fit(
        np.delete(x, gone, 0), np.delete(labels, gone), groups=np.delete(site, gone) if new else "all"
    )
    assert sq.ranking_.tolist() == fresh.ranking_.tolist()
    if classes == "restored":
        assert sq.labels_.tolist() == np.delete(labels, gone).tolist()
    else:
        assert sq.classes_.tolist() == fresh.classes_.tolist()
        assert sq.labels_.tolist() == fresh.labels_.tolist()


def test_presets_are_parameters():
    assert SampleQuantizer.preset("paper").get_params() == SampleQuantizer().get_params()
    assert SampleQuantizer.preset("paper", n_bins=3).n_bins == 3
    for name in PRESETS:
        SampleQuantizer.preset(name).fit(np.random.default_rng(0).normal(size=(12, 3)))
    with pytest.raises(InputError, match=r"preset must be one of paper.*got 'best'"):
        SampleQuantizer.preset("best")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"lam": -1}, "lam must be"),
        ({"certify": -1}, "certify must be a whole number"),
        ({"seed": "a"}, "seed must be a whole number"),
        ({"compat": "old"}, "compat must be None or 'official', got 'old'"),
        ({"similarity": "l2"}, "similarity must be one of"),
        ({"sampler": "best"}, "sampler must be one of"),
        ({"max_keep": 0}, r"max_keep must be a fraction in \(0, 1\]"),
        ({"max_keep": 0.5}, "max_keep must be 1 for bins"),
        ({"method": "herding", "certify": 3}, "certify must be 0 for method 'herding', got 3"),
        ({"method": "herding", "options": {"colour": 1}}, "options must be those of method 'herding'"),
        ({"options": {"a": 1}}, "options must be None for this paper's bins"),
        ({"compat": "official", "center": True}, "center must be False with compat 'official', got True"),
        ({"max_memory": "2 elephants"}, "max_memory must be"),
    ],
)
def test_parameters_out_of_range_are_named(parameters, words, data):
    x, labels = data
    with pytest.raises(InputError, match=words):
        SampleQuantizer(**parameters).fit(x, labels)


def test_method_needs_are_named(data):
    x, labels = data
    with pytest.raises(InputError, match="logits must be given for method 'entropy'"):
        SampleQuantizer(method="entropy").fit(x, labels)
