"""Times of several calls in turn, so that the drift of a shared machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dq_fast.bench.case import Call

SHORTEST_RUN = 2e-3  # s: calls shorter than this are timed several at a time, for the clock and its own cost
# float32 numbers read between runs: 128 MB, more than the last-level caches of usual machines. By numpy, whose sum
# takes one thread: those of torch's sum go on spinning for some milliseconds, and would take a core from the next call.
FLUSH_NUMBERS = 1 << 25
SLOW = 5.0  # s: above this a call gets the fewest runs


Timer = Callable[[Callable[[], object], int], float]
"""From a call and how often it is made to the seconds of one; it empties the caches before where that is asked for."""


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        seconds: of running time that each call gets, roughly.
        fewest, most: runs of a call, whatever it takes.
        slow_runs: runs of a call that takes more than SLOW seconds.
    """

    seconds: float = 5.0
    fewest: int = 7
    most: int = 40
    slow_runs: int = 3


QUICK = Effort(seconds=0.1, fewest=2, most=4, slow_runs=1)


@dataclass(frozen=True)
class Times:
    """Seconds a call of one provider, one number a run.

    Attributes:
        seconds: of each run, divided by the calls in it.
        calls: calls a run.
    """

    seconds: tuple[float, ...]
    calls: int = 1

    def quantile(self, q: float) -> float:
        """Linear between runs; 0.5 is the median."""
        return float(np.quantile(np.array(self.seconds), q))

    @property
    def median(self) -> float:
        """Of the runs."""
        return self.quantile(0.5)


def interleaved(
    calls: Mapping[str, Call],
    effort: Effort,
    *,
    cold: bool,
    first: Mapping[str, float],
    timer: Timer | None = None,
    done: Callable[[str], None] = lambda name: None,
) -> dict[str, Times]:
    """Time the calls in turn, A B C A B C, garbage collection off, warmed up.

    Args:
        calls: by name; each was called once before (compiled, loaded).
        effort: how many runs.
        cold: read a large buffer before each run, so that no call finds its inputs in the caches.
        first: seconds that this took; calls that took longer than SLOW are not warmed up once more.
        timer: measures; None: the host's clock.
        done: hears the name of each call that has all its runs.

    A call with fewer runs than others takes part in rounds spread over the whole time.
    """
    timer = timer or host_timer(cold)
    single = {name: first[name] if first[name] > SLOW else timer(call, 1) for name, call in calls.items()}
    runs = {name: _runs(seconds, effort) for name, seconds in single.items()}
    repeats = {name: 1 if cold else max(1, int(SHORTEST_RUN / max(s, 1e-9))) for name, s in single.items()}
    rounds = max(runs.values(), default=0)
    found: dict[str, list[float]] = {name: [] for name in calls}
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for k in range(rounds):
            for name, call in calls.items():
                # run number r of R falls into round floor(r * rounds / R)
                if len(found[name]) < runs[name] and len(found[name]) * rounds <= k * runs[name]:
                    found[name].append(timer(call, repeats[name]))
                    if len(found[name]) == runs[name]:
                        done(name)
    finally:
        if was_on:
            gc.enable()
    return {name: Times(tuple(seconds), repeats[name]) for name, seconds in found.items()}


def _runs(seconds: float, effort: Effort) -> int:
    if seconds > SLOW:
        return effort.slow_runs
    return int(np.clip(effort.seconds / max(seconds, SHORTEST_RUN), effort.fewest, effort.most))


def host_timer(cold: bool) -> Timer:
    """Seconds a call by this machine's clock; `cold`: a large buffer is read before, see FLUSH_NUMBERS."""
    buffer = np.ones(FLUSH_NUMBERS, dtype=np.float32) if cold else None

    def timed(call: Callable[[], object], repeats: int) -> float:
        if buffer is not None:
            float(buffer.sum())
        begin = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - begin) / repeats

    return timed
