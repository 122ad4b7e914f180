"""Raw dot products as similarities, s(i, j) = <x_i, x_j>: rows count by their length too.

As the published Dataset Quantization code has it for texts (its Alpaca path). Exact in float64: where a group's
similarities fit, they are formed and ranked by the op; else products are streamed, see `dot_streamed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.select import memory
from dq_fast.select.calibration import machine
from dq_fast.select.dot_products import Products
from dq_fast.select.dot_streamed import least_bytes, rank_streamed
from dq_fast.select.gather import raise_first_bad
from dq_fast.select.groups import Groups
from dq_fast.select.plan import Plan
from dq_fast.select.rows import Factors

_GIVEN_ROW = 64  # bytes a row that ranking takes beside the similarities


def _given_bytes(factors: Factors, rows: int, center: bool) -> int:
    """Of float64 similarities (several matrices while those of factors are multiplied) and float64 rows."""
    matrices = 1 if len(factors.tensors) == 1 else 6 if center else 2
    matrices += 1  # freed memory that the allocator keeps: those of the group before, of another size
    return 8 * rows * rows * matrices + 32 * rows * sum(factors.widths) + _GIVEN_ROW * rows


def plan_dot(factors: Factors, groups: Groups, n_bins: int, limit: int, *, center: bool) -> Plan:
    """How dot products are ranked: similarities formed where they fit the limit, else streamed; group by group."""
    fixed = memory.RESULT_BYTES * len(factors) + memory.FIXED_BYTES
    sizes = groups.sizes
    largest = int(sizes.max(initial=0))
    room = limit - fixed
    given = _given_bytes(factors, largest, center) <= room
    least = least_bytes(factors, largest)
    if not given and least > room:
        raise InputError(
            f"max_memory must be at least {memory.readable(fixed + least)} for dot products of groups of up to "
            f"{largest} rows, got {memory.readable(limit)}"
        )
    speed = machine(torch.get_num_threads())
    numbers = float(np.prod(factors.widths, dtype=np.float64))
    formed = float((sizes.astype(np.float64) ** 2).sum()) * (
        2 * sum(factors.widths) / speed.products + 24 / speed.bytes
    )
    looks = 6.0 + 4.0 * n_bins
    streamed = looks * len(factors) * (4 * numbers / speed.products + factors.row_bytes / speed.bytes)
    reason = "similarities fit max_memory" if given else "similarities do not fit max_memory: products are streamed"
    return Plan(
        algorithm="given" if given else "streamed",
        method="given" if given else "streamed",
        groups_at_once=min(1, len(sizes)),
        batches=len(sizes),
        passes=1.0 if given else looks,
        bytes_read=int(factors.nbytes * (1 if given else looks)),
        memory=fixed + (_given_bytes(factors, largest, center) if given else min(room, max(least, room))),
        max_memory=limit,
        seconds=formed if given else streamed,
        source="gathered in memory" if given else "in place",
        reasons=(reason,),
        similarity="dot",
        bounds=tuple(range(len(sizes) + 1)),
    )


def rank_dot(
    factors: Factors,
    groups: Groups,
    n_bins: int,
    plan: Plan,
    out: Any,
    *,
    lam: float,
    center: bool,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """Fill `out` (a `Ranked`) group by group; returns passes over the data and what else is told."""
    room = plan.max_memory - memory.RESULT_BYTES * len(factors) - memory.FIXED_BYTES
    read = 0.0
    for k in range(len(groups)):
        rows = groups.rows(k)
        if not len(rows):
            continue
        products = Products(factors, rows, center=center, room=room)
        if not products.finite:
            raise_first_bad(factors, rows)
            raise InputError("embedding must have dot products that float64 holds; scale the rows down")
        if _given_bytes(factors, len(rows), center) <= room:
            ranking, bin_of, gains = _rank_given(products, n_bins, lam)
            advance(len(rows))
        else:
            ranking, bin_of, gains = rank_streamed(products, n_bins, lam, room, advance)
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
