"""Plots of a run: times as multiples of native's, case by case, and growth with the number of rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.bench.results import Row
from dq_fast.errors import missing_extra
from dq_fast.files import atomic_write

_NATIVE_COLOUR, _OTHER_COLOUR, _PART_COLOUR = "#1b7837", "#7b8794", "#c7cdd4"
_LINES = ("#1b7837", "#2c7fb8", "#d95f02", "#7570b3", "#666666")
_BAR_HEIGHT, _TITLE_HEIGHT, _WIDTH, _DPI = 0.22, 0.55, 8.0, 130  # inches; dots an inch
# A case that is one point of a growing series: its series and its number of rows.
_GROWTH = re.compile(r"^(?P<op>\w+)/growth-\d+$")
_LAST_POINTS = {"cosine_row_sums": "cosine_row_sums/200000x512-float32"}  # largest point of a series


def require() -> None:
    """Raise InputError now, not after an hour of measuring, where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise missing_extra("matplotlib", "bench", "drawing plots") from None


def draw(rows: Iterable[Row], folder: Path) -> list[Path]:
    """Write PNG files into a folder, one of bars an op and one of growth an op; their paths.

    Rows without a time are left out.
    """
    require()
    timed = [row for row in rows if row.median_s is not None]
    ops: dict[str, list[Row]] = defaultdict(list)
    for row in timed:
        ops[row.case.partition("/")[0]].append(row)
    written = []
    for op, mine in ops.items():
        bars = [row for row in mine if not _GROWTH.match(row.case)]
        if any(row.ratio_to_native for row in bars):
            written.append(_save(_bars(op, bars), folder / f"{op}.png"))
        points = [row for row in mine if _GROWTH.match(row.case) or row.case == _LAST_POINTS.get(op)]
        if len({row.n for row in points}) > 1:
            written.append(_save(_lines(op, points), folder / f"{op}-growth.png"))
    return written


def _save(figure: Any, path: Path) -> Path:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return path


def _bars(op: str, rows: list[Row]) -> Any:
    """A panel a case: a bar a provider, on a logarithmic scale of multiples of native's time."""
    from matplotlib.figure import Figure

    from dq_fast.bench.providers import PROVIDERS

    cases: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.ratio_to_native is not None:
            cases[row.case].append(row)
    bars = [len(mine) for mine in cases.values()]
    height = 1.2 + _TITLE_HEIGHT * len(bars) + _BAR_HEIGHT * sum(bars)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots(len(cases), 1, gridspec_kw={"height_ratios": bars}, squeeze=False, sharex=True)[:, 0]
    largest = max(row.ratio_to_native or 1 for row in rows)
    smallest = min(row.ratio_to_native or 1 for row in rows)
    for axis, (case, mine) in zip(axes, cases.items()):  # noqa: B905
        mine = list(reversed(mine))
        for place, row in enumerate(mine):
            ratio = row.ratio_to_native or 1.0
            part = row.provider in PROVIDERS and PROVIDERS[row.provider].part
            colour = _NATIVE_COLOUR if row.provider == "native" else _PART_COLOUR if part else _OTHER_COLOUR
            left = smallest / 2
            axis.barh(place, ratio - left, left=left, color=colour, height=0.7)
            text = f"{_ratio(ratio)}×  ({_seconds(row.median_s or 0)})"
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axis.text(ratio * 1.06, place, text, va="center", fontsize=8, bbox=behind)
        axis.axvline(1, color=_NATIVE_COLOUR, linewidth=0.8, zorder=0)
        axis.set_ylim(-0.6, len(mine) - 0.4)
        axis.set_yticks(range(len(mine)), [row.provider for row in mine], fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(smallest / 2, largest * 8)
        first = mine[0]
        axis.set_title(
            f"{case}   n {first.n:,}, d {first.d}, {first.groups} groups, {first.dtype}", fontsize=9, loc="left"
        )
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("median time as a multiple of native (pale: does only a part of the work)", fontsize=9)
    figure.suptitle(_title(op, rows[0]), fontsize=10)
    return figure


def _lines(op: str, rows: list[Row]) -> Any:
    """Seconds over rows, both logarithmic, a line a provider."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH * 0.75, 4.2), layout="constrained")
    axis = figure.subplots()
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        lines[row.provider].append(row)
    for place, (provider, mine) in enumerate(lines.items()):
        mine.sort(key=lambda row: row.n or 0)
        n = np.array([row.n for row in mine], dtype=float)
        median, low, high = (
            np.array([getattr(row, name) for row in mine], dtype=float) for name in ("median_s", "q10_s", "q90_s")
        )
        colour = _LINES[place % len(_LINES)]
        axis.plot(n, median, marker="o", markersize=4, label=provider, color=colour)
        axis.fill_between(n, low, high, color=colour, alpha=0.15)
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted({row.n for row in rows if row.n})
    axis.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axis.minorticks_off()
    axis.set_xlabel("rows")
    axis.set_ylabel("seconds (median, 10 to 90 %)")
    axis.legend(fontsize=8, frameon=False)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_title(op, rows[0]), fontsize=10)
    return figure


def _title(op: str, row: Row) -> str:
    quick = " (small inputs of --quick: not to be reported)" if row.quick == "yes" else ""
    return f"{op}{quick}\n{row.cpu}, {row.threads} threads, dq_fast {row.dq_fast} {row.commit}"


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"
