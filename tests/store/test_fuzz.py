"""Damage and forgery at random places of every file: an InputError that says what, or exactly what was stored.

Quick by default, with a fixed seed. ``DQ_FAST_FUZZ=SECONDS`` goes on for that long with seeds of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dq_fast.data import open_source
from dq_fast.errors import InputError
from dq_fast.restore import Store
from dq_fast.store import Keys, StoreWriter
from dq_fast.store import keys as keys_module

from .cases import samples, tree

ROUNDS = 25  # for each kind of store and way of breaking it
FILES = {"png": "png", "webp-lossless": "webp", "jpeg": "jpg", "avif": "avif"}

Files = dict[str, bytes]
Break = Callable[[np.random.Generator, Files, list[Files]], Files]


def flip(rng: np.random.Generator, files: Files, _: list[Files]) -> Files:
    """One to four bits of one file."""
    name = str(rng.choice(sorted(files)))
    data = bytearray(files[name])
    for place in rng.integers(0, len(data), rng.integers(1, 5)):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return {**files, name: bytes(data)}


def cut(rng: np.random.Generator, files: Files, _: list[Files]) -> Files:
    """The end of one file is lost, or something stands behind it."""
    name = str(rng.choice(sorted(files)))
    data = files[name]
    if rng.random() < 0.3:
        return {**files, name: data + rng.bytes(int(rng.integers(1, 50)))}
    return {**files, name: data[: int(rng.integers(0, len(data)))]}


def lose(rng: np.random.Generator, files: Files, _: list[Files]) -> Files:
    """One file is not there."""
    name = str(rng.choice(sorted(files)))
    return {other: data for other, data in files.items() if other != name}


def swap(rng: np.random.Generator, files: Files, _: list[Files]) -> Files:
    """Two files change places."""
    a, b = (str(name) for name in rng.choice(sorted(files), 2, replace=False))
    return {**files, a: files[b], b: files[a]}


def mix(rng: np.random.Generator, files: Files, others: list[Files]) -> Files:
    """Some files are those of another store of the same kind: wrong keys, an older shard, a foreign manifest."""
    other = others[int(rng.integers(0, len(others)))]
    common = sorted(set(files) & set(other))
    chosen = rng.choice(common, int(rng.integers(1, len(common))), replace=False)
    return {**files, **{str(name): other[str(name)] for name in chosen}}


def overwrite(rng: np.random.Generator, files: Files, _: list[Files]) -> Files:
    """A stretch of one file becomes zeros, or noise, or another stretch of it."""
    name = str(rng.choice(sorted(files)))
    data = bytearray(files[name])
    begin = int(rng.integers(0, len(data)))
    length = min(int(rng.integers(1, 64)), len(data) - begin)
    source = int(rng.integers(0, len(data) - length + 1))
    filling = (bytes(length), rng.bytes(length), bytes(data[source : source + length]))[int(rng.integers(0, 3))]
    data[begin : begin + length] = filling
    return {**files, name: bytes(data)}


BREAKS: tuple[Break, ...] = (flip, cut, lose, swap, mix, overwrite)


class Case:
    """Two stores of one kind as files in memory (keys under ``keys/``), and what they hold."""

    def __init__(self, folder: Path, codec: str, encrypted: bool) -> None:
        self.folder, self.codec, self.passphrase = folder, codec, "sesame" if encrypted else None
        patch = 8 if codec in ("jpeg", "avif") else 4
        self.stores: list[Files] = []
        for seed in range(2):
            path = folder / f"made{seed}"
            keys = Keys(folder / f"keys{seed}", self.passphrase) if encrypted else None
            with StoreWriter(
                path, patch=patch, codec=codec, class_names=["a", "b", "c"], patches_per_mosaic=30, seed=seed, keys=keys
            ) as writer:
                for item in samples(8, [(16, 20), (9, 9)], patch, seed=seed):
                    writer.add(item.id, item.label, item.image, item.kept)
                writer.close(source={"hflip": True})
            files = tree(path)
            if encrypted:
                files |= {f"keys/{name}": data for name, data in tree(folder / f"keys{seed}").items()}
            self.stores.append(files)
        self.truths = [self.read(files) for files in self.stores]

    def read(self, files: Files) -> list[object]:
        """Everything a reader is told: ids, labels, names, sizes, pixels."""
        path = self.folder / "broken"
        for name in self.stores[0] if self.stores else ():
            (path / name).unlink(missing_ok=True)
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        store = Store(path, keys=Keys(path / "keys", self.passphrase) if (path / "keys").is_dir() else None)
        found: list[object] = [list(store.ids), store.labels.tolist(), store.class_names, store.hflip]
        for i in range(len(store)):
            image, dropped = store.kept(i)
            found += [image.shape, image.tobytes(), dropped.tobytes()]
        return found


def attack(case: Case, rng: np.random.Generator, break_: Break) -> bool:
    """Break the store once; whether it was refused. What is not refused must be what was stored."""
    which = int(rng.integers(0, 2))
    broken = break_(rng, case.stores[which], [case.stores[1 - which]])
    try:
        found = case.read(broken)
    except InputError as error:
        if not str(error) or "\n" in str(error):
            raise AssertionError("the error must be a line") from error
        return True
    # bytes that say the same, such as a space in the seal; or all of the other store's files
    assert found in case.truths
    return False


@pytest.mark.parametrize(("codec", "encrypted"), [("png", True), ("jpeg", False)])
def test_broken_stores_are_refused_or_whole(tmp_path, monkeypatch, codec, encrypted):
    monkeypatch.setattr(keys_module, "_LOG_N", 14)
    derived: dict[tuple[str, keys_module.Cost], keys_module.KeyCipher] = {}
    derive = keys_module.KeyCipher.derive

    def derive_once(passphrase: str, cost: keys_module.Cost) -> keys_module.KeyCipher:
        if (passphrase, cost) not in derived:
            derived[passphrase, cost] = derive(passphrase, cost)
        return derived[passphrase, cost]

    monkeypatch.setattr(keys_module.KeyCipher, "derive", derive_once)
    case = Case(tmp_path, codec, encrypted)
    rng = np.random.default_rng(hash_of(codec, encrypted))
    for break_ in BREAKS:  # "mix" may take all files of the other store: then it is that one
        refused = sum(attack(case, rng, break_) for _ in range(ROUNDS))
        assert refused >= 0.7 * ROUNDS, break_.__name__


def hash_of(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


@pytest.mark.skipif("DQ_FAST_FUZZ" not in os.environ, reason="set DQ_FAST_FUZZ to a number of seconds")
@pytest.mark.timeout(0)
def test_for_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(keys_module, "_LOG_N", 14)
    seconds, seed = float(os.environ["DQ_FAST_FUZZ"]), int(time.time())
    cases = [Case(tmp_path / f"{c}{e}", c, e) for c in FILES for e in (False, True)]
    end, done, refused = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        rng = np.random.default_rng(seed + done)
        case, break_ = cases[done % len(cases)], BREAKS[int(rng.integers(0, len(BREAKS)))]
        try:
            refused += attack(case, rng, break_)
        except BaseException as error:
            raise AssertionError(f"seed {seed + done}, {case.codec}, {break_.__name__}") from error
        done += 1
    assert refused > 0.8 * done, f"{refused} of {done}"


def forge(files: Files, name: str, data: bytes) -> Files:
    """A forger's store, who has the plain keys too: hashes and seal agree with the changed file."""
    changed = {**files, name: data}
    content = json.loads(changed["manifest.json"])
    content["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    changed["manifest.json"] = json.dumps(content).encode()
    seal = json.loads(changed["keys/seal.json"])
    seal["manifest"] = hashlib.sha256(changed["manifest.json"]).hexdigest()
    return {**changed, "keys/seal.json": json.dumps(seal).encode()}


@pytest.mark.parametrize("codec", sorted(FILES))
def test_forged_files_do_not_crash_the_reader(tmp_path, codec):
    """Whoever has everything can store other pixels; but a reader fails by saying so, if it fails."""
    case = Case(tmp_path, codec, encrypted=False)
    files, rng = case.stores[0], np.random.default_rng(hash_of(codec))
    names = [name for name in files if name not in ("manifest.json", "keys/seal.json")]
    noticed = 0
    for round in range(100):
        name = names[round % len(names)]
        changed = (flip, cut, overwrite)[round % 3](rng, {name: files[name]}, [])[name]
        try:
            case.read(forge(files, name, changed))
        except InputError:
            noticed += 1
    assert noticed > 30


def bomb(codec: str) -> bytes:
    """A small file of that format that says it has 20,000 x 20,000 px."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, {"webp-lossless": "WEBP"}.get(codec, codec.upper()), lossless=True)
    data = bytearray(file.getvalue())
    if codec == "png":
        import struct
        import zlib

        data[16:24] = struct.pack(">II", 20000, 20000)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    elif codec == "jpeg":
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = (20000).to_bytes(2, "big") * 2
    elif codec == "webp-lossless":  # 14 bits each of width and height less one
        place = data.index(b"VP8L") + 9
        data[place : place + 4] = (16382 | 16382 << 14).to_bytes(4, "little")
    else:
        place = data.index(b"ispe") + 8
        data[place : place + 8] = (20000).to_bytes(4, "big") * 2
    return bytes(data)


@pytest.mark.parametrize("codec", sorted(FILES))
def test_bombs_of_pixels(tmp_path, codec):
    case = Case(tmp_path, codec, encrypted=False)
    forged = forge(case.stores[0], f"shards/00000.{FILES[codec]}", bomb(codec))
    with pytest.raises(InputError, match="shards/00000"):
        case.read(forged)


def test_hostile_names_lead_nowhere(tmp_path):
    """Names that climb are refused in a tar; ids and class names that do are made harmless in an export."""
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    names = ["../../up", "/abs/olute", "a/../../b", "..\\win", "C:\\x", "nul", ".hidden", "a\nb", "x" * 200, "ü/ß"]
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in ("../../up", "/abs/olute", "a/../../b"):
        with tarfile.open(shards / "000.tar", "w") as archive:
            for suffix, data in ((".png", picture.getvalue()), (".cls", b"0")):
                entry = tarfile.TarInfo(name + suffix)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        with pytest.raises(InputError, match="relative paths"):
            open_source(str(shards))
    with StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=names) as writer:
        for label, id in enumerate(names):  # not every source is a tar
            writer.add(id, label, np.asarray(Image.open(picture)), np.arange(4))
        writer.close()
    before = {path for path in tmp_path.rglob("*") if (tmp_path / "deep") not in path.parents}
    store = Store(tmp_path / "s")
    store.export(tmp_path / "deep" / "er" / "out")
    after = {path for path in tmp_path.rglob("*") if (tmp_path / "deep") not in path.parents}
    assert after - before <= {tmp_path / "deep"}
    written = [path for path in (tmp_path / "deep" / "er" / "out").rglob("*") if path.is_file()]
    assert len(written) == len(store) + 1
    assert not any(path.is_symlink() for path in (tmp_path / "deep").rglob("*"))
