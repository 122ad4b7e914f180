"""Plots of the summaries: accuracy over keep, and what each contender gains over random choice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from records import BASE, Summary
from trials import ALL

PROBE = "logistic"  # the one that is drawn where pools have several; the others are in the CSV

# The lines of every plot, always in the same colours, one of each kind: where features and gradients make lines that
# cannot be told apart, the table beside them has both.
LINES = {
    "dq 10 bins first, gradient, centred": ("tab:blue", "preset probe: centred bins, first picks"),
    "dq 10 bins early, gradient, centred": ("tab:cyan", "centred bins, early"),
    "graph-cut once, gradient": ("tab:green", "graph cut once"),
    "herding, features": ("tab:purple", "herding, features"),
    "facility-location, features": ("tab:pink", "facility location, features"),
    "k-center, features": ("tab:olive", "k-center, features"),
    "craig": ("tab:brown", "CRAIG"),
    "margin": ("tab:orange", "margin (least certain first)"),
    "dq 10 bins, gradient": ("tab:red", "preset paper: 10 bins, uniform"),
    BASE: ("black", "random"),
}
_HEAVY = ("dq 10 bins, gradient", BASE)
_BELOW = 6.0  # points below random choice that the left plot still shows


def draw_plots(summaries: list[Summary], folder: Path) -> None:
    """accuracy-POOLS.png for each set of pools."""
    folder.mkdir(parents=True, exist_ok=True)
    by_pools: dict[str, dict[str, list[Summary]]] = defaultdict(lambda: defaultdict(list))
    for summary in summaries:
        by_pools[summary.pools][summary.probe].append(summary)
    for pools, probes in by_pools.items():
        probe = PROBE if PROBE in probes else min(probes)
        _draw(pools, probe, probes[probe], folder / f"accuracy-{pools}.png")


def _draw(pools: str, probe: str, found: list[Summary], path: Path) -> None:
    rows: dict[str, list[Summary]] = defaultdict(list)
    for summary in found:
        rows[summary.contender].append(summary)
    whole = rows.pop(ALL, [])
    names = sorted(rows, key=lambda name: -_merit(rows[name]))
    figure = Figure(figsize=(15, max(5.5, 0.27 * len(names) + 2.4)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    keeps = sorted({s.keep for s in found if s.contender != ALL})
    _lines(left, rows, whole, keeps)
    left.set_title(f"{pools}, {probe} probe, {max(s.seeds for s in found)} pools; bars: standard errors")
    _table(figure, right, names, rows, keeps)
    figure.savefig(path, dpi=80)


def _merit(points: list[Summary]) -> float:
    return sum(s.over_random for s in points) / max(1, len(points))


def _lines(axes: Axes, rows: dict[str, list[Summary]], whole: list[Summary], keeps: list[float]) -> None:
    """Accuracy over keep. What lies far below random choice is cut off: the table has it."""
    shown = [name for name in LINES if name in rows]
    bottom = top = None
    for k, name in enumerate(shown):
        colour, label = LINES[name]
        points = sorted(rows[name], key=lambda s: s.keep)
        apart = 1.006 ** (k - len(shown) / 2)  # so that bars at the same place do not hide each other
        heavy = name in _HEAVY
        axes.errorbar(
            [100 * s.keep * apart for s in points],
            [s.mean for s in points],
            [s.spread / s.seeds**0.5 for s in points],
            label=label, color=colour, lw=2.6 if heavy else 1.4, capsize=2, marker="o", ms=3, zorder=3 if heavy else 2,
        )  # fmt: skip
    for summary in rows.get(BASE, []):
        bottom = min(summary.mean, bottom) if bottom is not None else summary.mean
    for summary in (s for name in shown for s in rows[name]):
        top = max(summary.mean, top) if top is not None else summary.mean
    if whole:
        axes.axhline(whole[0].mean, color="grey", ls="--", lw=1, label=f"all data, {whole[0].mean:.1f} %")
        top = max(top or 0, whole[0].mean)
    if bottom is not None and top is not None:
        lowest = min(s.mean for name in shown for s in rows[name])
        below = min(_BELOW, (top - bottom) / 3)
        axes.set_ylim(max(lowest, bottom - below) - 0.03 * (top - bottom), top + 0.04 * (top - bottom))
    axes.set(xscale="log", xlabel="samples kept, %", ylabel="test accuracy, %")
    axes.set_xticks([100 * keep for keep in keeps], [f"{100 * keep:g}" for keep in keeps])
    axes.minorticks_off()
    axes.legend(fontsize=9, loc="lower right")
    axes.grid(alpha=0.3)


def _table(figure: Figure, axes: Axes, names: list[str], rows: dict[str, list[Summary]], keeps: list[float]) -> None:
    """Points of per cent over random choice, as a table in colours; bold where more than two standard errors."""
    cells = {(s.contender, s.keep): s for points in rows.values() for s in points}
    gained = [[cells[n, k].over_random if (n, k) in cells else float("nan") for k in keeps] for n in names]
    best = max((value for line in gained for value in line if value == value), default=1.0)
    scale = min(8.0, max(1.0, 1.2 * best))  # so that pools where little differs show what does
    digits = 1 if scale > 2 else 2
    picture = axes.imshow(gained, cmap="RdBu", vmin=-scale, vmax=scale, aspect="auto")
    axes.set_xticks(range(len(keeps)), [f"{100 * keep:g}" for keep in keeps])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="samples kept, %", title="points over random choice from the same pools")
    for i, name in enumerate(names):
        for j, keep in enumerate(keeps):
            summary = cells.get((name, keep))
            if summary is None:
                continue
            value = summary.over_random
            sure = name != BASE and abs(value) > 2 * summary.error
            ink = "white" if abs(value) > 0.62 * scale else "black" if sure else "dimgrey"
            text = f"{value:+.{digits}f}" if abs(value) >= 0.5 * 10**-digits else f"{0:.{digits}f}"
            axes.text(
                j, i, text, ha="center", va="center", fontsize=7.5, color=ink, weight="bold" if sure else "normal"
            )
    figure.colorbar(picture, ax=axes, shrink=0.5, extend="both")
