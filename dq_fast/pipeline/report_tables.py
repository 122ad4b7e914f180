"""The numbers of a report as lines of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.report import Bar
from dq_fast.select import SampleQuantizer

MOST_CLASSES = 60  # lines of the table of classes
_MOST_BINS = 60
_MOST_TEXT = 400  # characters of a parameter

Ints = NDArray[np.int64]


def text(value: Any) -> str:
    """A parameter for people."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= _MOST_TEXT else shown[:_MOST_TEXT] + " …"


def size_text(count: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def store_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary of a store, from `store_summary`."""
    codec = ", ".join(str(value) for value in summary["codec"].values() if value is not None)
    facts = [
        ("source", f"{summary['source'].get('spec')} ({summary['source'].get('kind')})"),
        ("images", f"{summary['images']:,} of {summary['source_images']:,} kept ({summary['kept_samples']:.1%})"),
        ("classes", f"{summary['classes']:,}"),
        ("pixels kept of them", f"{summary['kept_pixels']:.1%}"),
        ("samples × pixels", f"{summary['samples_times_pixels']:.1%}"),
        ("bytes", f"{size_text(summary['store_bytes'])} of {size_text(summary['source_bytes'])}"
                  f" ({summary['bytes_ratio']:.1%})"),
        ("patches", f"{summary['patches']:,} of {summary['patch']} × {summary['patch']} px, {codec}"),
    ]  # fmt: skip
    if summary["bad_images"]:
        facts.append(("unreadable images", f"{summary['bad_images']:,}"))
    return facts


def byte_bars(summary: dict[str, Any]) -> list[Bar]:
    """Source, its kept images, store; of the store what mosaics and keys take."""
    rest = summary["store_bytes"] - summary["mosaic_bytes"] - summary["key_bytes"]
    rows = [
        ("source", summary["source_bytes"], ""),
        ("kept images, as they were", summary["kept_images_bytes"], ""),
        ("store", summary["store_bytes"], f"{summary['bytes_ratio']:.1%} of the source"),
        ("mosaics", summary["mosaic_bytes"], "of the store"),
        ("position keys", summary["key_bytes"], "of the store"),
        ("index and manifest", rest, "of the store"),
    ]
    rows = [(name, count, note) for name, count, note in rows if count > 0]
    most = max([count for _, count, _ in rows], default=1)
    return [Bar(name, size_text(count), count / most, note=note) for name, count, note in rows]


def second_bars(seconds: dict[str, float]) -> list[Bar]:
    """Stages with their times."""
    most = max(seconds.values(), default=0.0) or 1.0
    return [Bar(stage, _seconds(value), value / most) for stage, value in seconds.items()]


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def class_bars(names: Sequence[str], labels: Ints | None, kept: Ints | None) -> list[Bar]:
    """Images a class, the kept ones dark; of many classes the largest. `labels` None: only the kept ones are known."""
    known = kept if labels is None else labels
    whole = np.bincount(np.zeros(0, np.int64) if known is None else known, minlength=len(names))
    part = None if labels is None or kept is None else np.bincount(kept, minlength=len(names))
    order = np.arange(len(names))
    if len(names) > MOST_CLASSES:
        order = np.sort(np.argsort(-whole, kind="stable")[:MOST_CLASSES])
    bars = [
        _counted(names[c], int(whole[c]), None if part is None else int(part[c]), int(whole.max()))
        for c in order.tolist()
    ]
    if len(order) < len(names):
        others = np.setdiff1d(np.arange(len(names)), order)
        total = int(whole[others].sum())
        more = "" if part is None else f", {int(part[others].sum()):,} kept"
        bars.append(Bar(f"{len(others):,} smaller classes", f"{total:,}{more}", 0.0, note="together"))
    return bars


def bin_bars(quantizer: SampleQuantizer, kept: NDArray[np.bool_] | None) -> list[Bar]:
    """Samples a bin, the kept ones dark, and the mean gain of its picks."""
    bin_of, gains = np.asarray(quantizer.bin_of_), np.asarray(quantizer.gains_, np.float64)
    count = len(quantizer.bins_)
    of_bin = [np.flatnonzero(bin_of == b) for b in range(min(count, _MOST_BINS))]
    most = max([len(rows) for rows in of_bin], default=1)
    bars = []
    for b, rows in enumerate(of_bin):
        mine = gains[rows][np.isfinite(gains[rows])]
        note = f"gain {mine.mean():.4g}" if len(mine) else ""
        bars.append(_counted(f"bin {b + 1}", len(rows), None if kept is None else int(kept[rows].sum()), most, note))
    if count > len(bars):
        bars.append(Bar(f"{count - len(bars):,} more bins", "", 0.0))
    return bars


def _counted(name: str, whole: int, part: int | None, most: int, note: str = "") -> Bar:
    shown = f"{whole:,}" if part is None else f"{whole:,}, {part:,} kept ({part / max(1, whole):.0%})"
    return Bar(name, shown, whole / max(1, most), None if part is None else part / max(1, whole), note)
