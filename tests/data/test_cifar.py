from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dq_fast.data import has_split, open_source
from dq_fast.errors import InputError

from .files import write
from .test_unpickle import Call


def batch(seed: int, n: int, labels: str = "labels", classes: int = 3) -> dict[bytes, Any]:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
    return {b"data": data, labels.encode(): rng.integers(0, classes, n).tolist(), b"filenames": [b"x.png"] * n}


def cifar10(root: Path, sizes: tuple[int, ...] = (3, 4), protocol: int = 2) -> Path:
    folder = root / "cifar-10-batches-py"
    for k, n in enumerate(sizes):
        write(folder / f"data_batch_{k + 1}", pickle.dumps(batch(k, n), protocol))
    write(folder / "test_batch", pickle.dumps(batch(9, 2), protocol))
    write(folder / "batches.meta", pickle.dumps({b"label_names": [b"cat", b"airplane", b"dog"]}, protocol))
    write(folder / "readme.html", b"<html>")
    return folder


def cifar100(root: Path) -> Path:
    folder = root / "cifar-100-python"
    for name, n in (("train", 5), ("test", 2)):
        content = batch(n, n, "fine_labels", 4)
        content[b"coarse_labels"] = [0] * n
        write(folder / name, pickle.dumps(content, 2))
    names = {b"fine_label_names": [b"p", b"q", b"r", b"s"], b"coarse_label_names": [b"z"]}
    write(folder / "meta", pickle.dumps(names, 2))
    return folder


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("parent", [False, True])
def test_cifar10(tmp_path: Path, parent: bool, protocol: int) -> None:
    folder = cifar10(tmp_path, protocol=protocol)
    source = open_source(tmp_path if parent else folder)
    assert (source.kind, source.hflip) == ("cifar", True)
    assert list(source.ids) == [f"data_batch_1/{i:05d}" for i in range(3)] + [f"data_batch_2/{i:05d}" for i in range(4)]
    assert source.class_names == ["cat", "airplane", "dog"]  # in the file's order, not sorted
    assert source.labels.tolist() == batch(0, 3)[b"labels"] + batch(1, 4)[b"labels"]
    planes = batch(1, 4)[b"data"][2]
    image = source.read(5)
    for y, x, c in [(0, 0, 0), (31, 0, 1), (3, 17, 2), (31, 31, 2)]:
        assert image[y, x, c] == planes[c * 1024 + y * 32 + x]
    assert source.size_of(0) == 3072
    test = open_source(folder, split="test")
    assert list(test.ids) == ["test_batch/00000", "test_batch/00001"]
    assert len(open_source(folder, split=None)) == 9
    assert [has_split(folder, s) for s in ("train", "val", "test")] == [True, False, True]


def test_cifar10_batches_in_number_order_and_without_names(tmp_path: Path) -> None:
    folder = cifar10(tmp_path, (1,) * 5)
    (folder / "batches.meta").unlink()
    source = open_source(folder)
    assert list(source.ids) == [f"data_batch_{k}/00000" for k in range(1, 6)]
    assert source.class_names == [str(k) for k in range(source.labels.max() + 1)]


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    folder = cifar100(tmp_path)
    source = open_source(tmp_path)
    assert list(source.ids) == [f"train/{i:05d}" for i in range(5)]
    assert source.class_names == ["p", "q", "r", "s"]
    assert source.labels.tolist() == batch(5, 5, "fine_labels", 4)[b"fine_labels"]
    assert len(open_source(folder, split="test")) == 2


def test_fingerprint_sees_a_single_pixel(tmp_path: Path) -> None:
    folder = cifar10(tmp_path)
    before = open_source(folder).fingerprint()
    content = batch(0, 3)
    content[b"data"][1, 100] ^= 1
    write(folder / "data_batch_1", pickle.dumps(content, 2))
    assert open_source(folder).fingerprint() != before


def test_hostile_batch(tmp_path: Path) -> None:
    folder = cifar10(tmp_path)
    content: dict[bytes, Any] = batch(0, 3)
    content[b"extra"] = Call(os.system, f"touch {tmp_path / 'touched'}")
    write(folder / "data_batch_1", pickle.dumps(content, 2))
    with pytest.raises(InputError, match=r"posix\.system|nt\.system"):
        open_source(folder)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({b"data": np.zeros((3, 3071), np.uint8)}, "data must be uint8"),
        ({b"data": np.zeros((3, 3072), np.int64)}, "data must be uint8"),
        ({b"data": [1, 2, 3]}, "data must be uint8"),
        ({b"labels": [0, 1]}, "list of 3"),
        ({b"labels": [0, 1, 3]}, "data_batch_1/00002 must be below 3"),
        ({b"labels": [0, -1, 2]}, "data_batch_1/00001 must be 0 or more"),
        ({b"labels": [0, 1.5, 2]}, "data_batch_1/00001 must be an integer"),
    ],
)
def test_wrong_batch(tmp_path: Path, change: dict[bytes, Any], words: str) -> None:
    folder = cifar10(tmp_path)
    write(folder / "data_batch_1", pickle.dumps({**batch(0, 3), **change}, 2))
    with pytest.raises(InputError, match=words):
        open_source(folder)
