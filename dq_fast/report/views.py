"""The pictures of bins in the plane: what Dataset Quantization's figures 7 to 9 show, for this data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dq_fast.report.data import Map
from dq_fast.report.maps import coloured, distinct, graded, panels
from dq_fast.report.plane import LEAST_POINTS, TITLES, draw_rows, in_plane

MOST_PANELS = 19  # bins that get a panel of their own; one more is for what was kept
_MOST_COLOURS = 20  # classes that colours can tell apart

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def bin_maps(
    features: NDArray[np.float32],
    labels: Ints,
    class_names: Sequence[str],
    bin_of: Ints,
    n_bins: int,
    kept: Flags | None,
    *,
    points: int,
    projection: str,
    shown_class: int | None = None,
    seed: int = 0,
) -> list[Map]:
    """All samples by class and by bin, a panel for every bin, and the same for one class.

    Args:
        features: float [n, d].
        labels: int [n].
        class_names: names of the labels.
        bin_of: int [n]; -1 is not ranked.
        n_bins: number of bins.
        kept: bool [n], which samples were drawn, if any were.
        points: samples in a picture, at most; drawn by `seed`.
        projection: see `in_plane`.
        shown_class: the class shown on its own; None is the largest.
        seed: of the draw and the layout.
    """
    rows = draw_rows(np.arange(len(labels)), points, seed)
    plane = in_plane(features[rows], projection, seed)
    if plane is None:
        return []
    what = f"{_count(len(rows), len(labels), 'samples')} by {TITLES[projection]} of the classifier's features"
    maps = []
    used = np.unique(labels)
    if 1 < len(used) <= _MOST_COLOURS:
        colours = distinct(len(used))
        numbers = np.searchsorted(used, labels[rows])
        alt = f"{len(rows)} samples in the plane, coloured by class"
        legend = [(class_names[c], *pair) for c, pair in zip(used.tolist(), colours, strict=True)]
        maps.append(Map("Classes", f"{what}; near points are similar.", coloured(plane, numbers, colours, alt), legend))
    alt = f"{len(rows)} samples in the plane, coloured by bin from the first to the last"
    colours = graded(n_bins)
    text = f"{what}. Bins are picked one after another: the first from all samples, the last from those left."
    legend = [(f"bin {b + 1}", *colours[b]) for b in range(n_bins) if n_bins <= _MOST_COLOURS]
    maps.append(Map("Bins", text, coloured(plane, bin_of[rows], colours, alt), legend))
    maps.append(_panels("Every bin", what, plane, rows, bin_of, n_bins, kept))
    sizes = np.bincount(labels, minlength=len(class_names))
    one = int(sizes.argmax()) if shown_class is None else shown_class
    if sizes[one] >= LEAST_POINTS and len(used) > 1:
        rows = draw_rows(np.flatnonzero(labels == one), points, seed)
        plane = in_plane(features[rows], projection, seed)
        if plane is not None:
            what = f"{_count(len(rows), int(sizes[one]), 'samples')} of class “{class_names[one]}” alone"
            maps.append(_panels(f"Every bin, class “{class_names[one]}”", what, plane, rows, bin_of, n_bins, kept))
    return maps


def _panels(
    title: str, what: str, plane: NDArray[np.float64], rows: Ints, bin_of: Ints, n_bins: int, kept: Flags | None
) -> Map:
    members = [(f"bin {b + 1}", bin_of[rows] == b) for b in range(min(n_bins, MOST_PANELS))]
    if kept is not None:
        members.append(("kept", kept[rows]))
    members = [(f"{name}: {int(flags.sum())}", flags) for name, flags in members]
    more = f" The first {MOST_PANELS} of {n_bins} bins." if n_bins > MOST_PANELS else ""
    last = ", and at the end all that were kept" if kept is not None else ""
    text = f"{what}: in colour those of one bin{last}; grey the others.{more}"
    alt = f"{len(members)} panels of the same points; each lights up one bin{' or what was kept' if last else ''}"
    return Map(title, text, panels(plane, members, alt))


def _count(shown: int, of: int, what: str) -> str:
    return f"All {of:,} {what}" if shown == of else f"{shown:,} of {of:,} {what}, drawn at random,"
