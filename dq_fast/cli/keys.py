"""Position keys on the command line: where they are, and the passphrase, which is never an argument.

Arguments stand in the shell's history and in the list of processes; a file, a variable or a prompt do not.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dq_fast.errors import InputError

if TYPE_CHECKING:
    from dq_fast.store import Keys

VARIABLE = "DQ_FAST_PASSPHRASE"
_MOST_BYTES = 1 << 16
_FROM = f"of encrypted keys, in a file; else it is taken from the variable {VARIABLE}, or asked for"

log = logging.getLogger(__name__)


def add_reading(verb: argparse.ArgumentParser) -> None:
    """Where the keys of a store that is read are, and what opens them."""
    verb.add_argument(
        "--keys",
        metavar="DIR",
        help="folder of the position keys, if they are kept apart from the store (default: where its run folder "
        "remembers that they were put)",
    )
    verb.add_argument("--passphrase-file", metavar="FILE", help=f"passphrase {_FROM}")


def add_writing(group: Any) -> None:
    """Where the keys of a store that is written go, and whether they are encrypted."""
    group.add_argument(
        "--keys",
        metavar="DIR",
        help="write the position keys to this folder instead of into the store, so that they can be kept elsewhere; "
        "goes with --secret",
    )
    group.add_argument(
        "--encrypt-keys", action="store_true", help="encrypt the position keys with a passphrase; goes with --secret"
    )
    group.add_argument("--passphrase-file", metavar="FILE", help=f"passphrase {_FROM}")


def to_read(parsed: argparse.Namespace, store: str) -> Keys:
    """The keys for opening `store`; asks for the passphrase where it is needed, was not given, and someone is there.

    Without --keys, the folder that the store's run folder remembers: where they were put when it was packed.
    """
    from dq_fast.pipeline.pack import recorded_keys
    from dq_fast.store import Keys

    passphrase = _given(parsed.passphrase_file)
    if passphrase is None and _encrypted(store) and sys.stdin.isatty():
        passphrase = getpass.getpass(f"Passphrase of the keys of {store}: ")
    folder = parsed.keys
    if folder is None:
        folder = recorded_keys(store, getattr(parsed, "work", None))
        if folder is not None:
            log.info("position keys from %s, where they were put when %s was packed", folder, store)
    return Keys.of(folder, passphrase)


def to_write(parsed: argparse.Namespace) -> Keys:
    """The keys for writing a store.

    Raises:
        InputError: encryption without a passphrase, a passphrase file without encryption, or two that differ.
    """
    from dq_fast.store import Keys

    if not parsed.encrypt_keys:
        if parsed.passphrase_file is not None:
            raise InputError("--passphrase-file must go with --encrypt-keys: without it nothing is encrypted")
        return Keys.of(parsed.keys)
    passphrase = _given(parsed.passphrase_file)
    if passphrase is None:
        if not sys.stdin.isatty():
            raise InputError(f"--encrypt-keys needs a passphrase: give --passphrase-file FILE or set {VARIABLE}")
        passphrase = getpass.getpass("Passphrase for the keys: ")
        if getpass.getpass("The same again: ") != passphrase:
            raise InputError("passphrase must be the same twice, got two different ones")
    return Keys.of(parsed.keys, passphrase)


def _given(file: str | None) -> str | None:
    """The passphrase from the file or the variable."""
    if file is None:
        return os.environ.get(VARIABLE)
    path = Path(file)
    try:
        with path.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
            readable = stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & (stat.S_IRGRP | stat.S_IROTH)
    except OSError as error:
        raise InputError(f"--passphrase-file must be a file that can be read, got {file}: {error.strerror}") from None
    if os.name == "posix" and readable:
        log.warning("%s can be read by others on this machine (chmod 600 makes it yours alone)", file)
    text = data.removesuffix(b"\n").removesuffix(b"\r")  # an editor's end of line is no part of it
    if not text or len(data) > _MOST_BYTES:
        raise InputError(f"--passphrase-file must hold from 1 to {_MOST_BYTES} bytes, got {len(data)} in {file}")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InputError(f"--passphrase-file must hold UTF-8 text, but {file} does not") from None


def _encrypted(store: str) -> bool:
    """Whether the keys of this store are; what is no store is told by whoever opens it."""
    from dq_fast.store.manifest import Manifest

    try:
        return Manifest.read(Path(store)).encrypted
    except InputError:
        return False
