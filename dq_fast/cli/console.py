"""What the verbs share on the terminal: progress bars, tables, JSON, help."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from dq_fast.progress import Progress

Run = Callable[[argparse.Namespace], "int | None"]


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps descriptions as written, and adds the default to every option that has one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=112)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.help
        nothing: tuple[object, ...] = (None, [], argparse.SUPPRESS)
        if shown and action.option_strings and action.nargs != 0 and action.default not in nothing:
            shown += " (default %(default)s)"
        return shown


class _Rate(ProgressColumn):
    """Units a second, e.g. images of the embedding stage."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="dim")


@contextlib.contextmanager
def progress_bars(quiet: bool) -> Iterator[Progress]:
    """Bars on the error stream, one a stage, with rate and time left; plain lines where it is no terminal."""
    console = Console(stderr=True)
    if quiet:
        yield lambda stage, done, total: None
        return
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks or (done == 0 and bars.tasks[tasks[stage]].finished):
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield progress


def _lines(console: Console) -> Progress:
    """One line when a stage starts and one when it is done, for logs."""
    started: set[str] = set()
    finished: dict[str, int] = {}

    def progress(stage: str, done: int, total: int | None) -> None:
        if done and finished.get(stage) == done:
            return  # its end once more
        if stage not in started:
            started.add(stage)
            console.print(f"{stage} …" if total is None else f"{stage}: {total:,} …", highlight=False)
        if total is not None and done >= total and stage in started:
            console.print(f"{stage}: done", highlight=False)
            started.discard(stage)
            finished[stage] = done

    return progress


def add_output_options(verb: argparse.ArgumentParser) -> None:
    """--json and --quiet, which every verb understands."""
    group = verb.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the result as JSON on standard output, for machines")
    group.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def emit(parsed: argparse.Namespace, result: dict[str, Any], show: Callable[[Console], None]) -> None:
    """Print the result: as JSON with --json, else as `show` draws it."""
    if parsed.json:
        sys.stdout.write(json.dumps(result, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    else:
        console = Console()
        # A pipe or a log has no width of its own: wide enough that no table of ours is cut.
        show(console if console.is_terminal else Console(width=120))


def print_result(parsed: argparse.Namespace, title: str, result: dict[str, Any], *notes: object) -> None:
    """A result as a table of its numbers and texts, and notes (certificates, say) below; all of it with --json."""

    def show(console: Console) -> None:
        made = table(title, "what", "value")
        for name, value in result.items():
            if value is None or isinstance(value, (dict, list)):
                continue
            made.add_row(name.replace("_", " "), human_bytes(value) if name.endswith("bytes") else _shown(value))
        console.print(made)
        for note in notes:
            if note is not None:
                console.print(str(note), highlight=False, markup=False)

    emit(parsed, result, show)


def _shown(value: Any) -> str:
    """A number or text in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def show_plan(parsed: argparse.Namespace) -> Callable[[object], None]:
    """What prints a plan on the error stream before the work starts; nothing with --quiet."""

    def show(plan: object) -> None:
        if not parsed.quiet:
            sys.stderr.write(f"plan: {plan}\n")
            sys.stderr.flush()

    return show


def table(title: str, *columns: str) -> Table:
    """An empty table in the project's one look: first column left, numbers right."""
    wide = min(len(title) + 2, 100)  # a narrow table would break its title
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", min_width=wide)
    for place, name in enumerate(columns):
        made.add_column(name, justify="left" if place == 0 else "right")
    return made


def human_bytes(count: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_seconds(seconds: float) -> str:
    """93.4 -> "1 min 33 s"."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def fraction(text: str) -> float:
    """An argparse type: a fraction in [0, 1], also written as a percentage ("60%")."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a fraction between 0 and 1, or a percentage like 60%, got {text!r}")
    return value


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)
