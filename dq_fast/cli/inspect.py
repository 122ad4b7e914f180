"""`dq-fast info` and `dq-fast verify`: what a store holds, and whether it is whole."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from dq_fast.cli import keys
from dq_fast.cli.console import HelpFormatter, add_output_options, emit, human_bytes, table

EXIT_DAMAGED = 1


def register(verbs: Any) -> None:
    """Add the verbs."""
    info = verbs.add_parser(
        "info",
        help="what a store holds: counts, ratios, bytes, parameters",
        description="Shows a store's counts, ratios, bytes and parameters; the position keys are not needed for it.\n\n"
        "  dq-fast info photos.dq",
        formatter_class=HelpFormatter,
    )
    info.add_argument("store", metavar="STORE", help="folder of a store")
    add_output_options(info)
    info.set_defaults(run=run_info)
    verify = verbs.add_parser(
        "verify",
        help="check every file of a store against its checksum",
        description="Reads every file of the store, checks size, SHA-256 and counts. Exit status 0 or, damaged, 1.\n\n"
        "  dq-fast verify photos.dq",
        formatter_class=HelpFormatter,
    )
    verify.add_argument("store", metavar="STORE", help="folder of a store")
    keys.add_reading(verify)
    add_output_options(verify)
    verify.set_defaults(run=run_verify)


def run_info(parsed: argparse.Namespace) -> None:
    """Print the manifest's facts."""
    from dq_fast.pipeline import store_summary

    result = store_summary(parsed.store)

    def show(console: Console) -> None:
        made = table(str(parsed.store), "what", "value")
        for name, value in result.items():
            if name.endswith("bytes") and isinstance(value, int):
                shown = human_bytes(value)
            elif isinstance(value, float):
                shown = f"{value:.1%}"
            elif isinstance(value, dict):
                shown = ", ".join(f"{k}={v}" for k, v in value.items() if v is not None)
            elif isinstance(value, list):
                shown = ", ".join(str(v) for v in value[:12]) + (f", … ({len(value)})" if len(value) > 12 else "")
            else:
                shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
            made.add_row(name.replace("_", " "), shown)
        console.print(made)

    emit(parsed, result, show)


def run_verify(parsed: argparse.Namespace) -> int:
    """List what is wrong; exit status 1 if anything is."""
    from dq_fast.store import PackedStore

    store = PackedStore(parsed.store, keys=keys.to_read(parsed, parsed.store))
    problems = store.verify()

    def show(console: Console) -> None:
        for problem in problems:
            console.print(problem, style="red", highlight=False, markup=False)
        console.print(f"{len(problems)} problems" if problems else f"{parsed.store}: whole, {len(store):,} images")

    emit(parsed, {"store": str(parsed.store), "images": len(store), "problems": problems}, show)
    return EXIT_DAMAGED if problems else 0
