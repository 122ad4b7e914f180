"""How rows will be ranked: by which algorithm, how many groups at a time, with how many reads, and in what time."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.ops import checks, trace
from dq_fast.ops.ways import expected_ways, ways_in_torch
from dq_fast.select.groups import Groups
from dq_fast.select.plan import layout, memory
from dq_fast.select.plan.calibration import looseness, machine, measured, reading_rate
from dq_fast.select.plan.dots import plan_dot
from dq_fast.select.plan.layout import Layout
from dq_fast.select.plan.memory import readable
from dq_fast.select.plan.plan import Plan
from dq_fast.select.plan.times import ranking_seconds, reading_seconds
from dq_fast.select.rows import Factors
from dq_fast.select.rows.gather import gathered_row_bytes, serves_in_place, working_dtype
from dq_fast.select.settings import Settings

ALGORITHMS = ("auto", "dq", "naive", "gram", "lazy")

_SHARE = 0.5  # of the memory that is free, where no max_memory is given
_BATCH_BYTES = 256 << 20  # gathered at once where reading again costs nothing: the rows lie in memory
_PAGE = 4096
_LOOSE = 0.5  # for words; csrc/cpu/costs.cpp: kGivenUp
_WORTH_A_TRIAL = 1.0  # seconds of expected work: from here some of it is tried first
_TRIAL_SHARE = 0.04  # of the expected work: what is tried, at most
_PRODUCTS_AT_ONCE = 1e8  # products: less is done before the machine's speed is known


def plan_bins(
    factors: Factors,
    groups: Groups,
    settings: Settings,
    *,
    algorithm: str = "auto",
    max_memory: int | str | None = None,
    probe: bool = True,
) -> Plan:
    """Decide how to rank the rows of every group within a limit of memory.

    Args:
        factors: the rows, see `as_factors`.
        groups: which rows are chosen among each other.
        settings: the bins' parameters.
        algorithm: "auto" (or "dq"), "naive", "gram" or "lazy".
        max_memory: bytes, or a text like "2GiB", that ranking may take beyond the input and the groups; None: half of
            what is free. The input's own pages, where it is mapped from a file, do not count: the system drops them
            when it needs them.
        probe: look at some rows, and time some work, where there is enough to do for that not to matter.

    Raises:
        InputError: an argument out of range, or not even one group at a time fits: says how much is needed.
    """
    settings.check()
    checks.one_of("algorithm", algorithm, ALGORITHMS)
    limit = memory.parse_bytes(max_memory)
    given = limit is not None
    if limit is None:
        limit = max(64 << 20, int(memory.available() * _SHARE))
    if settings.similarity == "dot":
        return plan_dot(factors, groups, settings, limit, probe)
    dtypes = tuple(working_dtype(x) for x in factors.tensors)
    footprint = Layout(factors.widths, dtypes, settings.center, _is_native(factors))
    draft = _fit(factors, groups, footprint, "auto" if algorithm == "dq" else algorithm, limit, given)
    return _with_times(draft, factors, groups, settings, footprint, probe)


def _fit(factors: Factors, groups: Groups, footprint: Layout, method: str, limit: int, given: bool) -> Plan:
    """Method, source and batches that fit the limit: the first of those in order of speed."""
    sizes = groups.sizes
    largest = int(sizes.max(initial=0))
    in_place = groups.in_order and serves_in_place(factors)
    row_bytes = 0 if in_place else gathered_row_bytes(factors)
    fixed = layout.RESULT_BYTES * len(factors) + layout.FIXED_BYTES
    at_once = max(1, min(torch.get_num_threads(), len(sizes)))
    methods = ("auto", "lazy", "naive") if method == "auto" else (method,)
    places = ("in place",) if in_place else ("gathered in memory", "gathered in a file")
    least = None
    ways = [(source, one) for source in places for one in methods if one != "naive"]
    ways += [(source, "naive") for source in places if "naive" in methods]  # a file is quicker than a read a pick
    for source, candidate in ways:
        for flight in dict.fromkeys((at_once, 1)):
            in_memory = (
                layout.OUTPUT_BYTES + footprint.batch_row_bytes + (row_bytes if source == "gathered in memory" else 0)
            )
            need = fixed + flight * (footprint.workspace(candidate, largest) + largest * in_memory)
            least = need if least is None else min(least, need)
            if need > limit:
                continue
            room = limit - fixed - flight * footprint.workspace(candidate, largest)
            if source == "gathered in memory" and not given and not factors.mapped:
                room = min(room, max(_BATCH_BYTES, flight * largest * in_memory))
            bounds = _batches(sizes, max(1, room // in_memory), 1 if flight < at_once else None)
            widest = max((int(groups.offsets[b] - groups.offsets[a]) for a, b in _pairs(bounds)), default=0)
            spent = fixed + flight * footprint.workspace(candidate, largest) + widest * in_memory
            return _draft(factors, groups, candidate, method, source, bounds, spent, limit)
    raise InputError(
        f"max_memory must be at least {readable(float(least or 0))} for groups of up to {largest} rows"
        f"{'' if method == 'auto' else f' with method {method!r}'}, got {readable(limit)}"
        + ("; method 'auto' may need less" if method != "auto" else "")
    )


def _is_native(factors: Factors) -> bool:
    """Whether the native code ranks rows where they are."""
    serving = ops.backends()["graph_cut_bins"].get(factors.device.type)
    return serving is not None and serving.serves == "native"


def _pairs(bounds: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(bounds))


def _batches(sizes: np.ndarray, rows: int, groups: int | None) -> tuple[int, ...]:
    """Group numbers at which batches begin, and the end: as many groups as `rows` hold, at least one."""
    bounds, held, count = [0], 0, 0
    for k, size in enumerate(sizes.tolist()):
        if count and (held + size > rows or count == groups):
            bounds.append(k)
            held, count = 0, 0
        held, count = held + size, count + 1
    return tuple(bounds) if not len(sizes) else (*bounds, len(sizes))


def _draft(
    factors: Factors,
    groups: Groups,
    method: str,
    asked: str,
    source: str,
    bounds: tuple[int, ...],
    spent: int,
    limit: int,
) -> Plan:
    reasons = []
    if source == "in place":
        reasons.append("rows of a group lie together: nothing is copied")
    elif groups.in_order:
        reasons.append("rows are brought into the type and order that the kernels read, batch by batch")
    else:
        reasons.append("rows of a group lie apart: every batch gathers its own, in ascending order")
    if source == "gathered in a file":
        reasons.append("the largest group does not fit max_memory: its rows go through a temporary file")
    if method != asked:
        reasons.append(f"max_memory leaves room for method {method!r} only")
    batches = max(0, len(bounds) - 1)
    if factors.mapped and source != "in place":
        pages = -(-factors.row_bytes // _PAGE) + 1
        read = min(batches * factors.nbytes, len(factors) * pages * _PAGE)
    else:
        read = factors.nbytes
    return Plan(
        algorithm=method,
        method=method,
        groups_at_once=max((b - a for a, b in _pairs(bounds)), default=0),
        batches=batches,
        passes=float(1 if source == "in place" else batches),
        bytes_read=int(read),
        memory=spent,
        max_memory=limit,
        seconds=None,
        source=source,
        reasons=tuple(reasons),
        bounds=bounds,
    )


def _with_times(
    plan: Plan,
    factors: Factors,
    groups: Groups,
    settings: Settings,
    footprint: Layout,
    probe: bool,
) -> Plan:
    """The plan with the algorithm, passes and seconds to expect."""
    sizes = groups.sizes.astype(np.float64)
    squares = float((sizes**2).sum())
    width = float(sum(footprint.widths))
    reasons = list(plan.reasons)
    algorithm = _way(factors, groups, settings, footprint, plan.method, 0.0)
    if squares * width < _PRODUCTS_AT_ONCE and algorithm != "lazy":
        return dataclasses.replace(plan, algorithm=algorithm, passes=_passes(plan, algorithm, settings.n_bins))
    rows = groups.rows(int(np.argmax(groups.sizes)))
    loose = looseness(factors, rows, settings.center) if probe else 0.0
    if algorithm == "lazy" and probe:
        words = "bounds will be loose" if loose > _LOOSE else "bounds will exclude most rows"
        reasons.append(f"{100 * loose:.0f} % of a sample of rows lies outside 16 directions: {words}")
        algorithm = _way(factors, groups, settings, footprint, plan.method, loose)
    if squares * width < _PRODUCTS_AT_ONCE:
        return dataclasses.replace(
            plan, algorithm=algorithm, passes=_passes(plan, algorithm, settings.n_bins), reasons=tuple(reasons)
        )
    speed = machine(torch.get_num_threads())

    def formula(of: np.ndarray) -> float:
        return ranking_seconds(of, footprint, settings, algorithm, loose, factors.row_bytes, speed)

    seconds = formula(sizes)
    if probe and seconds > _WORTH_A_TRIAL and factors.device.type == "cpu":
        trial = measured(factors, groups, settings, plan.method, lambda of: formula(of) < _TRIAL_SHARE * seconds)
        if trial is not None:
            seconds = trial.whole(sizes, formula)
            reasons.append(f"time from {trial.rows} rows ranked in {trial.seconds:.2g} s")
    rate = reading_rate(factors, speed) if probe else speed.bytes
    seconds += reading_seconds(plan.bytes_read, rate, speed, gathered=plan.source != "in place")
    passes = _passes(dataclasses.replace(plan, algorithm=algorithm), algorithm, settings.n_bins)
    return dataclasses.replace(plan, algorithm=algorithm, seconds=seconds, passes=passes, reasons=tuple(reasons))


def _way(factors: Factors, groups: Groups, settings: Settings, footprint: Layout, method: str, loose: float) -> str:
    """The way in which most groups will be ranked, as the code that serves chooses it."""
    sizes = groups.sizes[groups.sizes > 0].tolist()
    ways = None
    if not footprint.in_torch and factors.device.type == "cpu":
        ways = expected_ways(
            footprint.widths, sizes, settings.n_bins, center=settings.center, method=method, looseness=loose
        )
    ways = ways_in_torch(sizes, method) if ways is None else ways
    return max(trace.WAYS, key=ways.__getitem__) if sizes else ("gram" if method == "auto" else method)


def _passes(plan: Plan, algorithm: str, n_bins: int) -> float:
    """Reads of all rows from where they come from: gathered rows are read once a batch."""
    if plan.source != "in place":
        return plan.passes
    return {"gram": 3.0, "naive": 3.0}.get(algorithm, 4.0 + 2.0 * n_bins)
