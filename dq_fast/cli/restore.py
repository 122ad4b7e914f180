"""`dq-fast restore` and `dq-fast export`: images back from a store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from dq_fast.cli import keys
from dq_fast.cli.console import HelpFormatter, add_output_options, emit, natural, positive, progress_bars, table
from dq_fast.cli.mae import add_mae, fill_of
from dq_fast.errors import InputError


def register(verbs: Any) -> None:
    """Add the verbs."""
    restore = verbs.add_parser(
        "restore",
        help="look at images of a store: contact sheet, mosaic, single images",
        description="Puts patches back in their places, fills the dropped ones, and writes pictures to look at.\n\n"
        "  dq-fast restore photos.dq look/                      a contact sheet and a mosaic\n"
        "  dq-fast restore photos.dq look/ --id coat/12.jpg     these images, as PNG",
        formatter_class=HelpFormatter,
    )
    restore.add_argument("store", metavar="STORE", help="folder of a store")
    restore.add_argument("out", metavar="DIR", help="folder for the pictures; must not exist yet")
    restore.add_argument("--id", dest="ids", action="append", metavar="ID", help="an image by its id; may be repeated")
    restore.add_argument("--count", type=positive, default=6, metavar="N", help="images on the contact sheet")
    restore.add_argument("--seed", type=natural, default=0, help="which images the contact sheet shows")
    _add_common(restore)
    restore.set_defaults(run=run_restore)

    export = verbs.add_parser(
        "export",
        help="write the restored images as a folder of class folders",
        description="Writes every image of the store, restored, as DIR/CLASS/NAME.png (or .jpg): a folder that any "
        "trainer reads.\n\n  dq-fast export photos.dq restored/",
        formatter_class=HelpFormatter,
    )
    export.add_argument("store", metavar="STORE", help="folder of a store")
    export.add_argument("out", metavar="DIR", help="folder to write; must not exist yet")
    _add_common(export)
    export.set_defaults(run=run_export)


def _add_common(verb: argparse.ArgumentParser) -> None:
    keys.add_reading(verb)
    verb.add_argument(
        "--fill",
        default="mean",
        choices=("mean", "nearest", "inpaint"),
        help="what dropped patches become: the image's mean, the nearest kept pixels, or inpainting",
    )
    add_mae(verb)
    add_output_options(verb)


def run_restore(parsed: argparse.Namespace) -> None:
    """Pictures of a few images."""
    from dq_fast.pipeline import write_pictures

    with progress_bars(parsed.quiet) as progress:
        written = write_pictures(
            parsed.store,
            parsed.out,
            ids=parsed.ids,
            count=parsed.count,
            seed=parsed.seed,
            keys=keys.to_read(parsed, parsed.store),
            fill=fill_of(parsed),
            progress=progress,
        )
    emit(parsed, {"written": written}, lambda console: _list(console, written))


def _list(console: Console, written: list[str]) -> None:
    for path in written:
        console.print(path, highlight=False, markup=False)


def run_export(parsed: argparse.Namespace) -> None:
    """All images as an ImageFolder."""
    from dq_fast.restore import open as open_store

    if Path(parsed.out).exists():
        raise InputError(f"DIR must not exist yet, but {parsed.out} does: choose another or delete it")
    store = open_store(parsed.store, keys=keys.to_read(parsed, parsed.store), fill=fill_of(parsed))
    with progress_bars(parsed.quiet) as progress:
        store.export(parsed.out, progress=progress)
    result = {"images": len(store), "classes": len(store.class_names), "folder": str(parsed.out)}

    def show(console: Console) -> None:
        made = table(f"exported {parsed.store}", "what", "value")
        for name, value in result.items():
            made.add_row(name, str(value))
        console.print(made)

    emit(parsed, result, show)
