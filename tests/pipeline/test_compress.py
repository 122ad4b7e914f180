"""The main job from end to end on a tiny source: what is kept, what is recorded, and going on after a kill."""

from __future__ import annotations

import hashlib
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import dq_fast as dq
from dq_fast.cli import main
from dq_fast.errors import InputError
from dq_fast.patches import kept_count, patch_grid
from tests.pipeline.killing import run_killing

QUICK = {"train_epochs": 1, "model": "resnet20_cifar", "n_bins": 3, "keep": 0.5}


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its bytes."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def store(tiny_store):
    return dq.open(tiny_store[0])


@pytest.fixture
def work(tiny_store, tmp_path) -> Path:
    """A copy of the run folder that `store` was packed from."""
    shutil.copytree(tiny_store[1], tmp_path / "work")
    return tmp_path / "work"


def test_store_holds_the_drawn_images_and_nothing_else(tiny, store):
    source = dq.open_source(tiny)
    assert len(store) == 45
    assert store.class_names == source.class_names
    place = {id: i for i, id in enumerate(source.ids)}
    grid = patch_grid(16, 16, 4)
    count = kept_count(grid[0] * grid[1], 0.2)
    for i, id in enumerate(store.ids):
        original = source.read(place[id])
        assert store.labels[i] == source.labels[place[id]]
        patches, positions = store.patches(i)
        assert len(positions) == count
        for patch, position in zip(patches, positions, strict=True):
            row, col = divmod(int(position), grid[1])
            assert (patch == original[row * 4 : row * 4 + 4, col * 4 : col * 4 + 4]).all()
    assert np.bincount(store.labels).tolist() == [15, 15, 15]


def test_manifest_tells_how_the_store_was_made(tiny, store):
    manifest = store.manifest
    assert manifest["parameters"]["keep"] == 0.5
    assert manifest["parameters"]["n_bins"] == 3
    assert manifest["parameters"]["model"] == "resnet20_cifar"
    assert manifest["source"]["fingerprint"] == dq.open_source(tiny).fingerprint()
    assert manifest["counts"]["source_images"] == 90
    assert manifest["bytes"]["before"] == 90 * 16 * 16 * 3
    assert store.verify() == []


def test_same_seed_same_bytes_other_seed_other_samples(tiny, store, tmp_path):
    again = dq.compress(tiny, tmp_path / "again", **QUICK)
    assert tree(again.path) == tree(store.path)
    other = dq.compress(tiny, tmp_path / "other", **QUICK, seed=1)
    assert sorted(other.ids) != sorted(store.ids)


def test_stages_one_by_one_give_the_same_store(tiny, store, tmp_path):
    from dq_fast.cli import main

    run = str(tmp_path / "run")
    assert main(["embed", str(tiny), run, "--model", "resnet20_cifar", "--train-epochs", "1", "-q"]) == 0
    assert main(["bins", run, "--bins", "3", "-q"]) == 0
    assert main(["sample", run, "--keep", "0.5", "-q"]) == 0
    assert main(["pack", run, str(tmp_path / "out"), "-q"]) == 0
    assert tree(tmp_path / "out") == tree(store.path)
    # another ratio from the same bins, without embedding again
    assert main(["sample", run, "--keep", "0.2", "-q"]) == 0
    assert main(["pack", run, str(tmp_path / "smaller"), "--drop", "0.5", "-q"]) == 0
    assert len(dq.open(tmp_path / "smaller")) == 18


def test_other_scores_and_ratios_of_classes(store, work, tmp_path):
    def packed(name, *options):
        assert main(["pack", str(work), str(tmp_path / name), *options]) == 0
        return dq.open(tmp_path / name)

    random = packed("random", "--score", "random", "--drop-classes", "1=0.5, 2=0")
    assert [len(random.patches(i)[1]) for i in range(45)] == [{0: 12, 1: 8, 2: 16}[int(k)] for k in random.labels]
    assert random.manifest["parameters"]["drop_classes"] == {"1": 0.5, "2": 0.0}
    again = packed("again", "--score", "random", "--drop-classes", "1=0.5, 2=0", "--batch-size", "7")
    assert tree(again.path) == tree(random.path)  # chance hangs on ids, not on batches
    energy = packed("energy", "--score", "energy")
    kept = [[tuple(s.patches(i)[1]) for i in range(45)] for s in (store, energy)]
    assert kept[0] != kept[1]
    assert {len(places) for places in kept[1]} == {12}


def test_drop_nothing_keeps_whole_images(tiny, work, tmp_path):
    store = dq.compress(tiny, tmp_path / "whole", **{**QUICK, "keep": 0.1}, drop=0.0, work=work, resume=True)
    source = dq.open_source(tiny)
    place = {id: i for i, id in enumerate(source.ids)}
    for i, id in enumerate(store.ids):
        assert (store[i][0] == source.read(place[id])).all()


def test_resume_of_a_finished_run_changes_nothing_and_other_parameters_are_refused(tiny, store, work):
    before = tree(store.path)
    again = dq.compress(tiny, store.path, **QUICK, work=work, resume=True)
    assert tree(again.path) == before
    with pytest.raises(InputError, match="exists and is not what these parameters give"):
        dq.compress(tiny, store.path, **{**QUICK, "keep": 0.4}, work=work, resume=True)
    assert tree(store.path) == before
    # the refused attempt left the run folder usable
    dq.compress(tiny, store.path, **QUICK, work=work, resume=True)


def test_existing_folders_are_not_touched(tiny, tmp_path):
    out = tmp_path / "precious"
    out.mkdir()
    (out / "file").write_text("keep me")
    for resume in (False, True):
        with pytest.raises(InputError, match="exists"):
            dq.compress(tiny, out, **QUICK, resume=resume)
    assert (out / "file").read_text() == "keep me"
    work = tmp_path / "new.work"
    work.mkdir()
    (work / "file").write_text("keep me")
    with pytest.raises(InputError, match=r"exists|other files"):
        dq.compress(tiny, tmp_path / "new", **QUICK, resume=True)
    assert (work / "file").read_text() == "keep me"


def test_a_changed_source_starts_over(tiny, tmp_path):
    path = tmp_path / "copy.npz"
    path.write_bytes(tiny.read_bytes())
    dq.compress(path, tmp_path / "a", **QUICK, work=tmp_path / "work")
    with np.load(tiny) as found:
        arrays = dict(found)
    arrays["x_train"][0] = 255 - arrays["x_train"][0]
    np.savez(path, **arrays)
    changed = dq.compress(path, tmp_path / "b", **QUICK, work=tmp_path / "work", resume=True)
    fresh = dq.compress(path, tmp_path / "c", **QUICK)
    assert tree(changed.path) == tree(fresh.path)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"keep": 0}, r"keep must be a fraction in \(0, 1\]"),
        ({"drop": 1.0}, r"drop must be a fraction in \[0, 1\)"),
        ({"n_bins": 0}, "n_bins must be a whole number"),
        ({"colour": "red"}, "no parameter 'colour'"),
        ({"codec": "bmp"}, "codec must be one of"),
        ({"score": "luck"}, "score must be one of"),
        ({"drop_classes": {"0": 1.0}}, r"drop_classes\['0'\] must be a fraction in \[0, 1\)"),
        ({"drop_classes": {"7": 0.1}}, r"drop_classes must name classes \(0, 1, 2\), got '7'"),
        ({"class_weights": {"dog": 2.0}}, r"class_weights must name classes \(0, 1, 2\), got 'dog'"),
        ({"weights": "nowhere.pt"}, "nowhere.pt"),
        ({"device": "cuda:99"}, "device"),
        ({"model": "resnet999"}, "resnet999"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(tiny, tmp_path, parameters, words):
    with pytest.raises(InputError, match=words):
        dq.compress(tiny, tmp_path / "out", **{"train_epochs": 1, **parameters})
    assert not list(tmp_path.iterdir())  # no run folder either: the corrected call would stumble over it


@pytest.mark.timeout(600)
def test_killed_at_ten_random_moments_resume_ends_with_the_same_bytes(tiny, tmp_path):
    # small patches, so that the store takes long enough for kills to fall into it, too
    command = ["compress", str(tiny), "out", "--model", "resnet20_cifar", "--train-epochs", "1", "--keep", "0.9"]
    command += ["--patch", "1", "--batch-size", "16", "--seed", "3", "-q"]
    (tmp_path / "empty").mkdir()
    (found,) = run_killing([tmp_path / "empty", tmp_path / "trials", 0, 10, "moments", command])
    assert found["whole"] == 0
    expected = tree(tmp_path / "trials" / "whole" / "out")
    for k, (status, again) in found["trials"].items():
        killed = tmp_path / "trials" / k / "killed"
        assert status in (0, -signal.SIGKILL)
        if status and not (killed / "out").exists():
            with pytest.raises(InputError):
                dq.open(killed / "out")
        assert again == 0
        assert tree(tmp_path / "trials" / k / "again" / "out") == expected
    assert sum(status != 0 for status, _ in found["trials"].values()) >= 5, "the kills came too late to test anything"


def test_secret_shuffle_is_not_told_by_the_manifest(tiny, store, work, tmp_path):
    secret = dq.compress(tiny, tmp_path / "secret", **QUICK, secret=True, work=work, resume=True)
    assert secret.manifest["shuffle"]["seed"] is None
    assert secret.ids == store.ids
    assert all((secret[i][0] == store[i][0]).all() for i in range(len(store)))
    assert (secret.mosaic(0) != store.mosaic(0)).any()
