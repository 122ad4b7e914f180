"""The sample level at scale: millions of rows in memory-mapped files. `python bench/scale.py --help`.

Rows come from the mixture of `dq_fast.bench.mixture` (fitted to features of real photos), written once to FOLDER. Every
ranking is certified: random picks are computed again from the definition in float64. Memory is what the process holds
beyond mapped files (RssAnon), its highest while the ranking ran less what it was before.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import gc
import itertools
import math
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dq_fast import SampleQuantizer, ops
from dq_fast.bench.mixture import Mixture, features, gradients, rows, write
from dq_fast.select.certificate import certify
from dq_fast.select.groups import Groups
from dq_fast.select.settings import Settings

IMAGENET, CLASSES = 1_281_167, 1_000
GROWTH = (100_000, 300_000, 1_000_000, 3_000_000)
PICKS = 100  # that a certificate looks at again
RUNS = 3  # of which the median is reported, ours and what it is compared with in turn


@dataclass(frozen=True)
class Measured:
    """One line of the CSV.

    Attributes:
        case, rows, numbers (a row, of all factors), groups, picks: what was ranked.
        seconds: of the ranking, median of three, input mapped and read before (so the page cache holds what fits).
        passes: rows read, by the number of rows, as the kernels count them.
        memory_mib: anonymous memory on top of what the process held before, in the first run.
        against, against_seconds: what it is compared with, and its time; `ratio` is that over `seconds`.
        shortfall: largest shortfall of a certified pick, relative.
    """

    case: str
    rows: int
    numbers: int
    groups: int
    picks: int
    seconds: float
    passes: float
    memory_mib: float
    against: str
    against_seconds: float
    ratio: float
    shortfall: float
    machine: str


class Memory:
    """The highest RssAnon while it runs, sampled every 2 ms."""

    def __enter__(self) -> Memory:
        gc.collect()
        with contextlib.suppress(AttributeError, OSError):  # not glibc: freed memory may be used again unseen
            ctypes.CDLL(None).malloc_trim(0)
        self._before = self.peak = _anonymous()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, _anonymous())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        """Above what it was at the start."""
        return (self.peak - self._before) / 2**20


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _in_turn(ours: Callable[[], object], theirs: Callable[[], float]) -> tuple[float, float, float]:
    """Median seconds of ours, MiB that its first run took, and the median of the seconds that theirs returns."""
    theirs()
    with Memory() as memory:
        seconds = [_timed(ours)]
    others = [theirs()]
    for _ in range(RUNS - 1):
        seconds.append(_timed(ours))
        others.append(theirs())
    return statistics.median(seconds), memory.mib, statistics.median(others)


def _mapped(folder: Path, name: str, offsets: list[int], d: int, make: Callable[..., object]) -> torch.Tensor:
    path = folder / f"{name}-{offsets[-1]}x{d}.npy"
    if not path.exists():
        unfinished = path.with_suffix(".tmp.npy")
        write(unfinished, offsets[-1], d, make)
        unfinished.replace(path)
    x = torch.from_numpy(np.load(path, mmap_mode="c"))
    for part in x.split(1 << 16):  # into the page cache
        part.sum()
    return x


def _photos(folder: Path, n: int, groups: int, d: int) -> tuple[torch.Tensor, list[int]]:
    offsets = [n * g // groups for g in range(groups + 1)]
    return _mapped(folder, "photos", offsets, d, lambda out: rows(Mixture.load(), offsets, d, out=out)), offsets


def _picks_one_by_one(x: torch.Tensor, picks: int, tried: int = 6) -> float:
    """Seconds of `picks` matrix-vector products, from a few of them."""
    x @ x[0]
    return picks * min(_timed(partial(torch.mv, x, x[k])) for k in range(tried))


def _similarities(factors: tuple[torch.Tensor, ...], offsets: list[int], tried: int = 40) -> float:
    """Seconds of forming the similarities of all groups once, rows normalised, from a few groups."""
    groups = list(itertools.pairwise(offsets))
    some = groups[:: max(1, len(groups) // tried)][:tried]

    def form() -> None:
        for begin, end in some:
            product = None
            for factor in factors:
                part = torch.nn.functional.normalize(factor[begin:end], dim=1)
                cosines = part @ part.T
                product = cosines if product is None else product * cosines

    return _timed(form) * len(groups) / len(some)


def by_class(folder: Path, d: int = 768) -> Iterator[Measured]:
    """All of ImageNet's size, a thousand groups, ten bins, full ranking."""
    x, offsets = _photos(folder, IMAGENET, CLASSES, d)
    yield _bins("by class, ten bins", (x,), offsets)


def two_factors(folder: Path, classes: int = CLASSES) -> Iterator[Measured]:
    """Gradient embeddings of ImageNet's size, 1,000 and 769 wide, against torch, and against the features alone."""
    offsets = [1_281 * g for g in range(classes + 1)]
    h = _mapped(folder, "features", offsets, 769, lambda out: features(Mixture.load(), offsets, 769, out=out))
    b = _mapped(folder, "gradients", offsets, 1_000, lambda out: gradients(Mixture.load(), offsets, 1_000, out=out))
    one = _bins("by class, ten bins, features alone", (h,), offsets)
    yield one
    both = _bins("by class, ten bins, two factors", (b, h), offsets)
    yield both
    yield replace(both, against="features alone", against_seconds=one.seconds, ratio=one.seconds / both.seconds)


def _bins(case: str, factors: tuple[torch.Tensor, ...], offsets: list[int]) -> Measured:
    labels = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    quantizer = SampleQuantizer(n_bins=10, max_memory="1GiB")
    embedding = factors if len(factors) > 1 else factors[0]
    seconds, mib, other = _in_turn(lambda: quantizer.fit(embedding, labels), lambda: _similarities(factors, offsets))
    shortfall = quantizer.certificate(embedding, PICKS).relative_shortfall
    return Measured(
        case, offsets[-1], sum(x.shape[1] for x in factors), len(offsets) - 1, offsets[-1], seconds,
        float(quantizer.report_.get("passes", math.nan)), mib, "torch forms the similarities once", other,
        other / seconds, shortfall, _machine(),
    )  # fmt: skip


def one_group(folder: Path, n: int = IMAGENET, d: int = 768, groups: int = CLASSES, share: float = 0.01) -> Measured:
    """One per cent of everything, all classes together."""
    x, _ = _photos(folder, n, groups, d)
    picks = math.ceil(share * n)
    report: dict[str, object] = {}
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    seconds, mib, one_by_one = _in_turn(
        lambda: found.append(ops.graph_cut_greedy(x, picks, method="auto", report=report)),
        lambda: _picks_one_by_one(x, picks),
    )
    chosen = found[0][0].numpy()
    bin_of, gains = np.full(n, -1, np.int64), np.full(n, np.nan)
    bin_of[chosen], gains[chosen] = 0, found[0][1].numpy()
    certificate = certify((x,), Groups.of(None, n), chosen, bin_of, gains, Settings(1), PICKS)
    return Measured(
        f"one group, {share:.0%}", n, d, 1, picks, seconds, float(report.get("passes", math.nan)),  # type: ignore[arg-type]
        mib, "a matrix-vector product a pick", one_by_one, one_by_one / seconds,
        certificate.relative_shortfall, _machine(),
    )  # fmt: skip


def growth(folder: Path) -> Iterator[Measured]:
    """The same at d = 128, from a hundred thousand rows to three million."""
    for n in GROWTH:
        yield one_group(folder, n, 128)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    return f"{cpu}, {torch.get_num_threads()} threads; torch {torch.__version__}, Python {platform.python_version()}"


CASES = {
    "by-class": by_class,
    "one-group": lambda folder: iter([one_group(folder)]),
    "growth": growth,
    "two-factors": two_factors,
}


def _save(path: Path, new: Measured) -> None:
    """The CSV with this line, in place of an earlier one of the same case, size and comparison."""
    names = [f.name for f in fields(Measured)]
    kept: list[dict[str, object]] = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [
                dict(r)
                for r in csv.DictReader(file)
                if (r["case"], int(r["rows"]), int(r["numbers"]), r["against"])
                != (new.case, new.rows, new.numbers, new.against)
            ]
    line = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in asdict(new).items()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, line])


def main() -> int:
    """Measure what was asked for, a line of the CSV each."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the made-up rows are kept; up to 9 GB a case")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--csv", type=Path, default=Path(__file__).parent / "results/scale.csv")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    print(f"{'case':45}{'rows':>10}{'picks':>10}{'s':>9}{'passes':>8}{'MiB':>7}{'ratio':>7}  shortfall")
    for name in asked.case:
        for m in CASES[name](asked.folder):
            _save(asked.csv, m)
            print(
                f"{m.case:45}{m.rows:10,}{m.picks:10,}{m.seconds:9.2f}{m.passes:8.1f}{m.memory_mib:7.0f}{m.ratio:7.1f}"
                f"  {m.shortfall:.1e}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
