"""Changes of bins files and of runs that are killed, or that find the disk full: the old state stays, redoing works."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dq_fast.cli import main
from dq_fast.files import remove_leftovers
from dq_fast.pipeline import BinsFile, RunFolder, load_embedding
from dq_fast.pipeline.run import STAGES
from tests.cli.test_cli import mistake, result
from tests.conftest import pictures
from tests.pipeline.killing import run_killing
from tests.pipeline.test_compress import tree


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """old.bins.npz of old.npy, and new.npy to add."""
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    for name, n in (("old", 45), ("new", 15)):
        np.save(folder / f"{name}.npy", rng.normal(size=(n, 6)).astype(np.float32))
        np.save(folder / f"{name}_labels.npy", rng.integers(0, 3, n))
    (folder / "gone.txt").write_text("3\n7\n")
    command = ["bins", folder / "old.npy", "--labels", folder / "old_labels.npy", "--incremental", "--bins", "3", "-q"]
    assert main([str(c) for c in command]) == 0
    return folder


@pytest.fixture(scope="module")
def grown(tiny, tiny_store, tmp_path_factory) -> Path:
    """A run of `tiny` with a sample, and more.npz that has 30 images more; ids to remove."""
    folder = tmp_path_factory.mktemp("grown")
    shutil.copytree(tiny_store[1], folder / "run")
    with np.load(tiny) as found:
        x, y = found["x_train"], found["y_train"]
    np.savez(folder / "more.npz", x_train=np.concatenate([x, pictures(30, 5)[0]]), y_train=np.concatenate([y, y[:30]]))
    (folder / "gone.txt").write_text("0000003\n0000050\n")
    return folder


JOBS = {
    "added to a file": (99, "bins", "new.npy", "--labels", "new_labels.npy", "--add", "old.bins.npz"),
    "removed from a file": (99, "bins", "old.bins.npz", "--remove", "gone.txt", "--old", "old.npy"),
    "added to a run": (5, "bins", "more.npz", "--add", "run"),
}


@pytest.fixture(scope="module")
def killed(files, grown, tmp_path_factory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """What `killing.py` made of the jobs: folder of the trials, and exit statuses."""
    out = tmp_path_factory.mktemp("killed")
    folders = {name: grown if "run" in name else files for name in JOBS}
    jobs = [[folders[name], out / name, 1, kills, "changes", command] for name, (kills, *command) in JOBS.items()]
    return {name: (out / name, found) for name, found in zip(JOBS, run_killing(*jobs), strict=True)}


@pytest.mark.parametrize("job", ["added to a file", "removed from a file"])
def test_a_bins_file_survives_kills(files, killed, job):
    out, found = killed[job]
    assert found["whole"] == 0
    assert len(found["trials"]) == found["changes"] >= 2
    for k, statuses in found["trials"].items():
        assert statuses == [-signal.SIGKILL, 0]
        name = "old.bins.npz"
        assert (out / k / "killed" / name).read_bytes() == (files / name).read_bytes()
        assert tree(out / k / "again") == tree(out / "whole")  # no temporary file of the killed one either
    assert tree(out / "whole") != tree(files)


def test_a_run_survives_kills(killed):
    out, found = killed["added to a run"]
    assert found["whole"] == 0
    assert found["changes"] > 30
    for k, statuses in found["trials"].items():
        assert statuses == [-signal.SIGKILL, 0]
        run = RunFolder(out / k / "killed" / "run", create=False)
        assert all(run.is_whole(stage) for stage in STAGES)
        assert len(load_embedding(run)) in (90, 120)
        assert tree(out / k / "again") == tree(out / "whole")


def stages(folder: Path, content: str) -> RunFolder:
    """A run folder with stages that hold a text."""
    run = RunFolder(folder)
    for stage in STAGES:
        with run.writing(stage, {}) as (path, _):
            (path / "file").write_text(content)
    return run


def test_stages_are_replaced_all_at_once_wherever_it_is_killed(tmp_path, monkeypatch):
    """Killed before every single change of the file system that replacing makes."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and a kill is no power cut
    for k in range(200):
        stages(tmp_path / str(k), "old")
        stages(tmp_path / str(k) / "update" / "next", "new")
        pid = os.fork()
        if not pid:
            seen = 0

            def hook(event: str, _arguments: tuple[object, ...], k: int = k) -> None:
                nonlocal seen
                if event in ("os.rename", "os.remove", "os.rmdir"):
                    if seen == k:
                        os.kill(os.getpid(), signal.SIGKILL)
                    seen += 1

            sys.addaudithook(hook)
            run = RunFolder(tmp_path / str(k))
            run.replace(RunFolder(run.workshop / "next"))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        run = RunFolder(tmp_path / str(k), create=False)
        assert all(run.is_whole(stage) for stage in STAGES)
        text = {(run.folder(stage) / "file").read_text() for stage in STAGES}
        assert text == ({"old"} if k == 0 else {"new"})
        if status == 0:
            assert sorted(p.name for p in run.path.iterdir()) == sorted([*STAGES, "run.json", "seconds.json"])
            break
    assert k > 10


def test_leftovers_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path):
    from dq_fast.files import atomic_write

    (tmp_path / ".x.npz.abc.part").write_bytes(b"of a killed process")
    (tmp_path / ".y.npz.abc.part").write_bytes(b"of another file")
    with atomic_write(tmp_path / "x.npz") as file:
        file.write(b"whole")
        remove_leftovers(tmp_path / "x.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".y.npz.abc.part", "x.npz"]


@pytest.mark.parametrize("how", ["files no larger than 3 kB", "no space left"])
def test_a_full_disk_leaves_the_bins_file(files, tmp_path, monkeypatch, capfd, how):
    folder = tmp_path / "files"
    shutil.copytree(files, folder)
    before = tree(folder)
    for command in (
        ("bins", folder / "new.npy", "--labels", folder / "new_labels.npy", "--add", folder / "old.bins.npz"),
        ("bins", folder / "old.bins.npz", "--remove", folder / "gone.txt", "--old", folder / "old.npy"),
        ("bins", folder / "old.npy", "--out", folder / "other.npz"),
    ):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            if how == "no space left":
                monkeypatch.setattr(os, "fsync", no_space)
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
            status = main([*map(str, command), "-q"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            monkeypatch.undo()
        out, err = capfd.readouterr()
        assert status == 2
        assert out == ""
        assert [line for line in err.splitlines() if line] == [err.strip()]  # one line, and no traceback behind it
        assert "No space left on device" in err or "File too large" in err
        assert tree(folder) == before
    assert BinsFile.load(folder / "old.bins.npz").quantizer.n_bins == 3


def no_space(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("at", ["features.npy", "bins.npz", "sample.json"])
def test_a_full_disk_leaves_the_run_and_what_was_embedded(grown, tmp_path, monkeypatch, capsys, at):
    run = tmp_path / "run"
    shutil.copytree(grown / "run", run)
    before = tree(run)
    real = os.replace

    def replace(source: str, target: Path) -> None:
        if target.name == at and "next" in str(target):
            no_space(0)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert "No space left" in mistake(capsys, "bins", grown / "more.npz", "--add", run)
    monkeypatch.undo()
    assert {name: sha for name, sha in tree(run).items() if not name.startswith("update/")} == before
    facts = result(capsys, "bins", grown / "more.npz", "--add", run)
    assert (facts["embedded"], facts["taken_over"], facts["images"]) == (0, 30, 120)
    assert not (run / "update").exists()
