"""Is method="auto" of the graph-cut ops never far from the best of the others? `python bench/auto_grid.py --help`.

A case is a kind of rows, their number and widths, groups, how much is picked, and threads. In each, auto runs first;
then the others, which are stopped once they have taken twice as long (they are not the best then). What was not stopped
runs again in turn, auto naive gram lazy auto ..., so that the drift of a shared machine hits all alike. The ratio is
auto's time over the shortest of the three, of the minima. All methods must give the same rows.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dq_fast import ops
from dq_fast.bench.case import Setting
from dq_fast.bench.inputs import cifar10, default_cache
from dq_fast.bench.mixture import Mixture, gradients, rows

METHODS = ("auto", "naive", "gram", "lazy")
SIZES = (300, 1_000, 3_000, 10_000, 30_000)
WIDTHS = ((16,), (64,), (512,), (10, 65), (10, 513), (100, 65))
BUDGETS = ("1%", "10%", "bins")
KINDS = ("mixture", "isotropic", "clusters", "low-rank")
MANY = ((100, 500), (300, 60))  # groups, rows of each
NAIVE_RATE, LIMIT = 2e9, 20.0  # float64 products a second and thread, a little more than there are; seconds
ENOUGH = 1.2
FEW = {"quick": (3, 0.02), "full": (4, 0.06)}  # rounds at least (2 for slow cases), and seconds a case and method
TWO = (1_000, 10_000)  # sizes that two threads rank too


@dataclass(frozen=True)
class Case:
    """What is ranked."""

    rows: str
    n: int
    groups: int
    widths: tuple[int, ...]
    budget: str
    threads: int

    @property
    def picks(self) -> list[int]:
        """Of each group."""
        n = self.n // self.groups
        return [n if self.budget == "bins" else max(1, n * int(self.budget[:-1]) // 100)] * self.groups

    @property
    def naive_seconds(self) -> float:
        """About what naive takes: a float64 product of each pick with all rows of its group."""
        return sum(self.picks) * (self.n // self.groups) * sum(self.widths) / NAIVE_RATE / self.threads


@dataclass
class Measured:
    """One line of the CSV.

    Attributes:
        rows, n, groups, d, budget, picks, threads: the case.
        method: which; seconds, least: median and minimum of `runs` runs.
        ratio, ratio_median: auto's time over the shortest of the others, by minima and by medians; on auto's line.
        chose: the way of most groups, and how many changed it midway.
        note: why it was not timed.
        clock: "wall", or "processor" (of all threads).
    """

    rows: str
    n: int
    groups: int
    d: str
    budget: str
    picks: int
    threads: int
    method: str
    seconds: float | None = None
    least: float | None = None
    runs: int = 0
    ratio: float | None = None
    ratio_median: float | None = None
    best: str = ""
    chose: str = ""
    note: str = ""
    clock: str = "wall"


class StoppedError(Exception):
    """A run took too long."""


def _normal(seed: int, n: int, d: int) -> Any:
    return np.random.default_rng([seed, n, d]).standard_normal((n, d), dtype=np.float32)


def _clusters(seed: int, n: int, d: int) -> Any:
    """Thirty tight clusters; a tenth of the rows are copies of others."""
    rng = np.random.default_rng([seed, n, d])
    x = _normal(seed, 30, d)[rng.integers(30, size=n)] + np.float32(0.05) * _normal(seed + 1, n, d)
    x[rng.integers(n, size=n // 10)] = x[rng.integers(n, size=n // 10)]
    return x


def _low_rank(seed: int, n: int, d: int) -> Any:
    """Six directions, and a little of all others."""
    return _normal(seed, n, 6) @ _normal(seed + 1, 6, d) + np.float32(0.05) * _normal(seed + 2, n, d)


MADE: dict[str, Callable[[int, int, int], Any]] = {
    "isotropic": _normal, "clusters": _clusters, "low-rank": _low_rank,
}  # fmt: skip


def factors(case: Case, data: tuple[Path, ...]) -> tuple[torch.Tensor, ...] | None:
    """The rows; None where there are none of this size."""
    offsets = [case.n * g // case.groups for g in range(case.groups + 1)]
    if case.rows == "mixture":
        parts = [rows(Mixture.load(), offsets, case.widths[-1])]
        if len(case.widths) == 2:
            parts.insert(0, gradients(Mixture.load(), offsets, case.widths[0]))
    elif case.rows == "cifar10":
        found = cifar10(Setting(data=data, cache=default_cache()), wide=case.widths[-1] > 65)
        if case.n > len(found.b) or found.b.shape[1] * found.h.shape[1] != int(np.prod(case.widths)):
            return None
        step = len(found.b) // case.n if case.n > 5_000 and case.groups == 1 else 1  # one class, or some of all
        return tuple(x[::step][: case.n].contiguous() for x in (found.b, found.h))
    else:
        parts = [
            np.concatenate([MADE[case.rows](10 * k + 1000 * g, case.n // case.groups, d) for g in range(case.groups)])
            for k, d in enumerate(case.widths)
        ]
    return tuple(torch.from_numpy(x) for x in parts)


def cases(quick: bool, real: bool) -> Iterator[Case]:
    """The grid, less what naive would take more than LIMIT seconds for, on one thread."""
    if quick:
        sizes, widths, budgets, threads = (300, 2_000), ((64,), (10, 65)), ("10%", "bins"), (1,)
        many: tuple[tuple[int, int], ...] = ((20, 100),)
    else:
        sizes, widths, budgets, threads, many = SIZES, WIDTHS, BUDGETS, (1, 2), MANY  # type: ignore[assignment]
    kinds = (*KINDS, "cifar10") if real else KINDS
    for kind, n, width, budget, cores in itertools.product(kinds, sizes, widths, budgets, threads):
        if (n == SIZES[-1] and width[-1] > 65) or (cores == 2 and n not in TWO):
            continue
        if kind == "cifar10" and width not in ((10, 65), (10, 513)):
            continue
        case = Case(kind, n, 1, width, budget, cores)
        if case.naive_seconds < LIMIT * cores:
            yield case
    for kind, (groups, n), width, cores in itertools.product(kinds[:2], many, widths, threads):
        yield Case(kind, groups * n, groups, width, "bins", cores)


CLOCK: Callable[[], float] = time.perf_counter


def _run(case: Case, x: Any, method: str, limit: float | None = None) -> tuple[float, torch.Tensor, dict[str, Any]]:
    """Seconds, rows in pick order, report; stopped after `limit` seconds."""
    offsets = torch.arange(case.groups + 1) * (case.n // case.groups)
    report: dict[str, Any] = {}
    began = CLOCK()

    def watch(stage: str, done: int, total: int) -> None:
        if limit is not None and CLOCK() - began > limit:
            raise StoppedError

    more: dict[str, Any] = {"method": method, "offsets": offsets}
    if limit is not None:
        more.update(report=report, progress=watch)
    if case.budget == "bins":
        found = ops.graph_cut_bins(x, 10, **more)[0]
    else:
        found = ops.graph_cut_greedy(x, case.picks, **more)[0]
    return CLOCK() - began, found, report


def measure(case: Case, x: Any, quick: bool) -> list[Measured]:
    """A line for each method."""
    torch.set_num_threads(case.threads)
    clock = "wall" if CLOCK is time.perf_counter else "processor"
    line = {m: Measured(case.rows, case.n, case.groups, "x".join(map(str, case.widths)), case.budget, sum(case.picks),
                        case.threads, m, clock=clock) for m in METHODS}  # fmt: skip
    times: dict[str, list[float]] = {}
    want: torch.Tensor | None = None
    first = 0.0  # auto's first run
    for method in METHODS:
        if method == "naive" and case.naive_seconds > LIMIT:
            line[method].note = f"not run: about {case.naive_seconds:.0f} s"
            continue
        limit = LIMIT if want is None else max(0.05, 2 * first)
        try:
            taken, found, report = _run(case, x, method, limit)
        except StoppedError:
            line[method].note = f"stopped after {limit:.2g} s"
            if want is None:
                return list(line.values())
            continue
        if want is None:
            first, want = taken, found
        if not torch.equal(want, found):
            raise AssertionError(f"{case}: {method} gives other rows than auto")
        times[method] = []
        line[method].chose = " ".join(f"{way}:{count}" for way, count in report["groups"].items() if count)
        if report["switched"]:
            line[method].chose += f" switched:{report['switched']}"
    rounds, seconds = FEW["quick" if quick else "full"]
    rounds = rounds if first < 1 else 2
    spent, done = 0.0, 0
    while done < rounds or (spent < seconds * len(times) and done < 40):
        for method in times:
            times[method].append(_run(case, x, method)[0])
        spent, done = sum(map(sum, times.values())), done + 1
    for method, found_times in times.items():
        m = line[method]
        m.seconds, m.least, m.runs = statistics.median(found_times), min(found_times), len(found_times)
    others = [m for name, m in line.items() if name != "auto" and m.least is not None]
    if not others:
        line["auto"].note = "all others were stopped"
    if others:
        auto, best = line["auto"], min(others, key=lambda m: m.least or 0)
        auto.best = best.method
        auto.ratio = (auto.least or 0) / (best.least or 1)
        auto.ratio_median = (auto.seconds or 0) / min(m.seconds or 0 for m in others)
    return list(line.values())


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{cpu}; torch {torch.__version__}, Python {platform.python_version()}"


def _save(path: Path, measured: list[list[Measured]]) -> None:
    names = [*(f.name for f in fields(Measured)), "machine"]
    machine = _machine()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for m in itertools.chain.from_iterable(measured):
            line = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in asdict(m).items()}
            writer.writerow(line | {"machine": machine})


def _show(lines: list[Measured]) -> str:
    auto = lines[0]
    text = f"{auto.rows:9} {auto.n:6}/{auto.groups:<3} {auto.d:>6} {auto.budget:>4} {auto.threads}t "
    for m in lines:
        text += f"{1e3 * m.least:10.2f}" if m.least is not None else f"{'-':>10}"
    if auto.ratio is None or auto.ratio_median is None:
        return text + f"  {auto.chose} {auto.note}"
    mark = " <--" if min(auto.ratio, auto.ratio_median) > ENOUGH else ""
    return text + f"  {auto.ratio:5.2f} {auto.ratio_median:5.2f} of {auto.best:5} {auto.chose}{mark}"


def main() -> int:
    """Measure the grid, a line for each case; the exit status is 1 if auto was more than 1.2 times the best in one."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small grid, under a minute: does everything work?")
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], help="folders with CIFAR-10 and ResNet-20's weights"
    )
    parser.add_argument("--rows", nargs="+", choices=(*KINDS, "cifar10"), help="only these kinds of rows")
    parser.add_argument("--threads", type=int, help="only this many threads")
    parser.add_argument(
        "--part", type=int, nargs=2, metavar=("K", "N"), help="every N-th case from the K-th on, from 0"
    )
    parser.add_argument("--processor-time", action="store_true", help="of all threads: for busy machines")
    parser.add_argument("--csv", type=Path, help="where the figures go; nowhere unless named")
    asked = parser.parse_args()
    if asked.processor_time:
        globals()["CLOCK"] = time.process_time
    grid = [c for c in cases(asked.quick, bool(asked.data)) if c.rows in (asked.rows or [c.rows])
            and c.threads in (asked.threads or c.threads,)]  # fmt: skip
    if asked.part:
        grid = grid[asked.part[0] :: asked.part[1]]
    print(f"{len(grid)} cases; {_machine()}")
    print(
        f"{'rows':9} {'n/groups':>10} {'d':>6} {'pick':>4}    "
        + "".join(f"{m + ', ms':>10}" for m in METHODS)
        + "  auto / best"
    )
    measured: list[list[Measured]] = []
    inputs: tuple[tuple[object, ...], Any] = ((), None)
    for case in grid:
        key = (case.rows, case.n, case.groups, case.widths)
        if inputs[0] != key:
            inputs = (key, factors(case, tuple(asked.data)))
        if inputs[1] is None:
            continue
        measured.append(measure(case, inputs[1], asked.quick))
        print(_show(measured[-1]), flush=True)
        if asked.csv:
            _save(asked.csv, measured)
    ratios = sorted((r for m in measured for r in [m[0].ratio] if r is not None), reverse=True)
    worse = [r for r in ratios if r > ENOUGH]
    print(
        f"auto / best of {len(ratios)} cases: worst {ratios[0]:.2f}, median {statistics.median(ratios):.2f}; "
        f"above {ENOUGH}: {len(worse)}; the others at least twice auto's time in {len(measured) - len(ratios)} more"
    )
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main())
