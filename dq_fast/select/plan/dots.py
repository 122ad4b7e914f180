"""Plans for raw dot products."""

from __future__ import annotations

import numpy as np
import torch

from dq_fast.errors import InputError
from dq_fast.select.dots import rank
from dq_fast.select.dots.outside import DIRECTIONS
from dq_fast.select.dots.products import kept
from dq_fast.select.dots.streamed import least_bytes
from dq_fast.select.groups import Groups
from dq_fast.select.plan import layout, memory
from dq_fast.select.plan.calibration import looseness, machine, reading_rate
from dq_fast.select.plan.plan import Plan
from dq_fast.select.plan.times import given_seconds, reading_seconds, streamed_seconds
from dq_fast.select.rows import Factors
from dq_fast.select.settings import Settings


def plan_dot(factors: Factors, groups: Groups, settings: Settings, limit: int, probe: bool = True) -> Plan:
    """How dot products are ranked: similarities formed where they fit the limit, else streamed; group by group."""
    fixed = layout.RESULT_BYTES * len(factors) + layout.FIXED_BYTES
    sizes = groups.sizes
    largest = int(sizes.max(initial=0))
    room = limit - fixed
    given = rank.given_bytes(factors, largest, settings.center) <= room
    least = least_bytes(factors, largest)
    if not given and least > room:
        raise InputError(
            f"max_memory must be at least {memory.readable(fixed + least)} for dot products of groups of up to "
            f"{largest} rows, got {memory.readable(limit)}"
        )
    speed = machine(torch.get_num_threads())
    footprint = layout.Layout(factors.widths, (torch.float64,) * len(factors.widths), settings.center)
    lengths = sizes.astype(np.float64)
    looks = 1.0 if given or kept(factors, largest, room) else 4.0 + 2.0 * settings.n_bins
    if given:
        seconds = given_seconds(lengths, sum(factors.widths), speed)
    else:
        loose = looseness(factors, groups.rows(int(np.argmax(sizes))), settings.center) if probe and largest else 0.0
        seconds = streamed_seconds(lengths, footprint, settings, DIRECTIONS + 2, loose, speed)
    rate = reading_rate(factors, speed) if probe else speed.bytes
    seconds += reading_seconds(looks * factors.nbytes, rate, speed, gathered=True)
    reason = "similarities fit max_memory" if given else "similarities do not fit max_memory: products are streamed"
    return Plan(
        algorithm="given" if given else "streamed",
        method="given" if given else "streamed",
        groups_at_once=min(1, len(sizes)),
        batches=len(sizes),
        passes=looks,
        bytes_read=int(factors.nbytes * looks),
        memory=fixed + (rank.given_bytes(factors, largest, settings.center) if given else min(room, max(least, room))),
        max_memory=limit,
        seconds=seconds,
        source="gathered in memory" if given else "in place",
        reasons=(reason,),
        similarity="dot",
        bounds=tuple(range(len(sizes) + 1)),
    )
