from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dq_fast.data import has_split, open_source
from dq_fast.errors import BadImageError, InputError

from .files import encoded, pixels, write

NAMES = ["b/1.png", "a/deep/er/2.PNG", "a/1.png", "a/10.png", "a b/ü 日本.png", "Z/x.webp", "a/1/0.png"]
# sorted as bytes: capitals first, " " before "/", "/" before "0"
SORTED = ["Z/x.webp", "a b/ü 日本.png", "a/1.png", "a/1/0.png", "a/10.png", "a/deep/er/2.PNG", "b/1.png"]


def folder(root: Path, names: list[str] = NAMES) -> Path:
    for k, name in enumerate(names):
        write(root / name, encoded(pixels(k), "WEBP" if name.endswith("webp") else "PNG", lossless=True))
    return root


def test_ids_labels_and_pixels(tmp_path: Path) -> None:
    source = open_source(folder(tmp_path / "set"))
    assert (source.kind, source.hflip, len(source)) == ("imagefolder", True, len(NAMES))
    assert list(source.ids) == SORTED
    assert source.class_names == ["Z", "a", "a b", "b"]
    assert [source.class_names[k] for k in source.labels] == [id.split("/")[0] for id in source.ids]
    assert source.labels.dtype == np.int64
    for i, id in enumerate(source.ids):
        np.testing.assert_array_equal(source.read(i), pixels(NAMES.index(id)))
        assert source.size_of(i) == (tmp_path / "set" / id).stat().st_size


def test_ids_do_not_depend_on_the_order_of_writing(tmp_path: Path) -> None:
    one, two = open_source(folder(tmp_path / "1")), open_source(folder(tmp_path / "2", sorted(NAMES, reverse=True)))
    assert one.ids == two.ids
    assert one.labels.tolist() == two.labels.tolist()


def test_what_is_no_image_is_ignored(tmp_path: Path) -> None:
    root = folder(tmp_path, ["a/1.png"])
    for name in ("readme.txt", "a/notes.txt", "a/.hidden.png", "a/._1.png", ".git/1.png", "a/.thumbs/1.png", "top.png"):
        write(root / name, encoded(pixels(0)))
    (root / "empty").mkdir()
    assert open_source(root).ids == ["a/1.png"]
    assert open_source(root).class_names == ["a"]


def test_fingerprint_follows_the_contents(tmp_path: Path) -> None:
    root = folder(tmp_path / "set")
    prints = [open_source(root).fingerprint()]
    assert open_source(root).fingerprint() == prints[0]
    assert len(prints[0]) == 64
    write(root / "b/2.png", encoded(pixels(20)))
    prints.append(open_source(root).fingerprint())
    (root / "b/2.png").rename(root / "b/3.png")
    prints.append(open_source(root).fingerprint())
    write(root / "b/3.png", encoded(pixels(20, 30, 30)))
    prints.append(open_source(root).fingerprint())
    (root / "b/3.png").rename(root / "a/0.png")
    prints.append(open_source(root).fingerprint())
    assert len(set(prints)) == 5
    root.rename(tmp_path / "elsewhere")
    assert open_source(tmp_path / "elsewhere").fingerprint() == prints[-1]


def test_splits(tmp_path: Path) -> None:
    root = folder(tmp_path, ["train/a/1.png", "train/b/x/1.png", "train/c/1.png", "val/c/1.png", "val/a/2.png"])
    write(root / "test/unlabelled.png", encoded(pixels(0)))  # as in ImageNet: no classes, no split
    (root / "annotations").mkdir()
    write(root / "annotations/boxes.xml", b"<x/>")
    assert open_source(root).ids == ["a/1.png", "b/x/1.png", "c/1.png"]
    val = open_source(root, split="validation")
    assert val.ids == ["a/2.png", "c/1.png"]
    assert val.class_names == ["a", "b", "c"]  # numbered as in train, although it has no b
    assert val.labels.tolist() == [0, 2]
    assert [has_split(root, s) for s in ("train", "val", "valid", "test", "other")] == [True, True, True, False, False]
    everything = open_source(root, split=None)
    assert everything.ids == ["train/a/1.png", "train/b/x/1.png", "train/c/1.png", "val/a/2.png", "val/c/1.png"]
    assert everything.labels.tolist() == [0, 1, 2, 0, 2]
    with pytest.raises(InputError, match="has no split 'test', only train, val"):
        open_source(root, split="test")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    """CIFAR-100 has one."""
    root = folder(tmp_path, ["train/x/1.png", "bus/2.png"])
    assert open_source(root).class_names == ["bus", "train"]
    assert not has_split(root, "test")
    assert has_split(root, "train")
    with pytest.raises(InputError, match="no splits"):
        open_source(root, split="test")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "empty folder"),
        (["1.png", "2.png"], "top level but no class folders"),
        (["a/notes.txt"], "has no images"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        write(tmp_path / "set" / name, b"x")
    (tmp_path / "set").mkdir(exist_ok=True)
    with pytest.raises(InputError, match=words):
        open_source(tmp_path / "set")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", ["a/1.png"])
    outside = folder(tmp_path / "outside", ["2.png"])
    (root / "a/more").symlink_to(outside)
    (root / "a/self").symlink_to(root / "a")
    (root / "a/dangling.png").symlink_to(tmp_path / "nowhere.png")
    source = open_source(root)
    assert source.ids == ["a/1.png", "a/dangling.png", "a/more/2.png"]
    with pytest.raises(BadImageError, match="No such file"):
        source.read(1)
    assert source.size_of(1) == 0


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    root = folder(tmp_path, ["a/1.png"])
    with open(os.path.join(os.fsencode(root), b"a", b"\xff.png"), "wb") as file:
        file.write(encoded(pixels(0)))
    with pytest.raises(InputError, match="UTF-8"):
        open_source(root)


def test_bad_image_has_its_id(tmp_path: Path) -> None:
    root = folder(tmp_path, ["a/1.png"])
    write(root / "a/2.png", b"nothing")
    with pytest.raises(BadImageError, match=r"a/2\.png") as caught:
        open_source(root).read(1)
    assert caught.value.id == "a/2.png"
