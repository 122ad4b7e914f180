from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dq_fast.data import has_split, open_source
from dq_fast.errors import BadImageError, InputError

from .files import encoded, pixels, write, write_tar


def sample(key: str, seed: int, label: str | None = "0", **more: bytes) -> list[tuple[str, bytes]]:
    members = [(f"{key}.png", encoded(pixels(seed)))]
    if label is not None:
        members.append((f"{key}.cls", label.encode()))
    return members + [(f"{key}.{extension}", data) for extension, data in more.items()]


def shard(path: Path, keys: list[str], labels: list[str], start: int = 0) -> Path:
    pairs = zip(keys, labels, strict=True)
    return write_tar(path, [m for k, (key, label) in enumerate(pairs) for m in sample(key, start + k, label)])


def test_one_tar(tmp_path: Path) -> None:
    source = open_source(shard(tmp_path / "s-000.tar", ["a", "x/b", "c"], ["2", "0\n", " 1 "]))
    assert (source.kind, source.hflip) == ("webdataset", True)
    assert list(source.ids) == ["s-000/a", "s-000/x/b", "s-000/c"]
    assert source.labels.tolist() == [2, 0, 1]
    for i in (2, 0, 1):
        np.testing.assert_array_equal(source.read(i), pixels(i))
        assert source.size_of(i) == len(encoded(pixels(i)))


def test_class_names_and_json(tmp_path: Path) -> None:
    members = sample("1", 0, "dog")
    members += sample("2", 1, None, json=json.dumps({"label": "cat", "caption": "a cat"}).encode())
    members += sample("3", 2, "3")  # a number among names is a name
    source = open_source(write_tar(tmp_path / "a.tar", members))
    assert source.class_names == ["3", "cat", "dog"]
    assert source.labels.tolist() == [2, 1, 0]


def test_numbers_in_json(tmp_path: Path) -> None:
    members = sample("1", 0, None, json=b'{"label": 1}') + sample("2", 0, None, json=b'{"label": 0}')
    source = open_source(write_tar(tmp_path / "a.tar", members))
    assert source.labels.tolist() == [1, 0]


def test_other_members_are_ignored(tmp_path: Path) -> None:
    members = [("./.hidden.png", b"x"), ("README", b"x")]
    members += sample("./1", 0, "0", **{"seg.png": b"mask", "txt": b"caption", "depth.npy": b"1"})
    source = open_source(write_tar(tmp_path / "a.tar", members))
    assert list(source.ids) == ["a/1"]
    np.testing.assert_array_equal(source.read(0), pixels(0))


def test_long_and_unicode_names(tmp_path: Path) -> None:
    key = "d/" + "x" * 150 + " ü日本"
    assert list(open_source(shard(tmp_path / "a.tar", [key], ["0"])).ids) == [f"a/{key}"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats_of_tar(tmp_path: Path, format: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as tar:
        for name, data in sample("a/1", 3):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1.5 if format == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))
    np.testing.assert_array_equal(open_source(tmp_path / "a.tar").read(0), pixels(3))


def test_folder_patterns_and_splits(tmp_path: Path) -> None:
    for k in range(12):
        shard(tmp_path / f"set/train-{k:03d}.tar", ["a", "b"], ["dog", "cat"], 2 * k)
    shard(tmp_path / "set/val-000.tar", ["a"], ["ant"], 50)
    source = open_source(tmp_path / "set")
    assert list(source.ids) == [f"train-{k:03d}/{key}" for k in range(12) for key in "ab"]
    np.testing.assert_array_equal(source.read(21), pixels(21))
    assert source.class_names == ["ant", "cat", "dog"]
    val = open_source(tmp_path / "set", split="val")
    assert (val.class_names, val.labels.tolist()) == (source.class_names, [0])
    assert [has_split(tmp_path / "set", s) for s in ("train", "val", "test")] == [True, True, False]
    some = open_source(f"{tmp_path}/set/train-{{003..010}}.tar")
    assert list(some.ids) == [f"train-{k:03d}/{key}" for k in range(3, 11) for key in "ab"]
    assert len(open_source(f"{tmp_path}/set/train-{{001,005}}.tar")) == 4
    assert len(open_source(f"{tmp_path}/set/{{train,val}}-000.tar")) == 3
    assert len(open_source(f"{tmp_path}/set/train-*.tar")) == 24
    with pytest.raises(InputError, match=r"there is no file .*train-012"):
        open_source(f"{tmp_path}/set/train-{{010..012}}.tar")
    with pytest.raises(InputError, match="no file matches"):
        open_source(f"{tmp_path}/set/nothing-*.tar")


def test_samples_without_label_or_image(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "a.tar", sample("1", 0) + sample("2", 0, None))
    with pytest.raises(InputError, match=r"'2'.*no label"):
        open_source(file)
    file = write_tar(tmp_path / "b.tar", [*sample("1", 0), ("2.cls", b"0")])
    with pytest.raises(InputError, match=r"'2' has no image"):
        open_source(file)
    for text in ("", "-1"):
        with pytest.raises(InputError, match=r"no label|0 or more"):
            open_source(write_tar(tmp_path / "c.tar", sample("1", 0, text)))
    for content in (b"{", b"[]", b'{"label": null}', b'{"label": 1.5}', b'{"label": true}', b"\xff"):
        with pytest.raises(InputError, match="'1'"):
            open_source(write_tar(tmp_path / "d.tar", sample("1", 0, None, json=content)))
    with pytest.raises(InputError, match="no samples"):
        open_source(write_tar(tmp_path / "e.tar", []))


def test_two_images_in_a_sample(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one image"):
        open_source(write_tar(tmp_path / "a.tar", sample("1", 0, jpg=b"x")))


def test_keys_must_be_unique(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "a.tar", sample("1", 0) + sample("2", 1) + sample("1", 2))
    with pytest.raises(InputError, match="sample keys must be unique, got 'a/1'"):
        open_source(file)


@pytest.mark.parametrize("name", ["../../etc/evil", "/etc/evil", "a/../b", "a\\b", "a\nb", "a//b"])
def test_hostile_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"without '\.\.'"):
        open_source(write_tar(tmp_path / "a.tar", sample(name, 0)))


def test_links_and_devices_are_never_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.png", encoded(pixels(9)))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in sample("good", 1):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
        for k, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"bad{k}.png")
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
    before = sorted(tmp_path.iterdir())
    source = open_source(tmp_path / "a.tar")
    assert list(source.ids) == ["a/good"]
    np.testing.assert_array_equal(source.read(0), pixels(1))
    assert sorted(tmp_path.iterdir()) == before
    # with a label, a link is a sample without an image
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        info = tarfile.TarInfo("bad9.cls")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"0"))
    with pytest.raises(InputError, match="'bad9' has no image"):
        open_source(tmp_path / "a.tar")


def test_broken_tars(tmp_path: Path) -> None:
    file = shard(tmp_path / "a.tar", ["a", "b", "c"], ["0", "0", "1"])
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        members = tar.getmembers()
    third = members[2].offset
    cases = {
        "a damaged header in the middle": whole[:third] + b"\xff" * 512 + whole[third + 512 :],
        "a header cut off": whole[: third + 100],
        "data cut off": whole[: members[2].offset_data + 50],
        "a second tar behind the first": whole + whole,
        "nothing": b"",
        "something else": b"no tar" * 200,
    }
    for case, data in cases.items():
        file.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.tar"):
            pytest.fail(f"{case} was read: {open_source(file).ids}")


def test_compressed_tars_are_told_apart(tmp_path: Path) -> None:
    data = shard(tmp_path / "a.tar", ["a"], ["0"]).read_bytes()
    with pytest.raises(InputError, match="compressed"):
        open_source(write(tmp_path / "b.tar.gz", gzip.compress(data)))
    with pytest.raises(InputError, match="compressed"):
        open_source(write(tmp_path / "c.tar", gzip.compress(data)))


def test_shard_that_shrinks_while_in_use(tmp_path: Path) -> None:
    file = shard(tmp_path / "a.tar", ["a", "b"], ["0", "1"])
    source = open_source(file)
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(BadImageError, match="shorter"):
        source.read(1)
    file.unlink()
    with pytest.raises(BadImageError, match="No such file"):
        source.read(0)


def test_fingerprint(tmp_path: Path) -> None:
    prints = []
    for keys, labels, start in [("ab", "01", 0), ("ab", "01", 0), ("ab", "10", 0), ("ac", "01", 0)]:
        prints.append(open_source(shard(tmp_path / "a.tar", list(keys), list(labels), start)).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
