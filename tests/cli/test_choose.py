"""`dq-fast bins` and `sample` as their users see them: runs, bare embeddings, mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dq_fast import SampleQuantizer
from dq_fast.cli import main
from dq_fast.cli.arguments import SAMPLERS as CLI_SAMPLERS
from dq_fast.select import METHODS, SAMPLERS
from dq_fast.select.official import official_bins, official_sample
from tests.cli.test_cli import mistake, result


@pytest.fixture
def rows(tmp_path) -> tuple[Path, np.ndarray, np.ndarray]:
    """x.npy [60, 6] and labels.txt in a folder of their own."""
    rng = np.random.default_rng(4)
    labels = np.array(["cat", "dog", "eel"])[rng.integers(0, 3, 60)]
    x = (rng.normal(size=(60, 6)) + 1).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "labels.txt").write_text("\n".join(labels) + "\n")
    return tmp_path, x, labels


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory) -> Path:
    """A run folder as `dq-fast embed` leaves it."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    shutil.copytree(tiny_store[1], folder, ignore=shutil.ignore_patterns("bins", "sample", "packed.json"))
    return folder


def test_help_names_every_method_and_sampler(capsys):
    with pytest.raises(SystemExit):
        main(["bins", "--help"])
    text = " ".join(capsys.readouterr().out.replace("-\n", "-").split()).replace("- ", "-")
    assert all(name in text for name in METHODS)
    assert tuple(SAMPLERS) == CLI_SAMPLERS


def test_bins_of_a_file_and_a_sample_of_them(rows, capsys):
    folder, x, labels = rows
    facts = result(capsys, "bins", folder / "x.npy", "--labels", folder / "labels.txt", "--bins", 4, "--certify", 10)
    assert facts["file"] == str(folder / "x.bins.npz")
    assert facts["rows"] == 60
    assert facts["certificate"]["holds"]
    expected = SampleQuantizer(n_bins=4).fit(x, labels)
    with np.load(folder / "x.bins.npz", allow_pickle=False) as found:  # readable by numpy alone
        assert found["ranking"].tolist() == expected.ranking_.tolist()
        assert found["class_names"].tolist() == ["cat", "dog", "eel"]
    for suffix in ("json", "npy", "txt"):
        out = folder / f"chosen.{suffix}"
        assert result(capsys, "sample", folder / "x.bins.npz", "--keep", "25%", "--out", out)["kept"] == 15
    drawn = expected.sample(0.25).tolist()
    assert json.loads((folder / "chosen.json").read_text()) == {"rows": drawn, "ids": drawn}
    assert np.load(folder / "chosen.npy").tolist() == drawn
    assert [int(line) for line in (folder / "chosen.txt").read_text().split()] == drawn


def test_bins_are_taken_over_when_nothing_changed_and_never_overwritten(rows, capsys):
    folder, x, _ = rows
    command = ("bins", folder / "x.npy", "--labels", folder / "labels.txt", "--bins", 4)
    assert result(capsys, *command)["taken_over"] is None
    before = (folder / "x.bins.npz").read_bytes()
    assert result(capsys, *command)["taken_over"]
    assert result(capsys, *command, "--certify", 5)["certificate"]["picks"] == 5
    assert "out must not exist yet" in mistake(capsys, *command[:-1], 5)
    np.save(folder / "x.npy", -x)
    assert "out must not exist yet" in mistake(capsys, *command)
    assert (folder / "x.bins.npz").read_bytes() == before
    (folder / "mine.npz").write_bytes(b"precious")
    assert "something else" in mistake(capsys, *command, "--out", folder / "mine.npz")
    assert (folder / "mine.npz").read_bytes() == b"precious"


def test_a_certificate_that_does_not_hold_is_exit_status_1(rows, capsys):
    folder, _, _ = rows
    command = ["bins", str(folder / "x.npy"), "--certify", "50", "--json", "-q"]
    assert main(command) == 0
    with np.load(folder / "x.bins.npz") as found:
        arrays = dict(found)
    first = arrays["ranking"][:2].copy()
    arrays["ranking"][:2] = first[::-1]  # bins with two picks exchanged
    np.savez(folder / "x.bins.npz", **arrays)
    capsys.readouterr()
    assert main([*command[:3], "60", *command[4:]]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert not facts["certificate"]["holds"]
    assert facts["certificate"]["faults"][0]["row"] == first[1]


def test_dry_run_tells_the_plan_and_writes_nothing(rows, capsys):
    folder, _, _ = rows
    plan = result(capsys, "bins", folder / "x.npy", "--dry-run", "--max-memory", "1GiB")["plan"]
    assert plan["max_memory"] == 1 << 30
    assert {"algorithm", "passes", "bytes_read", "seconds", "memory"} <= set(plan)
    assert sorted(p.name for p in folder.iterdir()) == ["labels.txt", "x.npy"]
    assert main(["bins", str(folder / "x.npy"), "--dry-run"]) == 0
    assert "passes over the data" in capsys.readouterr().out


def test_the_plan_is_told_before_the_work(rows, capsys):
    folder, _, _ = rows
    assert main(["bins", str(folder / "x.npy")]) == 0
    assert capsys.readouterr().err.startswith("plan: ")


def test_columns_of_parquet(rows, capsys):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    folder, x, labels = rows
    urls = [f"u{i}" for i in range(60)]
    pd.DataFrame({"rows": list(x), "topic": labels, "url": urls, "site": np.arange(60) % 2}).to_parquet(
        folder / "d.parquet"
    )
    spec = f"{folder / 'd.parquet'}:rows"
    result(capsys, "bins", spec, "--label-column", "topic", "--id-column", "url", "--bins", 3)
    expected = SampleQuantizer(n_bins=3).fit(x, labels, ids=urls)
    out = folder / "chosen.txt"
    result(capsys, "sample", folder / "d.rows.bins.npz", "--keep", 0.2, "--out", out)
    assert out.read_text().split() == expected.sample(0.2, as_ids=True).tolist()
    facts = result(capsys, "bins", spec, "--group-by", "site", "--out", folder / "site.bins.npz")
    assert facts["groups"] == 2
    assert "it has topic, url, site" in mistake(
        capsys, "bins", spec, "--label-column", "colour", "--out", folder / "n.npz"
    )


def test_options_reach_the_quantizer(rows, capsys):
    folder, x, labels = rows
    common = ("--out", folder / "o.npz")
    for options, parameters, groups in (
        (("--similarity", "dot"), {"similarity": "dot"}, None),
        (
            ("--global", "--center", "--lam", "0.5", "--plain-cosine"),
            {"center": True, "lam": 0.5, "shifted": False},
            "all",
        ),
        (
            ("--method", "graph-cut", "--center", "--max-keep", "0.5"),
            {"method": "graph-cut", "center": True, "max_keep": 0.5},
            None,
        ),
        (
            ("--method", "k-center", "--set", "normalised=false"),
            {"method": "k-center", "options": {"normalised": False}},
            None,
        ),
        (("--kmeans", "4", "--seed", "2"), {"seed": 2}, 4),
        (("--algorithm", "lazy", "--preset", "paper", "--bins", "3"), {"n_bins": 3}, None),
    ):
        if "--kmeans" in options:
            pytest.importorskip("sklearn")
        result(capsys, "bins", folder / "x.npy", "--labels", folder / "labels.txt", *options, *common)
        expected = SampleQuantizer(**parameters).fit(x, labels, groups=groups)
        with np.load(folder / "o.npz") as found:
            assert found["ranking"].tolist() == expected.ranking_.tolist()
        (folder / "o.npz").unlink()


def test_rows_come_and_go(rows, capsys):
    folder, x, labels = rows
    for name, part in (("old", slice(0, 45)), ("new", slice(45, 60))):
        np.save(folder / f"{name}.npy", x[part])
        np.save(folder / f"{name}_labels.npy", labels[part])
    bins = folder / "old.bins.npz"
    result(capsys, "bins", folder / "old.npy", "--labels", folder / "old_labels.npy", "--incremental", "--bins", 3)
    before = bins.read_bytes()
    add = ("bins", folder / "new.npy", "--labels", folder / "new_labels.npy", "--add", bins)
    facts = result(capsys, *add, "--refit", "--old", folder / "old.npy", "--out", folder / "whole.npz")
    assert facts["added"] == 15
    with np.load(folder / "whole.npz") as found:
        assert found["ranking"].tolist() == SampleQuantizer(n_bins=3).fit(x, labels).ranking_.tolist()
    assert "old must be given" in mistake(capsys, *add, "--refit")
    assert bins.read_bytes() == before
    assert result(capsys, *add)["rows"] == 60  # appended, in place
    (folder / "gone.txt").write_text("3\n59\n")
    facts = result(capsys, "bins", bins, "--remove", folder / "gone.txt", "--old", folder / "x.npy")
    assert facts["removed"] == 2
    assert facts["rows"] == 58
    kept = json.loads(Path(result(capsys, "sample", bins, "--keep", 1.0)["file"]).read_text())["ids"]
    assert kept == [i for i in range(60) if i not in (3, 59)]
    assert "which it does not have" in mistake(
        capsys, "bins", bins, "--remove", folder / "gone.txt", "--old", folder / "x.npy"
    )


def test_rows_of_other_groups_keep_their_labels(rows, capsys):
    folder, x, labels = rows
    site = np.arange(60) % 2
    for name, part in (("old", slice(0, 45)), ("new", slice(45, 60))):
        np.savez(folder / f"{name}.npz", rows=x[part], topic=labels[part], site=site[part])
    bins = folder / "b.npz"
    old = (f"{folder / 'old.npz'}:rows", "--label-column", "topic", "--incremental", "--bins", 3, "--out", bins)
    add = ("bins", f"{folder / 'new.npz'}:rows", "--add", bins, "--label-column", "topic", "--refit")
    add += ("--old", f"{folder / 'old.npz'}:rows")
    for grouping, groups in ((("--group-by", "site"), site), (("--global",), "all")):
        bins.unlink(missing_ok=True)
        result(capsys, "bins", *old, *grouping)
        result(capsys, *add)  # the column of the same name
        expected = SampleQuantizer(n_bins=3).fit(x, labels, groups=groups)
        with np.load(bins) as found:
            assert found["class_names"].tolist() == ["cat", "dog", "eel"]
            assert found["class_names"][found["labels"]].tolist() == labels.tolist()
        sample = result(capsys, "sample", bins, "--keep", 0.5, "--out", folder / "s.json")
        assert json.loads(Path(sample["file"]).read_text())["rows"] == expected.sample(0.5).tolist()
    assert "group_by must go with bins that were made with it" in mistake(capsys, *add, "--group-by", "site")
    # groups from a file: those of the new rows have to be told
    bins.unlink()
    for name, part in (("old", site[:45]), ("new", site[45:])):
        np.save(folder / f"{name}_site.npy", part)
    result(capsys, "bins", *old, "--group-by", folder / "old_site.npy")
    before = bins.read_bytes()
    assert "give --group-by with the groups of the new rows" in mistake(capsys, *add)
    assert "labels must be given, for the rows so far have classes" in mistake(
        capsys, *add[:4], *add[6:], "--group-by", folder / "new_site.npy"
    )
    assert bins.read_bytes() == before
    result(capsys, *add, "--group-by", folder / "new_site.npy")
    with np.load(bins) as found:
        expected = SampleQuantizer(n_bins=3).fit(x, labels, groups=site)
        assert found["ranking"].tolist() == expected.ranking_.tolist()
        assert found["class_names"][found["labels"]].tolist() == labels.tolist()


def test_official_files_of_embeddings(rows, capsys):
    folder, x, labels = rows
    official = ("--official-name", "TOY", "--out", folder / "selected")
    command = ("bins", folder / "x.npy", "--labels", folder / "labels.txt", "--bins", 3, "--compat", "official")
    facts = result(capsys, *command, *official)
    expected = official_bins(x, labels, 3)
    for k, path in enumerate(facts["files"]):
        assert Path(path).name == f"select_indices_TOY_exp{k}.npy"
        assert np.load(path).tolist() == expected[k].tolist()
    facts = result(capsys, "sample", folder / "x.official.bins.npz", "--keep", 0.25, "--seed", 3, *official)
    assert Path(facts["file"]).name == "select_indices_TOY_0.25.npy"
    assert np.load(facts["file"]).tolist() == official_sample(expected, labels, 0.25, seed=3).tolist()
    assert "--compat official" in mistake(capsys, *command[:-2], *official)


def test_bins_and_samples_of_a_run(run, capsys, tmp_path):
    embedding = np.load(run / "embed" / "features.npy"), np.load(run / "embed" / "labels.npy")
    plan = result(capsys, "bins", run, "--bins", 3, "--dry-run")["plan"]
    assert plan["groups_at_once"] >= 1
    assert not (run / "bins").exists()
    facts = result(capsys, "bins", run, "--bins", 3, "--certify", 10, "--embedding", "features")
    assert facts["certificate"]["holds"]
    expected = SampleQuantizer(n_bins=3).fit(*embedding)
    few = result(capsys, "sample", run, "--keep", 0.2, "--nested", "--out", tmp_path / "few.npy")
    assert few["kept"] == 18
    result(capsys, "sample", run, "--keep", 0.5, "--nested", "--out", tmp_path / "more.npy")
    assert set(np.load(tmp_path / "few.npy")) <= set(np.load(tmp_path / "more.npy"))
    for sampler in SAMPLERS:
        options = ("--sampler", sampler, "--keep", 0.3, "--out", tmp_path / f"{sampler}.npy")
        assert result(capsys, "sample", run, *options)["kept"] == 27
    assert np.load(tmp_path / "uniform.npy").tolist() == expected.sample(0.3).tolist()
    assert np.load(tmp_path / "first.npy").tolist() == expected.sample(0.3, sampler="first").tolist()
    weighted = ("--keep", 0.2, "--class-weights", "0=5", "--floor", 2, "--out", tmp_path / "w.npy")
    result(capsys, "sample", run, *weighted)
    counts = np.bincount(embedding[1][np.load(tmp_path / "w.npy")])
    assert counts[0] > 2 * counts[1]
    assert counts.min() >= 2
    assert "class_weights must name classes" in mistake(capsys, "sample", run, "--class-weights", "whale=2")
    assert json.loads((run / "sample" / "sample.json").read_text())["rows"]  # the mistake left the sample of before


def test_other_methods_of_a_run(run, capsys, tmp_path):
    np.save(tmp_path / "site.npy", np.arange(90) % 2)
    for method in ("entropy", "el2n", "herding"):
        result(capsys, "bins", run, "--method", method, "--group-by", tmp_path / "site.npy")
        assert result(capsys, "sample", run, "--keep", 0.2, "--out", tmp_path / "s.npy")["kept"] == 18
        assert np.bincount(np.load(tmp_path / "s.npy") % 2).tolist() == [9, 9]
    before = (run / "bins" / "bins.npz").read_bytes()
    assert "max_keep must be given" in mistake(capsys, "bins", run, "--method", "glister")
    assert "options must be those of method" in mistake(capsys, "bins", run, "--method", "herding", "--set", "colour=1")
    assert (run / "bins" / "bins.npz").read_bytes() == before  # mistakes leave what is there
    result(capsys, "bins", run, "--method", "craig", "--max-keep", 0.5)
    result(capsys, "sample", run, "--keep", 0.3)
    assert len(json.loads((run / "sample" / "sample.json").read_text())["weights"]) == 27


def test_official_files_of_a_run(run, capsys, tmp_path):
    labels = np.load(run / "embed" / "labels.npy")
    official = ("--official-name", "CIFAR10", "--out", tmp_path)
    facts = result(capsys, "bins", run, "--bins", 3, "--compat", "official", *official)
    bins = [np.load(path) for path in facts["files"]]
    facts = result(capsys, "sample", run, "--keep", 0.5, "--seed", 1, *official)
    assert np.load(facts["file"]).tolist() == official_sample(bins, labels, 0.5, seed=1).tolist()
    rows = json.loads((run / "sample" / "sample.json").read_text())["rows"]
    assert rows == sorted(np.load(facts["file"]).tolist())


def test_compress_takes_the_same_options(tiny, tmp_path, capsys):
    quick = ("--model", "resnet20_cifar", "--train-epochs", "0", "--keep", "0.3")
    facts = result(capsys, "compress", tiny, tmp_path / "out", *quick, "--dry-run", "--max-memory", "1GiB")
    assert facts["images"] == 90
    assert facts["kept"] == 27
    assert facts["plan"]["max_memory"] == 1 << 30
    assert not list(tmp_path.iterdir())
    glister = ("--method", "glister", "--embedding", "features")
    assert result(capsys, "compress", tiny, tmp_path / "out", *quick, *glister)["images"] == 27
    certified = result(
        capsys, "compress", tiny, tmp_path / "two", *quick, "--certify", 5, "--sampler", "early", "--preset", "paper"
    )
    assert certified["certificate"]["holds"]
    for wrong, words in (
        (("--group-by", tmp_path / "no.npy"), "group_by must be a file"),
        (("--max-memory", "much"), "max_memory must be"),
        (("--method", "herding", "--certify", "3"), "certify must be 0"),
        (("--method", "best"), "method must be one of"),
        (("--preset", "best"), "preset must be one of"),
    ):
        assert words in mistake(capsys, "compress", tiny, tmp_path / "bad", *quick, *wrong)
        assert not list(tmp_path.glob("bad*"))


def test_mistakes_are_one_line_and_leave_nothing(rows, capsys):
    folder, _, _ = rows
    x = folder / "x.npy"
    np.savez(folder / "two.npz", a=np.ones((3, 2)), b=np.ones((3, 2)))
    np.save(folder / "short.npy", np.zeros(3))
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    there = sorted(p.name for p in folder.iterdir())
    for arguments, words in (
        ((folder / "no.npy",), "there is no file"),
        ((folder / "two.npz",), "it holds 2 arrays: a, b"),
        ((folder / "broken.npz",), "broken"),
        ((folder / "objects.npy",), "never unpickled"),
        ((x, "--labels", folder / "short.npy"), "labels must have one entry a row"),
        ((x, "--labels", x), "labels must be one value a row"),
        ((x, "--labels", folder / "labels.txt", "--label-column", "a"), "--labels must be given without"),
        ((x, "--method", "best"), "method must be one of"),
        ((x, "--method", "herding", "--algorithm", "lazy"), "algorithm must go with method 'dq'"),
        ((x, "--method", "herding", "--certify", "3"), "certify must be 0 for method 'herding'"),
        ((x, "--method", "entropy"), "logits must be given"),
        ((x, "--max-memory", "a lot"), "max_memory must be a positive number"),
        ((x, "--max-memory", "1KiB"), "max_memory must be at least"),
        ((x, "--kmeans", "2", "--group-by", folder / "labels.txt"), "groups must be made in one way"),
        ((x, "--lam", "-1"), "lam must be"),
        ((x, "--add", folder / "no.npz"), "there is no file"),
        ((x, "--add", folder / "two.npz"), "two.npz must be a bins file"),
        ((x, "--set", "a"), "must be NAME=VALUE"),
        ((x, "--preset", "best"), "preset must be one of"),
    ):
        assert words in mistake(capsys, "bins", *arguments), arguments
        assert sorted(p.name for p in folder.iterdir()) == there
    assert "must be a run folder or a bins file" in mistake(capsys, "sample", x)
    result(capsys, "bins", x)
    for arguments, words in (
        (("--keep", "0"), "keep must be a fraction"),
        (("--out", folder / "rows.csv"), "out must be a file of one of the kinds"),
        (("--sampler", "early", "--nested"), "rates do not change with keep"),
        (("--bin-weights", "1,2"), "bin_weights must have one number a bin"),
        (("--sampler", "difficulty"), "needs the logits"),
    ):
        assert words in mistake(capsys, "sample", folder / "x.bins.npz", *arguments), arguments
    assert not list(folder.glob("*.sample.json"))
