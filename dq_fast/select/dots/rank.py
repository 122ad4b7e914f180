"""Raw dot products as similarities, s(i, j) = <x_i, x_j>: rows count by their length too.

As the published Dataset Quantization code has it for texts (its Alpaca path). Exact in float64: where a group's
similarities fit, they are formed and ranked by the op; else products are streamed, see `dot_streamed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.select.dots.products import Products
from dq_fast.select.dots.streamed import rank_streamed
from dq_fast.select.groups import Groups
from dq_fast.select.rows import Factors
from dq_fast.select.rows.gather import raise_first_bad
from dq_fast.select.settings import Settings

_GIVEN_ROW = 64  # bytes a row that ranking takes beside the similarities


def given_bytes(factors: Factors, rows: int, center: bool) -> int:
    """Of float64 similarities (several matrices while those of factors are multiplied) and float64 rows."""
    matrices = 1 if len(factors.tensors) == 1 else 6 if center else 2
    matrices += 1  # freed memory that the allocator keeps: those of the group before, of another size
    return 8 * rows * rows * matrices + 32 * rows * sum(factors.widths) + _GIVEN_ROW * rows


def rank_dot(
    factors: Factors,
    groups: Groups,
    settings: Settings,
    out: Any,
    *,
    room: int,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Fill `out` (a `Ranked`) group by group; returns passes over the data and what else is told."""
    read = 0.0
    for k in range(len(groups)):
        rows = groups.rows(k)
        if not len(rows):
            continue
        products = Products(factors, rows, center=settings.center, room=room)
        if not products.finite:
            raise_first_bad(factors, rows)
            raise InputError("embedding must have dot products that float64 holds; scale the rows down")
        if given_bytes(factors, len(rows), settings.center) <= room:
            ranking, bin_of, gains = _rank_given(products, settings.n_bins, settings.lam)
            advance(len(rows))
        else:
            ranking, bin_of, gains = rank_streamed(products, settings.n_bins, settings.lam, room, advance)
        begin = int(groups.offsets[k])
        out.ranking[begin : begin + len(rows)] = rows[ranking]
        out.bin_of[rows] = bin_of
        out.gains[rows] = gains
        read += products.rows_read
        del products  # before the next group's are read
    return {"passes": read / max(1, len(factors)), "bytes_read": int(read * factors.row_bytes)}


def _rank_given(products: Products, n_bins: int, lam: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = ops.graph_cut_bins(None, n_bins, similarity=products.of_all_pairs(), lam=lam, shifted=False)
    ranking, bin_of, gains = (x.cpu().numpy() for x in found)
    return ranking, bin_of, gains
