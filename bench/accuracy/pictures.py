"""Plots of the summaries: accuracy over keep, and what each contender gains over random choice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure
from records import BASE, Summary

PROBE = "logistic"  # the one that is drawn; the other is in the CSV
SHOWN = 9  # contenders in a line plot: more cannot be told apart
ALL = "all data"


def draw_plots(summaries: list[Summary], folder: Path) -> None:
    """accuracy-POOLS.png for each set of pools."""
    folder.mkdir(parents=True, exist_ok=True)
    by_pools: dict[str, list[Summary]] = defaultdict(list)
    for summary in summaries:
        if summary.probe == PROBE:
            by_pools[summary.pools].append(summary)
    for pools, found in by_pools.items():
        _draw(pools, found, folder / f"accuracy-{pools}.png")


def _draw(pools: str, found: list[Summary], path: Path) -> None:
    lines: dict[str, list[Summary]] = defaultdict(list)
    for summary in found:
        lines[summary.contender].append(summary)
    whole = lines.pop(ALL, [])
    names = sorted(lines, key=lambda name: -_merit(lines[name]))
    figure = Figure(figsize=(15, 0.27 * len(names) + 2.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    best = [name for name in names if name not in (BASE, _PAPER)][: SHOWN - 2]
    for name in [*best, _PAPER, BASE]:
        if name not in lines:
            continue
        points = sorted(lines[name], key=lambda s: s.keep)
        keeps, means = [100 * s.keep for s in points], [s.mean for s in points]
        error = [s.spread / s.seeds**0.5 for s in points]
        style = {BASE: {"color": "black", "lw": 2.5}, _PAPER: {"color": "tab:red", "lw": 2.5}}.get(name, {})
        left.errorbar(keeps, means, error, label=name, capsize=2, marker=".", **style)
    if whole:
        left.axhline(whole[0].mean, color="grey", ls="--", lw=1, label=f"all data, {whole[0].mean:.1f} %")
    left.set(xscale="log", xlabel="samples kept, %", ylabel="test accuracy, %", title=f"{pools}, {PROBE} probe")
    ticks = sorted({100 * s.keep for s in found if s.contender != ALL})
    left.set_xticks(ticks, [f"{t:g}" for t in ticks])
    left.minorticks_off()
    left.legend(fontsize=8)
    left.grid(alpha=0.3)
    _heat(figure, right, names, lines, ticks)
    figure.savefig(path, dpi=80)


_PAPER = "dq 10 bins, gradient"


def _merit(points: list[Summary]) -> float:
    return sum(s.over_random for s in points) / max(1, len(points))


def _ink(gained: float, sure: bool) -> str:
    """Readable on the cell's colour."""
    if abs(gained) > 5:
        return "white"
    return "black" if sure else "grey"


def _heat(figure: Figure, axes, names: list[str], lines: dict[str, list[Summary]], ticks: list[float]) -> None:
    """Points of per cent over random choice, as a table in colours."""
    cells = {(s.contender, 100 * s.keep): s for points in lines.values() for s in points}
    gained = [[cells[n, t].over_random if (n, t) in cells else float("nan") for t in ticks] for n in names]
    picture = axes.imshow(gained, cmap="RdBu", vmin=-8, vmax=8, aspect="auto")
    axes.set_xticks(range(len(ticks)), [f"{t:g}" for t in ticks])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="samples kept, %", title="points over random choice from the same pools")
    for i, name in enumerate(names):
        for j, tick in enumerate(ticks):
            summary = cells.get((name, tick))
            if summary is not None:
                sure = abs(summary.over_random) > 2 * summary.error
                axes.text(
                    j, i, f"{summary.over_random:+.1f}", ha="center", va="center", fontsize=7,
                    color=_ink(summary.over_random, sure), weight="bold" if sure else "normal",
                )  # fmt: skip
    figure.colorbar(picture, ax=axes, shrink=0.5)
