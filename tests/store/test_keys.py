"""Position keys kept elsewhere, and encrypted ones."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from dq_fast.errors import InputError
from dq_fast.store import Keys, PackedStore, StoreWriter
from dq_fast.store import keys as keys_module

from .cases import Sample, close, cut, mini_reader, samples, tree, write

PASSPHRASE = "correct horse – ü"


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least cost that a reader takes: 20 ms instead of 400."""
    monkeypatch.setattr(keys_module, "_LOG_N", 14)


ITEMS = samples(12, [(16, 20), (9, 9)], 4)


@pytest.fixture
def locked(tmp_path) -> tuple[Path, Path]:
    """An encrypted store and its keys, kept elsewhere."""
    keys = tmp_path / "safe" / "keys"
    return write(tmp_path / "s", ITEMS, 4, patches_per_mosaic=40, keys=keys, passphrase=PASSPHRASE), keys


def check(store: PackedStore, items: list[Sample] = ITEMS) -> None:
    for i, item in enumerate(items):
        patches, positions = store.patches(i)
        assert positions.tolist() == item.kept.tolist()
        assert (patches == cut(item, 4)).all()


def test_keys_kept_elsewhere(tmp_path):
    folder, keys = write(tmp_path / "s", ITEMS, 4, patches_per_mosaic=40, keys=tmp_path / "keys"), tmp_path / "keys"
    assert not (folder / "keys").exists()
    assert sorted(path.name for path in keys.iterdir())[-1] == "seal.json"
    shuffle = json.loads((folder / "manifest.json").read_text())["shuffle"]
    assert shuffle["secret"] is True  # a seed in the manifest would undo it
    assert shuffle["seed"] is None
    check(PackedStore(folder, keys=keys))
    assert PackedStore(folder, keys=keys).verify() == []
    store = PackedStore(folder)
    assert len(store) == 12
    assert store.mosaic(0).ndim == 3
    with pytest.raises(InputError, match=r"position keys of .* are missing.*cannot be put back.*--keys"):
        store.patches(0)
    with pytest.raises(InputError, match="keys must be the folder"):
        PackedStore(folder, keys=tmp_path / "nowhere")
    with pytest.raises(InputError, match="are missing"):
        PackedStore(folder, keys=folder / "shards").patches(0)
    moved = shutil.copytree(keys, folder / "keys")  # put back into the store
    check(PackedStore(folder))
    assert PackedStore(folder).verify() == []
    with pytest.raises(InputError, match="not encrypted"):
        PackedStore(folder, keys=moved, passphrase="x")


def test_an_independent_program_reads_keys_put_back(tmp_path):
    folder = write(tmp_path / "s", ITEMS, 4, patches_per_mosaic=40, keys=tmp_path / "keys")
    (tmp_path / "keys").rename(folder / "keys")
    for (name, _, image, known), item in zip(mini_reader(folder), ITEMS, strict=True):
        assert name == item.id
        assert (image[known] == item.image[known]).all()


def test_folders_for_keys_that_are_refused(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("x")
    for keys, message in (
        (tmp_path / "used", "empty"),
        (tmp_path / "s", "outside"),
        (tmp_path / "s" / "keys", "outside"),
    ):
        with pytest.raises(InputError, match=message):
            StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a"], keys=keys)
    assert not (tmp_path / "s").exists()
    with pytest.raises(InputError, match="secret must not be False"):
        StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a"], passphrase="x", secret=False)
    with pytest.raises(InputError, match="passphrase must be"):
        StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a"], passphrase="")


def test_encrypted_keys(locked, tmp_path):
    folder, keys = locked
    check(PackedStore(folder, keys=keys, passphrase=PASSPHRASE))
    decomposed = PASSPHRASE.replace("ü", "u\u0308")  # as another keyboard types it
    check(PackedStore(folder, keys=Keys(keys, decomposed)))
    assert PackedStore(folder, keys=keys, passphrase=PASSPHRASE).verify() == []
    store = PackedStore(folder, keys=keys)
    assert list(store.ids) == [item.id for item in ITEMS]
    with pytest.raises(InputError, match="encrypted: give their passphrase"):
        store.patches(0)
    assert ["encrypted" in problem for problem in store.verify()] == [True]
    for wrong in ("Correct horse – ü", PASSPHRASE + " ", "x"):
        with pytest.raises(InputError, match="passphrase must be that of the keys"):
            PackedStore(folder, keys=keys, passphrase=wrong)
    plain = write(tmp_path / "plain", ITEMS, 4, patches_per_mosaic=40)
    for path in keys.glob("*.key"):
        key = np.load(plain / "keys" / f"{path.stem}.npy")
        assert key[32:].tobytes() not in path.read_bytes()
    texts = [data for part in (folder, keys) for data in tree(part).values()]
    assert not any(PASSPHRASE.encode() in data for data in texts)


def test_the_documented_format_of_encrypted_keys(locked):
    """As docs/STORE.md has it, with the hashes of the standard library."""
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    folder, keys = locked
    seal = json.loads((keys / "seal.json").read_text())
    cost = seal["encryption"]
    master = hashlib.scrypt(
        PASSPHRASE.encode(), salt=bytes.fromhex(cost["salt"]), n=1 << cost["log2_n"], r=cost["r"], p=cost["p"], dklen=32
    )

    def part(purpose: bytes) -> bytes:
        extracted = hmac.digest(bytes(32), master, "sha256")
        return hmac.digest(extracted, b"dq_fast store " + purpose + b"\x01", "sha256")

    assert seal["check"] == part(b"check")[:16].hex()
    manifest = (folder / "manifest.json").read_bytes()
    assert seal["manifest"] == hmac.digest(part(b"seal"), manifest, "sha256").hex()
    for shard in range(len(json.loads(manifest)["shards"])):
        data = (keys / f"{shard:05d}.key").read_bytes()
        magic, version, log_n, r, p, salt, nonce = struct.unpack("<6sBBBB16s12s", data[:38])
        assert (magic, version, log_n, r, p) == (b"DQKEYS", 1, cost["log2_n"], cost["r"], cost["p"])
        assert salt.hex() == cost["salt"]
        mosaic = hashlib.sha256((folder / f"shards/{shard:05d}.webp").read_bytes()).digest()
        bound = data[:38] + struct.pack("<Q", shard) + mosaic
        assert AESGCM(part(b"keys")).decrypt(nonce, data[38:], bound)[:6] == b"\x93NUMPY"


def test_changed_swapped_and_cut_keys(locked):
    folder, keys = locked
    rng = np.random.default_rng(0)
    whole = tree(keys)

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            check(PackedStore(folder, keys=keys, passphrase=PASSPHRASE))

    for name in ("00000.key", "seal.json"):
        data = whole[name]
        for place in rng.integers(0, len(data), 4):
            broken = bytearray(data)
            broken[place] ^= 1 << rng.integers(0, 8)
            (keys / name).write_bytes(broken)
            refused("keys")
        for length in (0, 37, len(data) - 2):  # the seal's last byte is a line's end
            (keys / name).write_bytes(data[:length])
            refused("keys")
        (keys / name).write_bytes(data)
    (keys / "00000.key").write_bytes(whole["00001.key"])
    refused("bytes|SHA-256")


def test_what_a_forger_without_the_passphrase_can_do(locked):
    """He may write what he likes, the manifest and its hashes too: nothing of it is read."""
    import hashlib

    folder, keys = locked
    before = (folder / "manifest.json").read_bytes()
    content = json.loads(before)
    content["class_names"] = ["b", "a", "c"]
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"manifest\.json must be the one that"):
        PackedStore(folder, keys=keys, passphrase=PASSPHRASE)
    # a seal without encryption, and keys in clear: he gets past neither with the passphrase given
    seal = {"format": "dq_fast keys", "version": 1, "encryption": None}
    digest = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    saved = (keys / "seal.json").read_bytes()
    (keys / "seal.json").write_text(json.dumps({**seal, "manifest": digest}))
    with pytest.raises(InputError, match="not encrypted"):
        PackedStore(folder, keys=keys, passphrase=PASSPHRASE)
    with pytest.raises(InputError, match="must agree"):
        PackedStore(folder, keys=keys).patches(0)
    (keys / "seal.json").write_bytes(saved)
    (folder / "manifest.json").write_bytes(before)
    check(PackedStore(folder, keys=keys, passphrase=PASSPHRASE))
    # a cipher's own binding, were the manifest believed
    cipher = PackedStore(folder, keys=keys, passphrase=PASSPHRASE)._keys.cipher
    assert cipher is not None
    data, other = (keys / "00000.key").read_bytes(), "0" * 64
    digest = content["files"]["shards/00000.webp"]["sha256"]
    assert cipher.decrypt(data, 0, digest, "key")[:6] == b"\x93NUMPY"
    for shard, mosaic in ((1, digest), (0, other)):
        with pytest.raises(InputError, match="belongs to another shard"):
            cipher.decrypt(data, shard, mosaic, "key")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("log2_n", 63, "scrypt with log2 n"),
        ("log2_n", 20, "1 GiB"),
        ("log2_n", 1, "scrypt with log2 n"),
        ("r", 0, "r up to"),
        ("p", 1 << 40, "p up to"),
        ("p", "1", "whole number"),
        ("salt", "zz" * 16, "hex digits"),
        ("salt", 7, "hex digits"),
        ("kdf", "md5", "encryption must be"),
        ("cipher", None, "encryption must be"),
    ],
)
def test_seals_that_ask_for_too_much_or_too_little(locked, field, value, message):
    folder, keys = locked
    content = json.loads((keys / "seal.json").read_text())
    content["encryption"].update({"r": 32} if message == "1 GiB" else {}, **{field: value})
    (keys / "seal.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        PackedStore(folder, keys=keys, passphrase=PASSPHRASE)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"[" * 60_000, b'{"format": "dq_fast keys"}', b" " * 70_000])
def test_seals_that_are_none(locked, data):
    folder, keys = locked
    (keys / "seal.json").write_bytes(data)
    with pytest.raises(InputError, match=r"seal\.json"):
        PackedStore(folder, keys=keys, passphrase=PASSPHRASE)


def test_an_interrupted_encrypted_store_is_resumed(tmp_path):
    options = {"patches_per_mosaic": 40, "keys": tmp_path / "keys", "passphrase": PASSPHRASE}
    writer = StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a", "b", "c"], **options)
    for item in ITEMS[:7]:
        writer.add(item.id, item.label, item.image, item.kept)
    writer.abandon()
    (tmp_path / "keys" / "00099.key").write_text("left over")
    (tmp_path / "keys" / "notes.txt").write_text("mine")
    again = {"patch": 4, "codec": "png", "class_names": ["a", "b", "c"], "resume": True}
    for changes, message in (
        ({"passphrase": "x"}, "passphrase must be the one"),
        ({"passphrase": None}, "keys must be"),
        ({"keys": tmp_path / "other"}, "keys_at must be"),
        ({"keys": None}, "keys must be"),
    ):
        with pytest.raises(InputError, match=message):
            StoreWriter(tmp_path / "s", **{**again, **options, **changes})
    write(tmp_path / "s", ITEMS, 4, codec="png", resume=True, **options)
    check(PackedStore(tmp_path / "s", keys=tmp_path / "keys", passphrase=PASSPHRASE))
    assert not (tmp_path / "keys" / "00099.key").exists()
    assert (tmp_path / "keys" / "notes.txt").read_text() == "mine"
    finished = StoreWriter(tmp_path / "s", **again, **options)
    assert finished.done == 12
    close(finished)


def test_a_pickled_store_reads_but_holds_no_passphrase(locked):
    folder, keys = locked
    pickled = pickle.dumps(PackedStore(folder, keys=keys, passphrase=PASSPHRASE))
    assert PASSPHRASE.encode() not in pickled
    check(pickle.loads(pickled))
    assert PASSPHRASE not in repr(Keys(keys, PASSPHRASE))


def test_encryption_needs_its_package(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(InputError, match=r"dq_fast\[keys\]"):
        StoreWriter(tmp_path / "s", patch=4, codec="png", class_names=["a"], passphrase="x")
