"""A writer killed anywhere leaves no store, and one that resumes ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

import dq_fast.files
import dq_fast.store.journal
import dq_fast.store.writer
from dq_fast.errors import InputError
from dq_fast.store import PackedStore, StoreWriter

from .cases import close, samples, tree, write

ITEMS = samples(12, [(16, 20)], 4)
OPTIONS = {"patches_per_mosaic": 60, "seed": 5}


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    return tree(write(tmp_path_factory.mktemp("whole") / "s", ITEMS, 4, **OPTIONS))


def run_until(folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> bool:
    """Write with every step that changes the disk counted, die before step `steps`; True if it got through."""
    counter = [0]

    def dying(function):
        def step(*args, **kwargs):
            counter[0] += 1
            if counter[0] > steps:
                raise Killed
            return function(*args, **kwargs)

        return step

    system = types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
    for name in ("replace", "fsync", "chmod"):
        setattr(system, name, dying(getattr(os, name)))
    system.unlink = lambda path: None  # a killed process does not clean up
    with monkeypatch.context() as patched:
        patched.setattr(dq_fast.files, "os", system)
        patched.setattr(dq_fast.store.journal.shutil, "rmtree", dying(dq_fast.store.journal.shutil.rmtree))
        try:
            write(folder, ITEMS, 4, resume=True, background=False, **OPTIONS)
        except Killed:
            return False
    return True


def test_killed_at_every_step(tmp_path, monkeypatch, whole):
    steps = 0
    while True:
        folder = tmp_path / f"{steps}"
        if run_until(folder, monkeypatch, steps):
            break
        if not (folder / "manifest.json").exists():
            with pytest.raises(InputError):
                PackedStore(folder)
        write(folder, ITEMS, 4, resume=True, **OPTIONS)
        assert tree(folder) == whole, f"killed before step {steps}"
        steps += 1
    assert steps > 30


def test_killed_again_and_again(tmp_path, monkeypatch, whole):
    folder = tmp_path / "s"
    deaths = 0
    while not run_until(folder, monkeypatch, 14):
        deaths += 1
        assert deaths < 100
    assert deaths > 2
    assert tree(folder) == whole


def test_done_counts_images_in_whole_shards(tmp_path):
    writer = StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a", "b", "c"], **OPTIONS)
    for item in ITEMS[:7]:
        writer.add(item.id, item.label, item.image, item.kept)
    writer.abandon()
    again = StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a", "b", "c"], resume=True, **OPTIONS)
    assert again.done == 4  # 14 patches an image, 4 images in 60
    with pytest.raises(InputError, match="unique"):
        again.add(ITEMS[0].id, 0, ITEMS[0].image, ITEMS[0].kept)


def test_damaged_shards_are_written_again(tmp_path, whole):
    for victim in ("shards/00001.webp", "keys/00001.npy", ".writing/00001.json"):
        folder = tmp_path / victim.replace("/", "_")
        writer = StoreWriter(folder, patch=4, codec="webp-lossless", class_names=["a", "b", "c"], **OPTIONS)
        for item in ITEMS[:11]:
            writer.add(item.id, item.label, item.image, item.kept)
        writer.abandon()
        (folder / victim).write_bytes(b"damaged")
        again = StoreWriter(folder, patch=4, codec="webp-lossless", class_names=["a", "b", "c"], resume=True, **OPTIONS)
        assert again.done == 4
        for item in ITEMS[again.done :]:
            again.add(item.id, item.label, item.image, item.kept)
        close(again)
        assert tree(folder) == whole


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patch", 8),
        ("codec", "png"),
        ("seed", 6),
        ("class_names", ["a", "b"]),
        ("patches_per_mosaic", 61),
        ("secret", True),
    ],
)
def test_other_parameters_do_not_resume(tmp_path, name, value):
    good = {"patch": 4, "codec": "webp-lossless", "class_names": ["a", "b", "c"], **OPTIONS}
    StoreWriter(tmp_path / "s", **good).abandon()
    with pytest.raises(InputError, match=name):
        StoreWriter(tmp_path / "s", **{**good, name: value}, resume=True)
    StoreWriter(tmp_path / "s", **good, resume=True).abandon()


def test_a_finished_store_is_done(tmp_path, whole):
    folder = write(tmp_path / "s", ITEMS, 4, **OPTIONS)
    writer = StoreWriter(folder, patch=4, codec="webp-lossless", class_names=["a", "b", "c"], resume=True, **OPTIONS)
    assert writer.done == 12
    with pytest.raises(InputError, match="finished"):
        writer.add("new", 0, ITEMS[0].image, ITEMS[0].kept)
    close(writer)
    assert tree(folder) == whole
    with pytest.raises(InputError, match="must be empty"):
        write(folder, ITEMS, 4, **OPTIONS)


def test_killed_while_the_journal_goes(tmp_path, whole):
    """The manifest is there; what is left of the journal must not matter, whichever of its files went first."""
    for left in ("writer.json", "00002.json"):
        folder = write(tmp_path / left, ITEMS, 4, **OPTIONS)
        (folder / ".writing").mkdir()
        (folder / ".writing" / left).write_text("{}")
        assert len(PackedStore(folder)) == 12
        write(folder, ITEMS, 4, resume=True, **OPTIONS)
        assert tree(folder) == whole


def test_a_finished_store_of_other_parameters_does_not_resume(tmp_path):
    folder = write(tmp_path / "s", ITEMS, 4, **OPTIONS)
    with pytest.raises(InputError, match="seed must be 5"):
        write(folder, ITEMS, 4, resume=True, **{**OPTIONS, "seed": 6})


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    for resume in (False, True):
        with pytest.raises(InputError):
            write(tmp_path, ITEMS, 4, resume=resume, **OPTIONS)
    assert tree(tmp_path) == {"mine.txt": b"precious"}


def test_an_error_in_the_thread_reaches_the_caller(tmp_path, monkeypatch):
    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dq_fast.store.writer, "encode", broken)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "s", ITEMS, 4, **OPTIONS)
    assert not (tmp_path / "s" / "manifest.json").exists()


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from store.cases import samples, write
write(Path(sys.argv[1]), samples(250, [(16, 20)], 4), 4, resume=True, patches_per_mosaic=60)
"""


def test_sigkill_at_random_moments(tmp_path):
    tests = str(Path(__file__).parents[1])
    expected = tree(write(tmp_path / "whole", samples(250, [(16, 20)], 4), 4, patches_per_mosaic=60))
    rng = np.random.default_rng(0)
    for attempt in range(2):
        folder = tmp_path / f"killed{attempt}"
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder), tests])
        deadline = time.monotonic() + 60
        while not (folder / "shards").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        write(folder, samples(250, [(16, 20)], 4), 4, resume=True, patches_per_mosaic=60)
        assert tree(folder) == expected
