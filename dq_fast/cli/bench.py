"""`dq-fast bench`: how fast the kernels are here, against what else there is."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dq_fast.cli.console import HelpFormatter, add_output_options, emit, human_bytes, positive, progress_bars, table

if TYPE_CHECKING:
    from dq_fast.bench import Row
    from dq_fast.bench.targets import Verdict

EXIT_WRONG = 1
# Read by the libraries under numpy, torch and numba when they are first imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_NATIVE = "native"

_DESCRIPTION = """\
Times the kernels and everything they can be compared with. Every result is checked against a float64 definition before
it is timed; a wrong one is reported and makes the exit status 1. Close other programs first: providers are timed in
turn, so that a busy machine slows all of them, but quiet figures are better ones.

  dq-fast bench --quick                                    small inputs, a minute or two: does everything work?
  dq-fast bench --case cosine_row_sums                     cases whose names begin so
  dq-fast bench --data DIR --csv results.csv --plots DIR   the whole of it, on real CIFAR-10 embeddings
  dq-fast bench --device cuda                              on a GPU: what runs there, timed by CUDA events
"""


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "bench",
        help="time the kernels against everything else there is, results checked first",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
    )
    what = verb.add_argument_group("what is measured")
    what.add_argument("--list", action="store_true", help="list cases and providers, and which of them are here")
    what.add_argument("--case", nargs="+", default=[], metavar="NAME", help="cases: names, beginnings, or patterns")
    what.add_argument("--provider", nargs="+", default=[], metavar="NAME", help="providers (default: all)")
    what.add_argument("--quick", action="store_true", help="small inputs, few runs; to try, not to report")
    what.add_argument("--no-memory", action="store_true", help="leave out peak memory, a process for each provider")
    what.add_argument("--threads", type=positive, metavar="N", help="threads (default: what torch takes)")
    what.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu, cuda or cuda:N (default: cpu)")
    what.add_argument("--seconds", type=float, metavar="S", help="running time of each provider, roughly (default: 5)")
    data = verb.add_argument_group("inputs")
    data.add_argument(
        "--data",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders with cifar-10-batches-py and resnet20*.th; without them inputs are made up",
    )
    data.add_argument(
        "--cache", type=Path, metavar="DIR", help="where embeddings are kept (default: ~/.cache/dq_fast/bench)"
    )
    written = verb.add_argument_group("what is written")
    written.add_argument("--csv", type=Path, metavar="FILE", help="one row a case and provider")
    written.add_argument("--targets", type=Path, metavar="FILE", help="the table of speeds to reach, as Markdown")
    written.add_argument("--plots", type=Path, metavar="DIR", help="PNG plots (needs matplotlib)")
    add_output_options(verb)
    verb.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Measure, write, print."""
    if parsed.threads:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(parsed.threads)))
    from dq_fast import bench
    from dq_fast.bench import plots, targets
    from dq_fast.bench.inputs import default_cache
    from dq_fast.bench.timing import QUICK, Effort
    from dq_fast.errors import InputError
    from dq_fast.files import atomic_write

    if parsed.list:
        _list(parsed)
        return 0
    if parsed.plots:
        plots.require()
    cases = bench.select(parsed.case)
    if parsed.seconds is not None and not parsed.seconds > 0:
        raise InputError(f"--seconds must be positive, got {parsed.seconds}")
    effort = None if parsed.seconds is None else replace(QUICK if parsed.quick else Effort(), seconds=parsed.seconds)
    for path in (parsed.csv, parsed.targets):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def save(found: bench.Run) -> None:
        if parsed.csv:
            bench.write_csv(parsed.csv, found.rows)

    with progress_bars(parsed.quiet) as progress:
        setting = bench.Setting(
            parsed.quick, tuple(parsed.data), parsed.cache or default_cache(), progress, parsed.device
        )
        found = bench.run(
            cases,
            setting,
            providers=parsed.provider,
            threads=parsed.threads,
            effort=effort,
            progress=progress,
            after_case=save,
            **({"memory": None} if parsed.no_memory else {}),
        )
    verdicts = targets.judge(found.rows)
    if parsed.targets:
        with atomic_write(parsed.targets) as file:
            file.write(targets.markdown(verdicts, _about(found.rows)).encode())
    drawn = plots.draw(found.rows, parsed.plots) if parsed.plots else []
    result = {
        "rows": [asdict(row) for row in found.rows],
        "ceilings": asdict(found.ceilings) if found.ceilings else None,
        "targets": [asdict(v) for v in verdicts],
        "plots": [str(path) for path in drawn],
        "failed": [[row.case, row.provider] for row in found.failed],
    }
    emit(parsed, result, lambda console: _show(console, found, verdicts, drawn))
    return EXIT_WRONG if found.failed else 0


def _list(parsed: argparse.Namespace) -> None:
    from dq_fast import bench

    device = parsed.device.partition(":")[0]
    cases: list[dict[str, Any]] = [
        {
            "case": case.name,
            "about": case.about,
            "providers": [p for p in case.ways if not bench.PROVIDERS[p].missing(case.name.partition("/")[0], device)],
            "missing": [p for p in case.ways if bench.PROVIDERS[p].missing(case.name.partition("/")[0], device)],
        }
        for case in bench.select(parsed.case)
    ]
    providers = [
        {"provider": p.name, "about": p.about, "missing": p.missing("cosine_row_sums", device)}
        for p in bench.PROVIDERS.values()
    ]

    def show(console: Console) -> None:
        found = table("cases", "case", "what", "providers (those not here in brackets)")
        for case in cases:
            names = [*case["providers"], *(f"({name})" for name in case["missing"])]
            found.add_row(case["case"], case["about"], ", ".join(names))
        about = table("providers", "provider", "what", "here")
        for p in providers:
            about.add_row(p["provider"], p["about"], p["missing"] or "yes")
        for made in (found, about):
            for column in made.columns:
                column.justify = "left"
            console.print(made)

    emit(parsed, {"cases": cases, "providers": providers}, show)


def _about(rows: list[Row]) -> str:
    """One line on the machine and versions of a run."""
    if not rows:
        return "Nothing was measured."
    r = rows[0]
    quick = " Small inputs (--quick): not to be reported, nor held against the targets." if r.quick == "yes" else ""
    return (
        f"{r.cpu}, {r.machine}, {r.threads} threads; dq_fast {r.dq_fast} {r.commit}, torch {r.torch}, numpy {r.numpy}, "
        f"python {r.python}; {r.date}.{quick}"
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def _show(console: Console, found: Any, verdicts: list[Verdict], drawn: list[Path]) -> None:
    rows: list[Row] = found.rows
    for case in dict.fromkeys(row.case for row in rows):
        mine = [row for row in rows if row.case == case]
        first = mine[0]
        made = table(
            f"{case}: n {first.n:,}, d {first.d}, {first.groups} groups, {first.dtype}; {first.inputs}",
            "provider", "checked", "median", "10 %", "90 %", "runs", "x native", "of floor", "memory",
        )  # fmt: skip
        for row in mine:
            if row.checked != "yes":
                made.add_row(row.provider, row.checked, row.note)
                continue
            made.add_row(
                row.provider,
                row.checked,
                _seconds(row.median_s),
                _seconds(row.q10_s),
                _seconds(row.q90_s),
                str(row.runs),
                "" if row.ratio_to_native is None else f"{row.ratio_to_native:.3g}",
                "" if row.fraction_of_floor is None else f"{100 * row.fraction_of_floor:.2g} %",
                "" if row.peak_bytes is None else human_bytes(row.peak_bytes),
                style="bold" if row.provider == _NATIVE else None,
            )
        console.print(made)
    if found.ceilings:
        c = found.ceilings
        console.print(
            f"ceilings: copy {c.copy / 1e9:.1f} GB/s, read {c.read / 1e9:.1f} GB/s, "
            f"products {c.float32 / 1e9:.0f} GFLOP/s float32, {c.float64 / 1e9:.0f} float64"
        )
    _show_targets(console, verdicts)
    console.print(_about(rows))
    for path in drawn:
        console.print(f"wrote {path}")
    for row in found.failed:
        console.print(f"[red]wrong: {row.provider} on {row.case}: {row.note}[/red]")


def _show_targets(console: Console, verdicts: list[Verdict]) -> None:
    from dq_fast.bench.targets import number_text

    measured = [v for v in verdicts if v.measured is not None]
    if not measured:
        return
    made = table("speed to reach", "what", "measured", "at least", "aim", "verdict")
    for v in measured:
        made.add_row(
            v.what,
            number_text(v.measured, v.unit),
            number_text(v.at_least, v.unit),
            number_text(v.aim, v.unit),
            v.verdict,
            style="red" if v.short else None,
        )
    console.print(made)
    left = len(verdicts) - len(measured)
    if left:
        console.print(f"{left} more were not measured")
