"""How long ranking will take: a formula in what this machine was measured to do, and a trial where there is much to do.

Constants that are no rates of the machine are fitted to the table of predicted and measured times in docs/SELECT.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dq_fast.select.plan.calibration import Machine
from dq_fast.select.plan.layout import Layout
from dq_fast.select.settings import Settings

Floats = NDArray[np.float64]

_PICK = 1e-6  # seconds a row in native code: to pick it, and to write down where it went
_TORCH_PICK = 6e-5  # and in torch
_GROUP = 5e-6  # seconds a group
_BLOCK_PICK = 3e-5  # seconds a pick of streamed dot products: a block of picks in Python, shared
_LOOSE_PICK = 8e-4  # where a block gives few
_CENTRED = 1.6  # times as long where the mean is taken out: bounds are looser, products longer
_GATHERED = 4.0  # reads of a row that bringing it together costs


def ranking_seconds(
    sizes: Floats, layout: Layout, settings: Settings, algorithm: str, loose: float, row_bytes: int, speed: Machine
) -> float:
    """Seconds that the op takes for groups of these sizes.

    Args:
        sizes: rows of each group, float64 [groups].
        layout: widths, and what serves.
        settings: the bins' parameters.
        algorithm: "naive", "gram" or "lazy".
        loose: what `calibration.looseness` says.
        row_bytes: of a row as it is read.
        speed: of this machine.
    """
    n, squares, width = float(sizes.sum()), float((sizes**2).sum()), float(sum(layout.widths))
    if layout.in_torch:
        return n * _TORCH_PICK + squares * (4 * width / speed.products + 30 / speed.bytes)
    overhead = n * _PICK + len(sizes) * _GROUP
    if algorithm == "naive":
        return overhead + 1.2 * squares * min(row_bytes, 4 * width) / speed.bytes
    sums = (16.0 + 2 * settings.n_bins) * n * layout.numbers / speed.products  # of rows, and products with them
    formed = squares * (2 * width / speed.products + 12 / speed.bytes) + (sums if len(layout.widths) > 1 else 0.0)
    bounded = 2 * sums + (512 * n + 2 * loose * squares) * width / speed.products
    if settings.center:
        bounded *= _CENTRED
    return overhead + (formed if algorithm == "gram" else min(formed, bounded))


def given_seconds(sizes: Floats, width: int, speed: Machine) -> float:
    """Seconds to form dot products of all pairs in float64 and to rank by them."""
    return float((sizes**2).sum()) * (3 * width / speed.products + 40 / speed.bytes) + float(sizes.sum()) * _PICK


def streamed_seconds(
    sizes: Floats, layout: Layout, settings: Settings, directions: int, loose: float, speed: Machine
) -> float:
    """Seconds to rank by dot products that are not all formed, of rows in memory: much depends on the bounds."""
    n, squares, numbers = float(sizes.sum()), float((sizes**2).sum()), float(layout.numbers)
    double = speed.products / 2
    sums = (2.0 * directions + 3 * settings.n_bins) * n * numbers / double
    tight = n * _BLOCK_PICK + squares * (2 * directions / double + 32 / speed.bytes) + 2048.0 * n * numbers / double
    wide = n * _LOOSE_PICK + squares * 8 * sum(layout.widths) / speed.bytes
    share = float(np.clip((loose - 0.45) / 0.3, 0, 1))
    return sums + (1 - share) * tight + share * wide


def reading_seconds(nbytes: float, rate: float, speed: Machine, *, gathered: bool) -> float:
    """Seconds to read so many bytes at a rate, and to bring rows together where that has to be done."""
    return nbytes / rate + (_GATHERED * nbytes / speed.bytes if gathered else 0.0)
