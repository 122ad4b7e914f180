"""Passphrases on the command line: from a file, a variable, or a prompt; never an argument."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from dq_fast.cli import keys
from dq_fast.cli.main import main, parser
from dq_fast.store import StoreWriter
from dq_fast.store import keys as keys_module


@pytest.fixture
def locked(tmp_path, monkeypatch) -> Path:
    """A store whose keys are encrypted with "sesame", kept in the folder `k` beside it."""
    monkeypatch.setattr(keys_module, "_LOG_N", 14)
    monkeypatch.delenv(keys.VARIABLE, raising=False)
    rng = np.random.default_rng(0)
    with StoreWriter(
        tmp_path / "s", patch=4, codec="png", class_names=["a"], keys=tmp_path / "k", passphrase="sesame"
    ) as writer:
        for i in range(3):
            writer.add(f"{i}.png", 0, rng.integers(0, 256, (8, 8, 3)).astype(np.uint8), np.array([0, 3]))
        writer.close()
    return tmp_path / "s"


def arguments(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"keys": None, "passphrase_file": None, "encrypt_keys": True, **given})


@pytest.mark.parametrize("how", ["file", "variable", "prompt"])
def test_the_passphrase_opens_the_keys(locked, tmp_path, monkeypatch, capsys, how):
    (tmp_path / "pw").write_text("sesame\n")
    (tmp_path / "pw").chmod(0o600)
    more = ["--passphrase-file", str(tmp_path / "pw")] if how == "file" else []
    if how == "variable":
        monkeypatch.setenv(keys.VARIABLE, "sesame")
    if how == "prompt":
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("getpass.getpass", lambda prompt: "sesame")
    elsewhere = ["--keys", str(tmp_path / "k")]
    assert main(["verify", str(locked), *elsewhere, *more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    assert main(["export", str(locked), str(tmp_path / "out"), *elsewhere, *more, "--quiet"]) == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "position keys of .* are missing"),
        (["--keys", "{}/k"], "encrypted: give their passphrase"),
        (["--keys", "{}/wrong"], "keys must be the folder"),
        (["--keys", "{}/k", "--passphrase-file", "{}/wrong"], "passphrase-file must be a file"),
        (["--keys", "{}/k", "--passphrase-file", "{}/pw"], "passphrase must be that of the keys"),
        (["--keys", "{}/k", "--passphrase-file", "{}/empty"], "from 1 to"),
    ],
)
def test_mistakes_are_one_line_and_exit_status_2(locked, tmp_path, capsys, more, message):
    (tmp_path / "pw").write_text("sesame street")
    (tmp_path / "empty").write_text("\n")
    out = tmp_path / "out"
    assert main(["export", str(locked), str(out), "--quiet", *(m.format(tmp_path) for m in more)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    import re

    assert re.search(message, error)
    assert not out.exists()


def test_to_write(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv(keys.VARIABLE, raising=False)
    assert keys.to_write(arguments(encrypt_keys=False, keys="k")).passphrase is None
    for given, message in (
        ({}, "needs a passphrase"),
        ({"encrypt_keys": False, "passphrase_file": "pw"}, "must go with --encrypt-keys"),
    ):
        with pytest.raises(ValueError, match=message):
            keys.to_write(arguments(**given))
    monkeypatch.setenv(keys.VARIABLE, "from the variable")
    assert keys.to_write(arguments()).passphrase == "from the variable"
    (tmp_path / "pw").write_bytes("wörd \r\n".encode())
    (tmp_path / "pw").chmod(0o644)
    assert keys.to_write(arguments(passphrase_file=str(tmp_path / "pw"))).passphrase == "wörd "
    assert "can be read by others" in caplog.text
    monkeypatch.delenv(keys.VARIABLE)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter(["one", "two"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    with pytest.raises(ValueError, match="same twice"):
        keys.to_write(arguments())


def test_no_verb_takes_a_passphrase_as_an_argument():
    text = "".join(
        action.format_help()
        for action in parser()._subparsers._group_actions[0].choices.values()  # type: ignore[union-attr]
    )
    assert "--passphrase-file" in text
    assert "--passphrase " not in text
