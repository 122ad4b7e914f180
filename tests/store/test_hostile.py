"""Stores that are damaged, foreign, or made to hurt: an InputError that says what, never anything else."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dq_fast.errors import InputError
from dq_fast.store import PackedStore

from .cases import samples, tree, write


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    items = samples(12, [(16, 20), (9, 9)], 4)
    return write(tmp_path_factory.mktemp("made") / "s", items, 4, patches_per_mosaic=40)


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "s"))


def read_all(path: Path, **options: Any) -> list[np.ndarray]:
    store = PackedStore(path, **options)
    return [store.patches(i)[0] for i in range(len(store))]


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest and make the seal agree: a forger's work, who has the keys too."""
    content = json.loads((folder / "manifest.json").read_text())
    edit(content)
    (folder / "manifest.json").write_text(json.dumps(content))
    seal(folder)


def seal(folder: Path) -> None:
    path = folder / "keys" / "seal.json"
    if path.is_file():
        digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        path.write_text(json.dumps({**json.loads(path.read_text()), "manifest": digest}))


def replace(folder: Path, name: str, data: bytes) -> None:
    """Put other bytes into a file and make the manifest agree: a forger's work, not chance."""
    (folder / name).write_bytes(data)
    record = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(folder, lambda content: content["files"].__setitem__(name, record))


def image_bytes(size: tuple[int, int], mode: str = "RGB", format: str = "WEBP", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def set_path(content: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    for step in way:
        content = content[int(step)] if isinstance(content, list) else content[step]
    if value is KeyError:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "other", "manifest of a dq_fast store"),
        ("version", 2, "newer dq_fast"),
        ("version", True, "newer dq_fast"),
        ("version", KeyError, "newer dq_fast"),
        ("patch", 0, "patch must be"),
        ("patch", "4", "patch must be a int"),
        ("patch", 1 << 60, "patch must be"),
        ("codec", [], "codec must be"),
        ("codec.name", "gif", "codec must be one of"),
        ("codec.name", [], "codec must be one of"),
        ("codec.quality", 50, "lossless"),
        ("layout", "bands", "layout must be one of tiles.*newer"),
        ("layout", [], "layout must be one of tiles.*newer"),
        ("shuffle.algorithm", "xor", "newer"),
        ("shuffle", None, "shuffle must be"),
        ("keys.encryption", "scrypt", "keys must be in a way that is known"),
        ("keys.folder", "../keys", "keys must be in a way that is known"),
        ("class_names", "abc", "class_names must be a list"),
        ("class_names", [1, 2, 3], "class_names must be strings"),
        ("class_names", ["a"], "labels"),
        ("hflip", 1, "hflip must be"),
        ("counts.images", 13, "counts.images"),
        ("counts.images", -1, "images must be"),
        ("shards", {}, "shards must be a list"),
        ("shards", [], "counts.images must be the shards' sum 0"),
        ("files", {}, "index.npz must be a dict"),
        ("files.index\0npz.sha256", "0" * 64, "SHA-256"),
        ("files.index\0npz.sha256", "zz", "hex digits"),
        ("files.index\0npz.bytes", 3, "3 bytes"),
        ("files.index\0npz.bytes", 1.5, "bytes must be a int"),
    ],
)
def test_manifests_that_are_not_so(folder, path, value, message):
    def edit(content: dict[str, Any]) -> None:
        content["files"]["index\0npz"] = content["files"].pop("index.npz") if "\0" in path else None
        if "\0" not in path:
            del content["files"]["index\0npz"]
        set_path(content, path, value)
        if "\0" in path:
            content["files"]["index.npz"] = content["files"].pop("index\0npz")

    change(folder, edit)
    with pytest.raises(InputError, match=message):
        PackedStore(folder)


@pytest.mark.parametrize("field", ["images", "patches", "channels"])
@pytest.mark.parametrize("value", [0, -1, 2, "3", None, 1 << 40, True])
def test_shards_with_wrong_numbers(folder, field, value):
    change(folder, lambda content: content["shards"][1].__setitem__(field, value))
    with pytest.raises(InputError):
        read_all(folder)


@pytest.mark.parametrize("name", ["../outside.webp", "/etc/passwd", "shards/../../x", "shards/00099.webp", "C:\\x"])
def test_names_in_the_manifest_lead_nowhere(folder, name):
    record = {"bytes": 1, "sha256": "0" * 64}
    change(folder, lambda content: content["files"].__setitem__(name, record))
    with pytest.raises(InputError, match="files must list"):
        PackedStore(folder)
    change(folder, lambda content: content["files"].pop(name))
    change(folder, lambda content: content["files"].__setitem__(name, content["files"].pop("shards/00000.webp")))
    with pytest.raises(InputError, match="shards/00000"):
        PackedStore(folder)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}'])
def test_manifests_that_are_no_json(folder, data):
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(InputError, match=r"manifest\.json"):
        PackedStore(folder)


def test_what_is_no_store(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="folder of a finished store"):
            PackedStore(path)


@pytest.mark.parametrize("cut", [0, 1, 0.5, -3])
def test_truncated_files(folder, cut):
    for name, data in tree(folder).items():
        length = int(cut * len(data)) if isinstance(cut, float) else (cut if cut >= 0 else len(data) + cut)
        (folder / name).write_bytes(data[:length])
        with pytest.raises(InputError):
            read_all(folder)
        (folder / name).write_bytes(data)
    read_all(folder)


def test_flipped_bits_are_found_everywhere(folder):
    rng = np.random.default_rng(0)
    for name, data in tree(folder).items():
        for place in rng.integers(0, len(data), 8):
            broken = bytearray(data)
            broken[place] ^= 1 << rng.integers(0, 8)
            (folder / name).write_bytes(broken)
            message = {"manifest.json": "manifest", "keys/seal.json": "seal"}.get(name, "SHA-256")
            with pytest.raises(InputError, match=message):
                read_all(folder)
            if name.startswith(("shards/0", "keys/0")):
                assert any(name.rpartition("/")[2] in problem for problem in PackedStore(folder).verify())
        (folder / name).write_bytes(data)
    assert PackedStore(folder).verify() == []


def test_flipped_bits_that_the_manifest_agrees_with_do_not_crash(folder):
    """The hashes are made to fit: what reads the files has to notice, or read something of the right shape."""
    rng = np.random.default_rng(1)
    noticed = 0
    for name, data in tree(folder).items():
        for _ in range(0 if name in ("manifest.json", "keys/seal.json") else 8):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                broken[place] = rng.integers(0, 256)
            replace(folder, name, bytes(broken))
            try:
                arrays = read_all(folder)
            except InputError:
                noticed += 1
            else:
                assert len(arrays) == 12
            replace(folder, name, data)
    assert noticed > 5


def test_swapped_shards_and_keys(folder):
    for kind in ("shards/{}.webp", "keys/{}.npy"):
        a, b = folder / kind.format("00000"), folder / kind.format("00001")
        first, second = a.read_bytes(), b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)
        with pytest.raises(InputError):
            read_all(folder)
        a.write_bytes(first)
        b.write_bytes(second)


def test_missing_files(folder):
    for name, data in tree(folder).items():
        (folder / name).unlink()
        with pytest.raises(InputError):
            read_all(folder)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (image_bytes((4, 4), lossless=True), "must be a mosaic of"),
        (image_bytes((11000, 10), lossless=True), "at most 10240 px"),
        (image_bytes((200, 200), "L", "PNG"), "must be a WEBP file"),
        (image_bytes((28, 24), "RGBA", lossless=True, exact=True), "mode RGBA"),
        (b"RIFF\xff\xff\xff\xffWEBPVP8L", "WEBP|whole image"),
        (b"", "WEBP"),
        (b"x" * 1000, "WEBP"),
        (pickle.dumps({"a": 1}), "WEBP"),
    ],
)
def test_mosaics_that_are_none(folder, data, message):
    replace(folder, "shards/00000.webp", data)
    with pytest.raises(InputError, match=message):
        read_all(folder)
    assert any("00000.webp" in problem for problem in PackedStore(folder).verify())


@pytest.mark.parametrize("size", [(20000, 20000), (60000, 60000), (9000, 10)])
def test_png_bombs(tmp_path, size):
    folder = write(tmp_path / "s", samples(3, [(8, 8)], 4), 4, codec="png")
    replace(folder, "shards/00000.png", image_bytes((4, 4), "L", "PNG")[:16] + _png_size(size))
    with pytest.raises(InputError):
        read_all(folder)


def _png_size(size: tuple[int, int]) -> bytes:
    """The rest of a PNG whose header declares `size`."""
    import struct
    import zlib

    body = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return body + struct.pack(">I", zlib.crc32(b"IHDR" + body)) + chunk


def _index(**changes: np.ndarray | bytes | None) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        arrays = dict(np.load(io.BytesIO(data)))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                value = changes.get(name, array)
                if value is not None:
                    archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
        return out.getvalue()

    return edit


HUGE = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<i8', 'fortran_order': False, 'shape': (1152921504606846976,), }".ljust(117)
    + b"\n"
)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: b"", "npz"),
        (lambda data: data[: len(data) // 2], "npz"),
        (_index(labels=None), "labels"),
        (_index(labels=np.zeros(11, "<i8")), "labels"),
        (_index(labels=np.full(12, 3, "<i8")), "labels"),
        (_index(labels=np.full(12, -1, "<i8")), "labels"),
        (_index(labels=np.zeros((12, 1), "<i8")), "labels"),
        (_index(labels=np.zeros(12, "<f8")), "labels"),
        (_index(labels=np.zeros(12, ">i8")), "labels"),
        (_index(labels=HUGE), "labels"),
        (_index(labels=npy(np.zeros(11, "<i8")) + bytes(8)), "header says 11"),
        (_index(labels=np.zeros(10**6, "<i8")), "at most"),
        (_index(labels=b"\x93NUMPY\x03\x00"), "npy"),
        (_index(labels=b"\x93NUMPY\x01\x00\xff\xff{"), "header"),
        (_index(labels=b"\x93NUMPY\x01\x00\x10\x00" + b"[" * 16), "header"),
        (_index(labels=np.array([{}] * 12, dtype=object).dumps()), "npy"),
        (_index(heights=np.zeros(12, "<i4")), "at least 1"),
        (_index(heights=np.full(12, 2**31 - 1, "<i4")), "pixels"),
        (_index(heights=np.full(12, 2**31 - 1, "<i4"), widths=np.full(12, 2**31 - 1, "<i4")), "pixels"),
        (_index(heights=np.full(12, 1, "<i4"), widths=np.full(12, 1, "<i4")), "patches of shard"),
        (_index(id_offsets=np.arange(13, dtype="<i8")), "id_offsets"),
        (_index(id_offsets=np.full(13, -5, "<i8")), "id_offsets"),
        (_index(id_bytes=np.zeros(0, "|u1"), id_offsets=np.zeros(13, "<i8")), "unique"),
        (_index(id_bytes=np.full(156, 0xFF, "|u1"), id_offsets=np.arange(0, 157, 13, dtype="<i8")), "UTF-8"),
        (_index(id_bytes=np.zeros(10**6, "|u1")), "at most|id_offsets"),
    ],
)
def test_indexes_that_are_not_so(folder, edit, message):
    replace(folder, "index.npz", edit((folder / "index.npz").read_bytes()))
    with pytest.raises(InputError, match=message):
        PackedStore(folder)


def test_keys_that_are_not_so(folder):
    name = "keys/00000.npy"
    key = np.load(folder / name)
    grid = 20  # the first image: 4 x 5 patches, 3 bytes of mask, 4 bits left over
    more, none, outside = key.copy(), key.copy(), key.copy()
    more[32] ^= 1
    none[32:35] = 0
    outside[32 + 2] |= 1 << (grid - 16)
    swapped = outside.copy()  # as many bits as before, one of them outside of the grid
    first = int(np.flatnonzero(np.unpackbits(key[32:35], bitorder="little"))[0])
    swapped[32 + first // 8] ^= 1 << first % 8
    for broken in (
        more,
        none,
        outside,
        swapped,
        key[:-1],
        np.append(key, np.uint8(0)),
        key[:0],
        key.astype("<u2"),
        key[None],
    ):
        replace(folder, name, npy(broken))
        with pytest.raises(InputError, match=r"00000\.npy"):
            read_all(folder)
        assert any("00000.npy" in problem for problem in PackedStore(folder).verify())


def test_without_keys_nothing_can_be_put_back(folder, tmp_path):
    shutil.move(folder / "keys", tmp_path / "safe")
    store = PackedStore(folder)
    assert len(store.ids) == 12
    assert store.mosaic(0).ndim == 3
    with pytest.raises(InputError, match=r"position keys of .* are missing: there is no .*keys=FOLDER"):
        store.patches(0)
    (problem,) = store.verify()
    assert "position keys" in problem
    elsewhere = PackedStore(folder, keys=tmp_path / "safe")
    assert elsewhere.verify() == []
    assert len(read_all(folder, keys=tmp_path / "safe")) == 12


def test_keys_of_another_store_are_refused(folder, tmp_path):
    other = write(tmp_path / "other", samples(12, [(16, 20), (9, 9)], 4), 4, patches_per_mosaic=40, seed=9)
    with pytest.raises(InputError, match="another store's"):
        read_all(folder, keys=other / "keys")
    (folder / "keys" / "00000.npy").write_bytes((other / "keys" / "00000.npy").read_bytes())
    with pytest.raises(InputError, match="SHA-256"):
        read_all(folder)


def test_files_beside_are_told(folder):
    (folder / "shards" / "extra").write_text("x")
    assert PackedStore(folder).verify() == [f"{folder}/shards/extra is not listed in the manifest"]


def test_wrong_counts_are_told(folder):
    change(folder, lambda content: content["counts"].__setitem__("patches", 5))
    assert any("counts.patches" in problem for problem in PackedStore(folder).verify())


def test_a_pickled_store_reopens(made):
    store = PackedStore(made)
    again = pickle.loads(pickle.dumps(store))
    assert (again.patches(3)[0] == store.patches(3)[0]).all()
    assert len(pickle.dumps(store)) < 1000


def test_the_cache_keeps_what_fits(made):
    store = PackedStore(made, cache_bytes=0)
    everything = [store.patches(i)[0].copy() for i in range(12)]
    assert [s for s in range(store.n_shards) if s in store._cache] == [store.n_shards - 1]
    roomy = PackedStore(made)
    for i in np.random.default_rng(0).permutation(12):
        assert (roomy.patches(int(i))[0] == everything[i]).all()
    assert all(s in roomy._cache for s in range(roomy.n_shards))


def test_index_range(made):
    store = PackedStore(made)
    assert (store.patches(-1)[0] == store.patches(11)[0]).all()
    for i in (12, -13):
        with pytest.raises(IndexError):
            store.patches(i)
    with pytest.raises(InputError):
        store.mosaic(99)
