"""Runs cases: check every provider's result, then time those that are right in turn, then measure their memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from dq_fast.bench import device as devices
from dq_fast.bench import peak
from dq_fast.bench.case import Call, Case, CheckError, Problem, Setting
from dq_fast.bench.device import Device
from dq_fast.bench.machine import Ceilings
from dq_fast.bench.providers import PROVIDERS, Provider
from dq_fast.bench.results import Row, add_ratios
from dq_fast.bench.timing import QUICK, Effort, interleaved
from dq_fast.errors import InputError
from dq_fast.progress import Progress, silent

_log = logging.getLogger(__name__)

Memory = Callable[[str, str, Setting, int], int]
"""From case, provider, setting and threads to peak bytes."""


@dataclass
class Run:
    """Everything that a run found.

    Attributes:
        rows: in the order of the cases.
        ceilings: the machine's best, measured before and after.
    """

    rows: list[Row] = field(default_factory=list)
    ceilings: Ceilings | None = None

    @property
    def failed(self) -> list[Row]:
        """Rows of results that were wrong or missing."""
        return [row for row in self.rows if row.checked == "no"]


def run(
    cases: Sequence[Case],
    setting: Setting,
    *,
    providers: Sequence[str] = (),
    threads: int | None = None,
    effort: Effort | None = None,
    memory: Memory | None = peak.measure,
    progress: Progress = silent,
    after_case: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Measure.

    Args:
        cases: in this order.
        setting: inputs.
        providers: names of those to run; none: all that the cases have.
        threads: of torch and of our kernels; None leaves torch's number.
        effort: how long; None is what the setting's `quick` says.
        memory: measures peak memory; None: not measured.
        progress: called with (case, steps done, steps).
        after_case: hears of the rows so far, so that an interrupted run has left something.

    Raises:
        InputError: an unknown provider, a bad number of threads, or data that cannot be read.
    """
    for name in providers:
        if name not in PROVIDERS:
            raise InputError(f"provider must be one of {', '.join(PROVIDERS)}, got {name!r}")
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}")
    effort = effort or (QUICK if setting.quick else Effort())
    on = devices.of(setting.device)
    found, about = Run(), on.describe()
    with _threads(threads):
        found.ceilings = on.ceilings(setting.quick)
        for case in cases:
            chosen = [
                name
                for name in case.ways
                if on.name in PROVIDERS[name].devices and (not providers or name in providers)
            ]
            if not chosen or case.only not in ("", on.name):
                continue
            found.rows += _run_case(case, chosen, setting, on, effort, memory, progress)
            _fill(found, about)
            after_case(found)
        found.ceilings = found.ceilings.best(on.ceilings(setting.quick))
    _fill(found, about)
    after_case(found)
    return found


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_case(
    case: Case,
    names: list[str],
    setting: Setting,
    on: Device,
    effort: Effort,
    memory: Memory | None,
    progress: Progress,
) -> list[Row]:
    steps, done = len(names) * (3 if memory else 2), 0

    def step(name: str = "") -> None:
        nonlocal done
        done += 1
        progress(case.name, min(done, steps), steps)

    progress(case.name, 0, steps)
    problem = case.make(setting)
    problem.inputs = on.move(problem.inputs)
    rows = {name: _row(case, PROVIDERS[name], problem, setting, on) for name in names}
    calls: dict[str, Call] = {}
    first: dict[str, float] = {}
    for name in names:
        checked = _check(case, PROVIDERS[name], problem, rows[name], on)
        if checked is not None:
            calls[name], first[name] = checked
        step()
    for name, times in interleaved(
        calls, effort, cold=case.cold, first=first, timer=on.timer(case.cold), done=step
    ).items():
        row = rows[name]
        row.median_s, row.q10_s, row.q90_s = times.median, times.quantile(0.1), times.quantile(0.9)
        row.runs, row.calls_a_run = len(times.seconds), times.calls
    timed = list(calls)
    for name, call in calls.items() if memory else ():
        rows[name].peak_bytes = on.peak(call)
    calls.clear()  # prepared copies of the inputs, before other processes need memory
    for name in timed if memory else []:
        assert memory is not None
        if rows[name].peak_bytes is not None:
            step()
            continue
        try:
            rows[name].peak_bytes = memory(case.name, name, setting, torch.get_num_threads())
        except InputError as error:
            _log.warning("%s", error)
            rows[name].note = str(error)
        step()
    if done < steps:  # some were left out
        progress(case.name, steps, steps)
    return list(rows.values())


def _row(case: Case, provider: Provider, problem: Problem, setting: Setting, on: Device) -> Row:
    return Row(
        case.name, provider.name, problem.n, problem.d, problem.groups, problem.dtype, torch.get_num_threads(), on.name,
        problem.source, "cold" if case.cold else "warm",
        tolerance=problem.exact_tolerance if provider.exact else problem.single_tolerance,
        bytes_floor=problem.bytes_floor, flops_floor=problem.flops_floor if problem.bytes_floor else None,
        input_bytes=problem.input_bytes, quick="yes" if setting.quick else "no",
    )  # fmt: skip


def _check(case: Case, provider: Provider, problem: Problem, row: Row, on: Device) -> tuple[Call, float] | None:
    """The prepared call and its first time, if the provider is here and right; the row says so, or why not."""
    missing = provider.missing(case.name.partition("/")[0], on.name)
    if missing:
        row.checked, row.note = "skipped", missing
        return None
    row.provider_version = provider.version
    row.checked = "no"
    try:
        call = case.ways[provider.name](problem.inputs)
        begin = time.perf_counter()
        result = call()
        on.wait()
        seconds = time.perf_counter() - begin
        row.deviation = problem.judge(result)
    except CheckError as error:
        row.note = str(error)
    except Exception as error:  # noqa: BLE001  whatever a provider raises is its result
        row.note = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        _log.debug("%s on %s", provider.name, case.name, exc_info=error)
    else:
        assert row.tolerance is not None
        if row.deviation <= row.tolerance:
            row.checked = "yes"
            return call, seconds
        row.note = f"deviates by {row.deviation:.3g}, {row.tolerance:.3g} is allowed"
    _log.warning("%s: the result of %s is wrong: %s", case.name, provider.name, row.note)
    return None


def _fill(run: Run, about: Mapping[str, str]) -> None:
    """What follows from the rows and the ceilings together, and what is the same in all rows."""
    add_ratios(run.rows)
    for row in run.rows:
        for name, value in about.items():
            setattr(row, name, value)
    if run.ceilings is None:
        return
    for row in run.rows:
        row.copy_bytes_s, row.read_bytes_s = run.ceilings.copy, run.ceilings.read
        row.float32_flops_s, row.float64_flops_s = run.ceilings.float32, run.ceilings.float64
        if row.bytes_floor is None:
            continue
        row.floor_s = run.ceilings.floor(row.bytes_floor, row.flops_floor or 0)
        if row.median_s and not PROVIDERS[row.provider].part:
            row.fraction_of_floor = row.floor_s / row.median_s
