"""Certificates: a few picks of a ranking, computed again from the definition, against what was reported.

A ranking is exact when every pick has the largest gain there was, up to the documented tolerance, and ties went to the
lowest row. A certificate takes picks at random and looks at all rows that could have been picked instead
(`dq_fast.select.exhaustive`: float64, its own arithmetic, a few sequential reads of the rows).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.progress import Progress
from dq_fast.select.exhaustive import Answer, Exhaustive, Ints, Question
from dq_fast.select.groups import Groups

_ROUNDING = 0.5  # of the tolerance: what the gains of either side may be off by
GAIN_LIMIT = 1e-9  # a reported gain may differ by this much of its scale
SIMILARITIES = ("cosine", "dot")
_SHOWN = 10  # wrong picks that people are shown


@dataclass(frozen=True)
class Pick:
    """One pick of a ranking, looked at again.

    Attributes:
        row: row that was picked. group, bin: where. place: its place in the group's ranking, from 0.
        gain: its gain as reported (NaN where none was). picked: its gain as computed here.
        best, best_row: the largest gain of all rows that could have been picked, and the row that has it.
        lowest: the row that should have been picked: the lowest of those that tie with the best.
        mean: mean gain of the rows that could have been picked.
        tolerance: 1e-12 * n * (lam + 2) * largest |s|, n the group's rows: gains nearer than that are equal.
        scale: (lam * rows remaining at the start of the bin + 2 * rows already in the bin) * largest |s|: the largest
            that the two sums of the gain can be together. What "relative" means here.
    """

    row: int
    group: int
    bin: int
    place: int
    gain: float
    picked: float
    best: float
    best_row: int
    lowest: int
    mean: float
    tolerance: float
    scale: float

    @property
    def shortfall(self) -> float:
        """What the pick gained less than the best, >= 0."""
        return max(0.0, self.best - self.picked)

    @property
    def relative_shortfall(self) -> float:
        """Shortfall as a part of `scale`."""
        return self.shortfall / self.scale if self.scale > 0 else self.shortfall

    @property
    def error(self) -> float:
        """What the reported gain is off by; 0 where none was reported."""
        return 0.0 if np.isnan(self.gain) else abs(self.gain - self.picked)

    @property
    def relative_error(self) -> float:
        """Error as a part of `scale`."""
        return self.error / self.scale if self.scale > 0 else self.error

    @property
    def fault(self) -> str:
        """What is wrong: "" (nothing), "shortfall", "tie" (it is not the lowest row) or "gain" (misreported)."""
        if not self.shortfall <= (1 + _ROUNDING) * self.tolerance:
            return "shortfall"
        if self.lowest < self.row:
            return "tie"
        return "gain" if self.relative_error > GAIN_LIMIT else ""

    def __str__(self) -> str:
        where = f"pick {self.place} of group {self.group} (bin {self.bin}, row {self.row})"
        if self.fault == "shortfall":
            return (
                f"{where}: row {self.lowest} gains {self.shortfall:.6g} more ({self.best:.12g} against "
                f"{self.picked:.12g}; relative {self.relative_shortfall:.2g})"
            )
        if self.fault == "tie":
            return f"{where}: row {self.lowest} ties with it, and is lower"
        if self.fault == "gain":
            return f"{where}: gain {self.gain:.12g} reported, {self.picked:.12g} found"
        return f"{where}: exact"


@dataclass(frozen=True)
class Certificate:
    """What was found about the picks of a ranking.

    Attributes:
        picks: those looked at, group after group in pick order.
        of: how many picks the ranking has.
        passes: how often each row of the groups that the picks are in was read. bytes_read: in all.
        seconds: time it took.
    """

    picks: tuple[Pick, ...]
    of: int
    passes: int = 0
    bytes_read: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong with any of the picks."""
        return not self.faults

    @property
    def faults(self) -> tuple[Pick, ...]:
        """The picks that something is wrong with."""
        return tuple(p for p in self.picks if p.fault)

    @property
    def shortfall(self) -> float:
        """Largest shortfall."""
        return max((p.shortfall for p in self.picks), default=0.0)

    @property
    def relative_shortfall(self) -> float:
        """Largest shortfall relative to its pick's scale."""
        return max((p.relative_shortfall for p in self.picks), default=0.0)

    @property
    def error(self) -> float:
        """Largest error of a reported gain."""
        return max((p.error for p in self.picks), default=0.0)

    @property
    def relative_error(self) -> float:
        """Largest error of a reported gain relative to its pick's scale."""
        return max((p.relative_error for p in self.picks), default=0.0)

    @property
    def loss(self) -> float:
        """All shortfalls over what random picks would have fallen short by: 0 is greedy, 1 no better than random."""
        random = sum(p.best - p.mean for p in self.picks)
        tolerance = sum(p.tolerance for p in self.picks)
        return sum(p.shortfall for p in self.picks) / random if random > tolerance else 0.0

    def __str__(self) -> str:
        if not self.picks:
            return "certificate: no picks looked at"
        exact = len(self.picks) - len(self.faults)
        lines = [
            f"certificate: {exact} of {len(self.picks)} picks exact (of {self.of}; {self.passes} reads, "
            f"{self.bytes_read / 2**20:.0f} MiB, {self.seconds:.1f} s)",
            f"  largest shortfall {self.shortfall:.2g}, relative {self.relative_shortfall:.2g}",
        ]
        if not all(np.isnan(p.gain) for p in self.picks):
            lines.append(f"  largest error of a gain {self.error:.2g}, relative {self.relative_error:.2g}")
        lines += [f"  {p}" for p in self.faults[:_SHOWN]]
        if len(self.faults) > _SHOWN:
            lines.append(f"  and {len(self.faults) - _SHOWN} more")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the numbers of the text, and the picks that something is wrong with."""
        names = ("row", "group", "bin", "place", "picked", "best", "best_row", "lowest", "relative_shortfall")
        faults = [{"fault": p.fault, **{name: getattr(p, name) for name in names}} for p in self.faults]
        keys = ["holds", "of", "shortfall", "relative_shortfall", "error", "relative_error", "loss"]
        keys += ["passes", "bytes_read", "seconds"]
        return {"picks": len(self.picks), **{key: getattr(self, key) for key in keys}, "faults": faults}


def certify(
    factors: Sequence[Tensor],
    groups: Groups,
    ranking: Ints,
    bin_of: Ints | None,
    gains: NDArray[np.float64] | None,
    n_bins: int,
    k: int,
    *,
    lam: float = 1.0,
    shifted: bool = True,
    center: bool = False,
    similarity: str = "cosine",
    seed: int = 0,
    progress: Progress | None = None,
) -> Certificate:
    """Look at `k` random picks of a ranking again.

    Memory beyond the inputs: about 24 bytes a row, 100 MB for a chunk of rows, and 256 MB for sums. Only rows of groups
    that a pick is looked at in are read, in ascending order; twice (three times with `center`) as long as the sums,
    3 float64 [d1, d2] a pick, fit; in several such batches of picks otherwise (`passes` says how many reads it was).

    Args:
        factors: tensors [n, d_k] on the CPU, possibly over memory-mapped files; the embedding of a row is the outer
            product of its factors' normalised rows (one factor: itself).
        groups: which rows were chosen among each other.
        ranking: int64 [m], different row numbers; within each group in pick order, bin after bin. m < n is a partial
            ranking: rows not in it were never picked.
        bin_of: int64 [n], the bin of every ranked row; None: all in one.
        gains: float64 [n], the gain that every ranked row was picked with; None, or NaN for a row: not compared.
        n_bins: number of bins.
        k: how many picks to look at; all of them if there are no more.
        lam: weight of the first sum, >= 0.
        shifted: similarity 1/2 + 1/2 cos, as in `dq_fast.ops.cosine_row_sums`.
        center: compare what tells a row from its group, as there.
        similarity: "cosine", or "dot": s(i, j) = <x_i, x_j> as it is (`shifted` is not looked at; with `center`, the
            group's mean is taken out of the rows).
        seed: which picks.
        progress: called as ``progress("certify", rows read, rows to read)``.

    Returns:
        The certificate; what is wrong with a ranking never raises, a ranking that is none does.

    Raises:
        InputError: lengths that do not fit, rows out of range or twice, bins that fall within a group's ranking,
            values that are not finite.

    Source:
        Eq. 1 and 2 of the paper with the published code's constants (see `dq_fast.ops.graph_cut_greedy`).
    """
    begin = time.monotonic()
    tensors = checks.factors(tuple(getattr(factors, "tensors", factors)))
    n = len(groups.of_row)
    if tensors[0].shape[0] != n:
        raise checks.bad("factors", f"of the {n} rows of the groups", checks.shape_of(tensors[0]))
    lam, k = checks.real("lam", lam, 0.0), checks.integer("k", k, 0)
    checks.one_of("similarity", similarity, SIMILARITIES)
    ranked = _Ranked(groups, ranking, bin_of, checks.integer("n_bins", n_bins, 1))
    if gains is not None and np.shape(gains) != (n,):
        raise checks.bad("gains", f"one for every row, shape ({n},)", f"shape {np.shape(gains)}")
    questions = ranked.questions(k, seed)
    counter = _Counter(progress)
    exhaustive = Exhaustive(
        tensors, groups.of_row, ranked.places, lam=lam, shifted=bool(shifted), center=bool(center),
        similarity=similarity, report=counter,
    )  # fmt: skip
    batches = exhaustive.batches([q for q, _ in questions])
    counter.total = (3 if center else 2) * sum(len(exhaustive.rows_of(b)) for b in batches)
    passes = math.ceil(counter.total / max(1, len(exhaustive.rows_of([q for q, _ in questions]))))
    answers: dict[Question, Answer] = {}
    for batch in batches:
        answers.update(exhaustive.answer(batch))
    picks = [
        _pick(question, row, ranked.bins[row], answers[question], None if gains is None else gains[row])
        for question, row in questions
    ]
    seconds = time.monotonic() - begin
    return Certificate(tuple(picks), len(ranking), passes, exhaustive.bytes_read, seconds)


def _pick(question: Question, row: int, bin_: int, a: Answer, gain: float | None) -> Pick:
    return Pick(
        row, question.group, int(bin_), question.place, float("nan") if gain is None else float(gain), a.picked, a.best,
        a.best_row, a.lowest, a.mean, a.tolerance, a.scale,
    )  # fmt: skip


class _Counter:
    """Adds up rows read, and tells the listener."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.done, self.total = progress, 0, 0

    def __call__(self, rows: int) -> None:
        self.done += rows
        if self.progress is not None:
            self.progress("certify", self.done, self.total)


class _Ranked:
    """A ranking by groups: places of rows, and starts of bins."""

    def __init__(self, groups: Groups, ranking: Ints, bin_of: Ints | None, n_bins: int) -> None:
        n = len(groups.of_row)
        ranking = np.asarray(ranking)
        if ranking.ndim != 1 or ranking.dtype.kind not in "iu":
            raise checks.bad("ranking", "row numbers, 1-D", f"{ranking.dtype} {ranking.shape}")
        outside = np.flatnonzero((ranking < 0) | (ranking >= n))
        if len(outside):
            raise checks.bad("ranking", f"row numbers below {n}", f"{ranking[outside[0]]} at pick {outside[0]}")
        twice = np.flatnonzero(np.bincount(ranking, minlength=n) > 1)
        if len(twice):
            raise checks.bad("ranking", "different rows", f"row {twice[0]} twice")
        bins = np.zeros(n, np.int64) if bin_of is None else np.asarray(bin_of)
        if bins.shape != (n,) or bins.dtype.kind not in "iu":
            raise checks.bad("bin_of", f"one integer for every row, shape ({n},)", f"{bins.dtype} {bins.shape}")
        of = groups.of_row[ranking]
        order = np.argsort(of, kind="stable")
        self.rows, self.group, self.bins = ranking[order], of[order], bins
        first = np.searchsorted(self.group, np.arange(len(groups)))
        self.place = np.arange(len(order)) - first[self.group]
        in_bin = bins[self.rows]
        new = (self.place == 0) | (np.diff(in_bin, prepend=-1) != 0)
        falls = np.flatnonzero(~(self.place == 0) & (np.diff(in_bin, prepend=-1) < 0))
        wrong = np.flatnonzero((in_bin < 0) | (in_bin >= n_bins))
        for what, found in (("from 0 to n_bins - 1", wrong), ("ascending along a group's ranking", falls)):
            if len(found):
                i = int(found[0])
                place = f"pick {self.place[i]} of group {self.group[i]} (row {self.rows[i]})"
                raise checks.bad("bin_of", what, f"{in_bin[i]} at {place}")
        self.start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0)) - first[self.group]
        ranked = np.bincount(of, minlength=len(groups))
        self.places = ranked[groups.of_row]
        self.places[self.rows] = self.place

    def questions(self, k: int, seed: int) -> list[tuple[Question, int]]:
        """`k` picks at random, in order, and the row of each."""
        m = len(self.rows)
        chosen = np.arange(m)
        if k < m:
            chosen = np.sort(np.random.Generator(np.random.PCG64(seed)).choice(m, k, replace=False))
        return list(self._of(chosen))

    def _of(self, chosen: Ints) -> Iterator[tuple[Question, int]]:
        for i in chosen.tolist():
            yield Question(int(self.group[i]), int(self.start[i]), int(self.place[i])), int(self.rows[i])
