"""Ranking the rows of all groups by a plan: batch after batch through the graph-cut op."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.progress import Progress
from dq_fast.select.dots.rank import rank_dot
from dq_fast.select.groups import Groups
from dq_fast.select.plan import Plan, layout, memory
from dq_fast.select.rows import Factors
from dq_fast.select.rows.gather import gather, raise_first_bad
from dq_fast.select.settings import Settings

Ints = NDArray[np.int64]

_LOOK = 0.2  # seconds between looks at the memory taken


@dataclass(frozen=True)
class Ranked:
    """All rows in bins.

    Attributes:
        ranking: int64 [n], row numbers group after group, within a group bin after bin in pick order.
        bin_of: int64 [n], the bin of each row; gains: float64 [n], the gain each row was picked with.
        report: what happened, ready for JSON: "algorithm" (that of most groups), "switched_to" (the same, where groups
            began another way; else None), "groups" (how many by which algorithm), "method", "source", "batches";
            "passes" and "bytes_read": reads of the input (rows that are gathered are read once by each batch; in place,
            every read of the kernels counts, be it from a cache); "rows_read", "switched" and "float64_decisions" as
            the op counts them; "seconds"; "peak": bytes of memory taken, as seen from time to time (None where the
            system does not tell).
    """

    ranking: Ints
    bin_of: Ints
    gains: NDArray[np.float64]
    report: dict[str, Any] = field(default_factory=dict)


def rank_bins(
    factors: Factors,
    groups: Groups,
    settings: Settings,
    plan: Plan,
    *,
    progress: Progress | None = None,
) -> Ranked:
    """Split the rows of every group into bins, see `dq_fast.ops.graph_cut_bins`; the same whatever the plan.

    Args:
        factors: the rows.
        groups: which rows are chosen among each other.
        settings: the bins' parameters.
        plan: from `plan_bins` for the same arguments.
        progress: called as progress("bins", rows ranked, n).

    Raises:
        InputError: an argument that is not as above; rows that are not finite, by their number.
    """
    watch = _Watch(len(factors), progress)
    n = len(factors)
    out = Ranked(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.float64))
    seen: list[dict[str, Any]] = []
    if settings.similarity == "dot":
        room = plan.max_memory - layout.RESULT_BYTES * n - layout.FIXED_BYTES
        seen.append(rank_dot(factors, groups, settings, out, room=room, advance=watch.advance))
    else:
        for first, last in zip(plan.bounds[:-1], plan.bounds[1:], strict=True):
            seen.append(_batch(factors, groups, first, last, settings, plan, out, watch))
    out.report.update(_report(plan, factors, seen, watch))
    return out


def _batch(
    factors: Factors,
    groups: Groups,
    first: int,
    last: int,
    settings: Settings,
    plan: Plan,
    out: Ranked,
    watch: _Watch,
) -> dict[str, Any]:
    """Rank groups `first` to `last`; what the op reported."""
    begin, end = int(groups.offsets[first]), int(groups.offsets[last])
    rows = groups.order[begin:end]
    if plan.source == "in place":
        parts = factors.tensors if end - begin == len(factors) else tuple(x[begin:end] for x in factors.tensors)
    else:
        parts = gather(factors, rows, to_file=plan.source == "gathered in a file")
    report: dict[str, Any] = {}
    try:
        ranking, bin_of, gains = ops.graph_cut_bins(
            parts,
            settings.n_bins,
            lam=settings.lam,
            shifted=settings.shifted,
            center=settings.center,
            method=plan.method,
            offsets=torch.from_numpy(groups.offsets[first : last + 1] - begin),
            progress=watch.listener(begin),
            report=report,
        )
    except InputError:
        raise_first_bad(factors, rows)  # by its number among all rows, not in this batch
        raise
    out.ranking[begin:end] = rows[ranking.cpu().numpy()]
    out.bin_of[rows] = bin_of.cpu().numpy()
    out.gains[rows] = gains.cpu().numpy()
    return report


def _report(plan: Plan, factors: Factors, seen: list[dict[str, Any]], watch: _Watch) -> dict[str, Any]:
    """What happened: the ops' own words added up where they have any, else as planned."""
    report: dict[str, Any] = {
        "algorithm": plan.algorithm,
        "switched_to": None,
        "method": plan.method,
        "batches": plan.batches,
        "source": plan.source,
        "passes": plan.passes,
        "bytes_read": plan.bytes_read,
    }
    told = [one for one in seen if one]
    if told and len(told) == len(seen):
        for key in ("rows_read", "switched", "float64_decisions"):
            if all(key in one for one in told):
                report[key] = sum(int(one[key]) for one in told)
        ways = [one["groups"] for one in told if "groups" in one]
        if ways:
            report["groups"] = {way: sum(found.get(way, 0) for found in ways) for way in ways[0]}
            report["algorithm"] = max(report["groups"], key=lambda way: report["groups"][way])
        if report.get("switched"):
            report["switched_to"] = report["algorithm"]
        if plan.source == "in place" and all("bytes_read" in one for one in told):
            report["bytes_read"] = sum(int(one["bytes_read"]) for one in told)
            report["passes"] = report["bytes_read"] / max(1, factors.nbytes)
    return {**report, "seconds": watch.seconds(), "peak": watch.peak()}


class _Watch:
    """Listens to progress: passes it on for all batches together, and looks at the memory taken meanwhile."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress = total, progress
        self.started = self.looked = time.perf_counter()
        self.before = memory.anonymous()
        self.most = self.before
        self.done = 0

    def listener(self, before: int) -> Progress | None:
        """What the op calls for a batch before which `before` rows were ranked."""

        def listen(stage: str, done: int, total: int | None) -> None:
            self.look()
            if self.progress is not None and done:
                self.progress("bins", before + done, self.total)

        return listen

    def advance(self, rows: int) -> None:
        """Count rows that were ranked."""
        self.done += rows
        self.look()
        if self.progress is not None:
            self.progress("bins", self.done, self.total)

    def look(self, always: bool = False) -> None:
        """See how much memory is taken, not too often."""
        now = time.perf_counter()
        if always or now - self.looked > _LOOK:
            self.looked = now
            taken = memory.anonymous()
            if taken is not None and self.most is not None:
                self.most = max(self.most, taken)

    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.started

    def peak(self) -> int | None:
        """The most memory that was seen beyond what was taken at the start."""
        self.look(always=True)
        return None if self.most is None or self.before is None else max(0, self.most - self.before)
