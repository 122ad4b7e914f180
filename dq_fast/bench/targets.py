"""The speed to reach, as data, and what a run says about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dq_fast.bench.results import Row
from dq_fast.ops.patch_scores import VARIANTS

Measured = tuple[float, str]
"""A number, and what it was made from."""


class Found:
    """Rows of a run by case and provider."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {(row.case, row.provider): row for row in rows}

    def median(self, case: str, provider: str) -> float | None:
        """Seconds, or None where it was not timed."""
        row = self._rows.get((case, provider))
        return None if row is None else row.median_s

    def row(self, case: str, provider: str) -> Row | None:
        """The row."""
        return self._rows.get((case, provider))


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Attributes:
        what: in words.
        measure: the number of a run, None where something it needs was not timed.
        at_least: what has to be reached.
        aim: what is aimed at.
        unit: written behind the number.
        larger: whether larger is better.
    """

    what: str
    measure: Callable[[Found], Measured | None]
    at_least: float | None
    aim: float | None
    unit: str = "x"
    larger: bool = True


@dataclass(frozen=True)
class Verdict:
    """A target and what a run measured.

    Attributes:
        what, unit, at_least, aim: the target's.
        measured: the number, None where it was not measured.
        verdict: "aim reached", "met", "short by 12 %", "measured" (nothing was asked for), or "not measured".
        made_from: providers and times.
    """

    what: str
    measured: float | None
    unit: str
    at_least: float | None
    aim: float | None
    verdict: str
    made_from: str

    @property
    def short(self) -> bool:
        """Whether it was measured and missed."""
        return self.verdict.startswith("short")


def faster(case: str, *rivals: str, native: str = "native") -> Callable[[Found], Measured | None]:
    """How many times faster native is than the fastest of the rivals that were timed."""

    def measure(found: Found) -> Measured | None:
        own = found.median(case, native)
        times = {name: t for name in rivals if (t := found.median(case, name)) is not None}
        if not own or not times:
            return None
        best = min(times, key=times.__getitem__)
        return times[best] / own, f"{best} {_time(times[best])}, {native} {_time(own)}"

    return measure


def of(case: str, *rivals: str) -> Callable[[Found], Measured | None]:
    """What native takes, as a multiple of the fastest of the rivals."""

    def measure(found: Found) -> Measured | None:
        ratio = faster(case, *rivals)(found)
        return None if ratio is None else (1 / ratio[0], ratio[1])

    return measure


def floor_fraction(case: str) -> Callable[[Found], Measured | None]:
    """The fraction of the floor that native reaches."""

    def measure(found: Found) -> Measured | None:
        row = found.row(case, "native")
        if row is None or row.fraction_of_floor is None or row.floor_s is None or row.median_s is None:
            return None
        return row.fraction_of_floor, f"floor {_time(row.floor_s)}, native {_time(row.median_s)}"

    return measure


def microseconds(case: str, provider: str) -> Callable[[Found], Measured | None]:
    """Microseconds a call."""

    def measure(found: Found) -> Measured | None:
        own = found.median(case, provider)
        return None if own is None else (own * 1e6, provider)

    return measure


def extra_memory(case: str, provider: str) -> Callable[[Found], Measured | None]:
    """Peak memory on top of the inputs, as a fraction of them."""

    def measure(found: Found) -> Measured | None:
        row = found.row(case, provider)
        if row is None or row.peak_bytes is None or not row.input_bytes:
            return None
        mib = 1 << 20
        return row.peak_bytes / row.input_bytes, f"{row.peak_bytes / mib:.1f} of {row.input_bytes / mib:.1f} MiB"

    return measure


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


_ROW_SUMS = "cosine_row_sums/200000x512-float32"
_ALL_BINS = "graph_cut_bins/cifar10-10x513"
_ONE_CLASS = "graph_cut_bins/cifar10-class0-10x513"
_ONE_GROUP = "graph_cut_greedy/5000-of-50000x650"
_GIVEN = "graph_cut_greedy/500-of-5000-given"
_EXHAUSTIVE = ("native-gram", "torch-gram", "torch-incremental")
_OPS = ("cosine_row_sums", "graph_cut_greedy", "graph_cut_bins", "patch_scores")


def ten_classes(found: Found) -> Measured | None:
    """The published algorithm ranks one class after the other, all of one size: ten times the time of the first."""
    own, one = found.median(_ALL_BINS, "native"), found.median(_ONE_CLASS, "published")
    if not own or one is None:
        return None
    return 10 * one / own, f"10 x published {_time(one)}, native {_time(own)}"


TARGETS: tuple[Target, ...] = (
    Target("row sums, 200,000 x 512 float32, against torch-linear", faster(_ROW_SUMS, "torch-linear"), 2, 2.5),
    Target("the same, fraction of copy bandwidth on two reads", floor_fraction(_ROW_SUMS), None, 0.8, ""),
    Target(
        "all of CIFAR-10, ten bins, 10 x 513, of the time that torch takes to form the matrices",
        of(_ALL_BINS, "torch-matrix"), 0.5, 0.25, larger=False,
    ),
    Target("all of it, against the published dense algorithm (ten times its first class)", ten_classes, 150, 400),
    Target("its first class alone, against the same", faster(_ONE_CLASS, "published"), None, None),
    Target(
        "5,000 of 50,000 in one group, 650 wide, against torch-incremental",
        faster(_ONE_GROUP, "torch-incremental"), 15, 40,
    ),
    Target(
        "500 of 5,000 given, against the better of apricot and submodlib",
        faster(_GIVEN, "apricot", "submodlib"), 50, 100,
    ),
    Target(
        "the same, submodlib's function built beforehand and not counted",
        faster(_GIVEN, "apricot", "submodlib-built"), None, None,
    ),
    Target(
        "isotropic rows, greedy, of the better of gram and incremental",
        of("graph_cut_greedy/isotropic", *_EXHAUSTIVE), 1.1, None, larger=False,
    ),
    Target(
        "the same, of our own naive method",
        of("graph_cut_greedy/isotropic", "native-naive"), None, None, larger=False,
    ),
    Target(
        "isotropic rows, bins, of the better of gram and incremental",
        of("graph_cut_bins/isotropic", *_EXHAUSTIVE), 1.1, None, larger=False,
    ),
    Target(
        "the same, of our own naive method",
        of("graph_cut_bins/isotropic", "native-naive"), None, None, larger=False,
    ),
    *(
        Target(f"patch scores, {variant}, gradients {kind}, against the torch definition",
               faster(f"patch_scores/{variant}-{kind}", "torch"), 3, None)
        for variant in VARIANTS for kind in ("constant", "full")
    ),
    *(
        Target(f"patch scores, {variant}, gradients {kind}, fraction of copy bandwidth",
               floor_fraction(f"patch_scores/{variant}-{kind}"), None, 0.7, "")
        for variant in VARIANTS for kind in ("constant", "full")
    ),
    *(Target(f"tiny call, {op}", microseconds(f"{op}/tiny", "native"), 10, 5, " µs", larger=False) for op in _OPS),
    *(
        Target(f"tiny call, {op}, without the public function's checks",
               microseconds(f"{op}/tiny", "native-dispatch"), None, None, " µs", larger=False)
        for op in _OPS
    ),
    Target(
        "memory on top of the inputs, lazy, 5,000 of 50,000, 650 wide",
        extra_memory(_ONE_GROUP, "native-lazy"), 0.05, None, "", larger=False,
    ),
)  # fmt: skip


def judge(rows: Iterable[Row], targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Hold a run against the targets; rows of quick runs (smaller inputs) and of GPUs say nothing about them."""
    found = Found(row for row in rows if row.quick != "yes" and row.device == "cpu")
    return [_verdict(target, target.measure(found)) for target in targets]


def _verdict(target: Target, measured: Measured | None) -> Verdict:
    number, made_from = measured if measured is not None else (None, "")
    if number is None:
        verdict = "not measured"
    elif target.aim is not None and _reached(number, target.aim, target.larger):
        verdict = "aim reached"
    elif target.at_least is None:
        verdict = "measured" if target.aim is None else f"below the aim by {_short(number, target.aim, target.larger)}"
    elif _reached(number, target.at_least, target.larger):
        verdict = "met"
    else:
        verdict = f"short by {_short(number, target.at_least, target.larger)}"
    return Verdict(target.what, number, target.unit, target.at_least, target.aim, verdict, made_from)


def _reached(number: float, wanted: float, larger: bool) -> bool:
    return number >= wanted if larger else number <= wanted


def _short(number: float, wanted: float, larger: bool) -> str:
    """Of the way that was wanted, how much is missing, or how much too much was taken."""
    return f"{100 * (1 - number / wanted if larger else number / wanted - 1):.0f} %"


def number_text(value: float | None, unit: str) -> str:
    """A number with its unit, for tables."""
    return "–" if value is None else f"{value:.3g}{unit}"


def markdown(verdicts: Iterable[Verdict], about: str) -> str:
    """The table as Markdown, under one line on the run."""
    lines = [
        "# Speed to reach", "", about, "",
        "| what | measured | at least | aim | verdict | from |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for v in verdicts:
        numbers = (number_text(x, v.unit) for x in (v.measured, v.at_least, v.aim))
        lines.append(f"| {v.what} | {' | '.join(numbers)} | {v.verdict} | {v.made_from} |")
    return "\n".join(lines) + "\n"
