from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dq_fast.data import has_split, open_source, parquet, rowblocks
from dq_fast.errors import BadImageError, InputError

from .files import encoded, pixels

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def images(count: int, start: int = 0, paths: bool = True) -> Any:
    rows = [
        {"bytes": encoded(pixels(start + k)), "path": f"p/{start + k}.png" if paths else None} for k in range(count)
    ]
    return pa.array(rows, STRUCT)


def save(path: Path, columns: dict[str, Any], names: list[str] | None = None, **options: Any) -> Path:
    table = pa.table(columns)
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("compression", ["snappy", "none", "zstd"])
@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_rows(tmp_path: Path, row_group_size: int, compression: str) -> None:
    labels = [2, 0, 1, 1, 0, 2, 2]
    file = save(
        tmp_path / "a.parquet",
        {"image": images(7), "label": labels},
        row_group_size=row_group_size,
        compression=compression,
    )
    source = open_source(file)
    assert (source.kind, source.hflip) == ("parquet", True)
    assert list(source.ids) == [f"p/{k}.png" for k in range(7)]
    assert source.labels.tolist() == labels
    assert source.class_names == ["0", "1", "2"]
    for i in (6, 0, 3, 3, 5):
        np.testing.assert_array_equal(source.read(i), pixels(i))
        assert source.size_of(i) == len(encoded(pixels(i)))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_plain_binary_column(tmp_path: Path, kind: Any) -> None:
    column = pa.array([encoded(pixels(k)) for k in range(3)], kind)
    source = open_source(save(tmp_path / "a.parquet", {"jpg": column, "class": ["dog", "cat", "dog"]}))
    assert list(source.ids) == [f"a.parquet/000000{k}" for k in range(3)]
    assert source.class_names == ["cat", "dog"]
    assert source.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(source.read(2), pixels(2))


def test_class_names_of_the_metadata(tmp_path: Path) -> None:
    file = save(tmp_path / "a.parquet", {"image": images(2), "label": [2, 0]}, names=["z", "y", "x", "w"])
    assert open_source(file).class_names == ["z", "y", "x", "w"]
    file = save(tmp_path / "b.parquet", {"image": images(2), "label": [2, 4]}, names=["z", "y", "x", "w"])
    with pytest.raises(InputError, match=r"0000001.*below 4"):
        open_source(file)


@pytest.mark.parametrize("metadata", [b"not json", b"[]", b"{}", b'{"info": {"features": []}}', b'{"info": 3}'])
def test_strange_metadata_is_ignored(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"image": images(1), "label": [0]}).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "a.parquet")
    assert open_source(tmp_path / "a.parquet").class_names == ["0"]


def test_categories_are_texts(tmp_path: Path) -> None:
    labels = pa.array(["b", "a", "b"]).dictionary_encode()
    source = open_source(save(tmp_path / "a.parquet", {"image": images(3), "label": labels}))
    assert source.class_names == ["a", "b"]
    assert source.labels.tolist() == [1, 0, 1]


def test_ids_where_paths_are_missing_double_or_unsafe(tmp_path: Path) -> None:
    paths = [
        "ok.png",
        "",
        None,
        "twice.png",
        "twice.png",
        "/etc/x.png",
        "../x.png",
        "a/../x.png",
        "a\\x.png",
        "a\nb.png",
    ]
    rows = pa.array([{"bytes": encoded(pixels(0)), "path": path} for path in paths], STRUCT)
    source = open_source(save(tmp_path / "a.parquet", {"image": rows, "label": [0] * len(paths)}))
    assert list(source.ids) == ["ok.png"] + [f"a.parquet/{k:07d}" for k in range(1, len(paths))]


def test_columns_by_option(tmp_path: Path) -> None:
    columns = {"left": images(2), "right": images(2, 5), "kind": ["a", "b"], "place": ["c", "c"]}
    file = save(tmp_path / "a.parquet", columns)
    with pytest.raises(InputError, match=r"several could be the image column.*--image-column.*left"):
        open_source(file)
    with pytest.raises(InputError, match=r"several could be the label column.*place"):
        open_source(file, image_column="left")
    source = open_source(file, image_column="right", label_column="place")
    np.testing.assert_array_equal(source.read(1), pixels(6))
    assert source.class_names == ["c"]
    with pytest.raises(InputError, match=r"image_column must hold encoded images.*'kind'"):
        open_source(file, image_column="kind")
    with pytest.raises(InputError, match="must be a column"):
        open_source(file, image_column="middle")


def test_usual_names_win(tmp_path: Path) -> None:
    columns = {"mask": images(1, 5), "image": images(1), "id": [7], "coarse_label": [3], "fine_label": [1]}
    source = open_source(save(tmp_path / "a.parquet", columns))
    np.testing.assert_array_equal(source.read(0), pixels(0))
    assert source.labels.tolist() == [1]


def test_without_labels(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without labels cannot be used"):
        open_source(save(tmp_path / "a.parquet", {"image": images(1)}))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, None, 1], "0000001.*missing"),
        ([0, 1, -1], "0000002.*0 or more, got -1"),
        (["a", "", "b"], "0000001.*missing"),
        ([0, 1, 5_000_000], "class numbers"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels: list[Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source(save(tmp_path / "a.parquet", {"image": images(3), "label": labels}))


def test_splits_of_a_folder(tmp_path: Path) -> None:
    for k, name in enumerate(("data/train-00000-of-00002", "data/train-00001-of-00002", "data/test-00000-of-00001")):
        labels = [["dog", "cat"], ["ant", "dog"], ["bee", "dog"]][k]
        save(tmp_path / f"{name}.parquet", {"image": images(2, 10 * k, paths=False), "label": labels})
    source = open_source(tmp_path)
    assert list(source.ids) == [f"data/train-0000{k}-of-00002.parquet/000000{i}" for k in range(2) for i in range(2)]
    assert source.class_names == ["ant", "bee", "cat", "dog"]  # of all splits: every split numbers alike
    assert source.labels.tolist() == [3, 2, 0, 3]
    np.testing.assert_array_equal(source.read(3), pixels(11))
    test = open_source(tmp_path, split="test")
    assert test.class_names == source.class_names
    assert test.labels.tolist() == [1, 3]
    assert len(open_source(tmp_path, split=None)) == 6
    assert [has_split(tmp_path, s) for s in ("train", "val", "test")] == [True, False, True]


def test_splits_by_folders(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        save(tmp_path / split / "0000.parquet", {"image": images(2, paths=False), "label": [0, 1]})
    assert list(open_source(tmp_path, split="val").ids) == [f"validation/0000.parquet/000000{i}" for i in range(2)]


def test_siblings_of_a_file(tmp_path: Path) -> None:
    for name, n in (("x_train", 3), ("x_test", 2), ("x_validation", 1), ("y_test", 4), ("other", 5)):
        save(tmp_path / f"{name}.parquet", {"image": images(n), "label": [0] * n})
    train = tmp_path / "x_train.parquet"
    assert [len(open_source(train, split=s)) for s in ("train", "val", "test", None)] == [3, 1, 2, 3]
    assert [has_split(train, s) for s in ("train", "val", "test")] == [True, True, True]
    # a file named as the test part is never taken for its sibling
    test = tmp_path / "x_test.parquet"
    assert [len(open_source(test, split=s)) for s in ("test", None)] == [2, 2]
    assert not has_split(test, "train")
    with pytest.raises(InputError, match="has no split 'train'"):
        open_source(test)
    # without siblings, a name means nothing
    assert len(open_source(tmp_path / "y_test.parquet")) == 4
    assert not has_split(tmp_path / "y_test.parquet", "test")
    with pytest.raises(InputError, match=r"others such as other\.parquet"):
        open_source(tmp_path)


def test_files_that_differ(tmp_path: Path) -> None:
    save(tmp_path / "1.parquet", {"image": images(1), "label": [0]})
    save(tmp_path / "2.parquet", {"image": images(1), "label": ["a"]})
    with pytest.raises(InputError, match=r"2\.parquet: column 'label' must be int64 as in 1\.parquet, got string"):
        open_source(tmp_path)


def test_bad_rows(tmp_path: Path) -> None:
    rows = pa.array([{"bytes": None, "path": "a.png"}, None, {"bytes": b"", "path": None}, {"bytes": b"zz"}], STRUCT)
    source = open_source(save(tmp_path / "a.parquet", {"image": rows, "label": [0] * 4}))
    for i, words in enumerate(("holds no bytes", "holds no bytes", "empty", "known format")):
        with pytest.raises(BadImageError, match=words):
            source.read(i)
    assert [source.size_of(i) for i in range(4)] == [0, 0, 0, 2]


def test_damaged_file(tmp_path: Path) -> None:
    file = save(tmp_path / "a.parquet", {"image": images(5), "label": [0] * 5}, compression="none", row_group_size=1)
    data = bytearray(file.read_bytes())
    file.write_bytes(data[:-10])
    with pytest.raises(InputError, match="broken"):
        open_source(file)
    file.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="broken"):
        open_source(file)
    data[4:40] = b"\xff" * 36  # the first page's header
    file.write_bytes(data)
    source = open_source(file)
    with pytest.raises(BadImageError, match="row group cannot be read"):
        source.read(0)
    np.testing.assert_array_equal(source.read(4), pixels(4))


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        open_source(save(tmp_path / "a.parquet", {"image": images(0), "label": pa.array([], pa.int64())}))


def test_fingerprint(tmp_path: Path) -> None:
    def print_of(labels: list[int], seed: int = 0) -> str:
        rows = pa.array([{"bytes": encoded(pixels(seed, 8 + seed)), "path": f"{k}"} for k in range(2)], STRUCT)
        return open_source(save(tmp_path / "a.parquet", {"image": rows, "label": labels})).fingerprint()

    assert print_of([0, 1]) == print_of([0, 1])
    assert len({print_of([0, 1]), print_of([1, 0]), print_of([0, 1], 1)}) == 3


def test_large_row_groups_are_streamed_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All orders of reading give the right images, whatever the block size, and the cache stays bounded."""
    file = save(tmp_path / "a.parquet", {"image": images(50), "label": [0] * 50}, row_group_size=23)
    size = len(encoded(pixels(0)))
    monkeypatch.setattr(rowblocks, "GROUP_BYTES", 8 * size)
    monkeypatch.setattr(rowblocks, "BLOCK_BYTES", 5 * size)
    monkeypatch.setattr(rowblocks, "CACHE_BYTES", 11 * size)
    rng = np.random.default_rng(0)
    for order in (np.arange(50), np.arange(50)[::-1], rng.permutation(50)):
        source = open_source(file)
        assert isinstance(source, parquet.ParquetSource)
        blocks = source._blocks
        assert len(blocks._starts) > 6
        for i in order.tolist():
            np.testing.assert_array_equal(source.read(i), pixels(i))
            assert source.size_of(i) == len(encoded(pixels(i)))
            assert len(blocks._cache) <= 3


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_block_of_several_sliced_arrays(kind: Any) -> None:
    rows = [b"zero", b"", None, b"three", b"4", None, b"sixth", b"7"]
    whole = pa.array(rows, kind)
    block = rowblocks._Block.of([whole.slice(1, 3), whole.slice(5, 0), whole.slice(4, 4), pa.array([None], kind)])
    assert [block[k] for k in range(8)] == [*rows[1:], None]
    assert block.lengths.tolist() == [0, -1, 5, 1, -1, 5, 1, -1]
    assert len(block.data) == 12  # nothing of the rows that were sliced away


def test_a_block_is_read_once_by_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(tmp_path / "a.parquet", {"image": images(40), "label": [0] * 40}, row_group_size=10)
    source = open_source(file)
    reads: list[int] = []
    lock = threading.Lock()
    original = rowblocks._Group.read

    def counted(self: Any, block: int) -> Any:
        with lock:
            reads.append(self.number)
        time.sleep(0.02)  # long enough for the others to come while it is being read
        return original(self, block)

    monkeypatch.setattr(rowblocks._Group, "read", counted)
    with ThreadPoolExecutor(8) as pool:
        for i, image in enumerate(pool.map(source.read, range(40))):
            np.testing.assert_array_equal(image, pixels(i))
    assert sorted(reads) == [0, 1, 2, 3]


def test_real_photos(real_data: Path) -> None:
    file = real_data / "clothing128_train.parquet"
    source = open_source(file)
    assert len(source) == 3068
    assert len(source.class_names) == 10
    assert len(set(source.ids)) == 3068
    assert all(id.endswith(".jpg") for id in source.ids)
    assert source.read(3067).shape == (128, 128, 3)
    assert [len(open_source(file, split=s)) for s in ("val", "test")] == [341, 372]
    table = pq.read_table(file)
    row = table.slice(1234, 1).to_pylist()[0]
    assert source.size_of(1234) == len(row["image"]["bytes"])
    assert source.labels[1234] == row["label"]
