from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dq_fast.data import Source, Subset, open_source, split_off
from dq_fast.data.labels import check_unique, number_labels
from dq_fast.data.source import usable_as_id
from dq_fast.errors import InputError

from .files import encoded, pixels, write


class Numbers(Source):
    """Image i is one pixel of value i."""

    kind, spec = "numbers", "numbers"

    def __init__(self, labels: list[int], ids: list[str] | None = None) -> None:
        self.labels = np.array(labels, np.int64)
        self.ids = ids or [f"n/{i}" for i in range(len(labels))]
        self.class_names = [str(k) for k in range(max(labels, default=-1) + 1)]

    def read(self, i: int) -> np.ndarray:
        return np.full((1, 1, 3), i, np.uint8)

    def size_of(self, i: int) -> int:
        return i + 1


def test_subset_of_a_subset() -> None:
    source = Numbers([0, 1, 2, 0, 1, 2])
    part = Subset(Subset(source, [5, 3, 1, 0]), np.array([2, 0]))
    assert list(part.ids) == ["n/1", "n/5"]
    assert part.labels.tolist() == [1, 2]
    assert part.class_names == ["0", "1", "2"]
    assert [part.read(i)[0, 0, 0] for i in range(2)] == [1, 5]
    assert [part.size_of(i) for i in range(2)] == [2, 6]
    assert (part.kind, part.spec, part.hflip, len(part)) == ("numbers", "numbers", True, 2)
    assert len(Subset(source, [])) == 0
    assert len({Subset(source, i).fingerprint() for i in ([0, 1], [1, 0], [0], [])} | {source.fingerprint()}) == 5


@pytest.mark.parametrize("indices", [[0, 6], [-1], [1, 1], [0.5], [[0, 1]], [True]])
def test_wrong_indices(indices: list[int]) -> None:
    with pytest.raises(InputError, match="indices must be"):
        Subset(Numbers([0] * 6), indices)


def test_split_off_by_class() -> None:
    labels = [0] * 10 + [1] * 3 + [2] * 2 + [3] + [4] * 7
    rest, out = split_off(Numbers(labels), 0.25, 3)
    # nearest whole number (half up), but at least one of two or more, and never all
    assert np.bincount(out.labels, minlength=5).tolist() == [3, 1, 1, 0, 2]
    assert sorted([*rest.ids, *out.ids]) == sorted(Numbers(labels).ids)
    assert rest.ids == sorted(rest.ids, key=lambda id: int(id[2:]))
    again = split_off(Numbers(labels), 0.25, 3)[1]
    assert again.ids == out.ids
    assert split_off(Numbers(labels), 0.25, 4)[1].ids != out.ids


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_split_off_does_not_depend_on_order(labels: list[int], fraction: float, random: object) -> None:
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    one = split_off(Numbers(labels), fraction, 0)[1]
    two = split_off(Numbers([labels[i] for i in order], [f"n/{i}" for i in order]), fraction, 0)[1]
    assert set(one.ids) == set(two.ids)
    for label in set(labels):
        size = labels.count(label)
        out = int((one.labels == label).sum())
        assert min(1, size - 1) <= out <= max(size - 1, 0)
        assert abs(out - fraction * size) <= 1


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_wrong_fraction(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction must be"):
        split_off(Numbers([0, 1]), fraction, 0)


def test_fingerprint_tells_names_apart() -> None:
    def of(ids: list[str], names: list[str] | None = None) -> str:
        source = Numbers([0, 0], ids)
        source.class_names = names or ["a"]
        return source.fingerprint()

    assert (
        len({of(["ab", "c"]), of(["a", "bc"]), of(["a", "b"]), of(["a", "b"], ["b"]), of(["a", "b"], ["a", "b"])}) == 5
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2, 0], ([2, 0], ["0", "1", "2"])),
        (["b", "a", "b"], ([1, 0, 1], ["a", "b"])),
        (np.array([1, 0], np.uint8), ([1, 0], ["0", "1"])),
        ([], ([], [])),
    ],
)
def test_number_labels(values: list[object], expected: tuple[list[int], list[str]]) -> None:
    labels, names = number_labels(values, str)
    assert labels.dtype == np.int64
    assert (labels.tolist(), names) == expected


@pytest.mark.parametrize(
    "values", [[0, None], [0, -1], [0, "a"], ["a", 0], [0, 1.5], [0, True], ["a", ""], [0, float("nan")]]
)
def test_labels_that_are_none(values: list[object]) -> None:
    with pytest.raises(InputError, match="place "):
        number_labels(values, "place {}".format)


def test_double_ids_are_named() -> None:
    with pytest.raises(InputError, match=r"got 'a', 'b' more than once \(2 such\)"):
        check_unique(["a", "b", "c", "a", "b"], "set")
    check_unique(["a", "b"], "set")


def test_usable_as_id() -> None:
    assert all(map(usable_as_id, ["a", "a/b.jpg", "ü 日本/x y", "..a/b..", "a:b"]))
    assert not any(map(usable_as_id, ["", "/a", "a/", "a//b", ".", "a/./b", "../a", "a\\b", "a\0", "a\n", "\udcff"]))


def image_folder(root: Path) -> Path:
    write(root / "a/1.png", encoded(pixels(0)))
    return root


def test_what_a_spec_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folder(tmp_path / "set")
    assert open_source(tmp_path / "set").spec == str(tmp_path / "set")
    assert open_source(f"imagefolder:{tmp_path / 'set'}").spec == f"imagefolder:{tmp_path / 'set'}"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_source("~/set")) == 1
    monkeypatch.chdir(tmp_path)
    assert len(open_source("set")) == 1


def test_a_reader_can_be_forced(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    write(root / "index.parquet", b"not needed")
    with pytest.raises(InputError, match="broken"):
        open_source(root)
    assert len(open_source(f"imagefolder:{root}")) == 1
    for kind in ("cifar", "npz", "webdataset"):
        with pytest.raises(InputError):
            open_source(f"{kind}:{root}")
    for kind in ("cifar", "npz", "webdataset", "imagefolder", "parquet"):
        with pytest.raises(InputError):
            open_source(f"{kind}:{root / 'a/1.png'}")
        with pytest.raises(InputError, match="no file or folder"):
            open_source(f"{kind}:{root / 'nowhere'}")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere/at/all", "there is no file or folder nowhere/at/all; a source is an ImageFolder.*mnist5k"),
        ("mnist", "there is no file or folder"),
        ("", "must not be empty"),
        ("bmp:x", "there is no file or folder bmp:x"),
    ],
)
def test_unknown_spec(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(spec)


def test_file_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"photo\.png is a file of no known kind; a source is"):
        open_source(write(tmp_path / "photo.png", b"x"))


def test_unknown_split_and_misplaced_columns(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    with pytest.raises(InputError, match="split must be one of train, val, test"):
        open_source(root, split="extra")
    with pytest.raises(InputError, match="are for parquet"):
        open_source(root, label_column="x")
