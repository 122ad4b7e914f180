"""Certificates: a few picks of a ranking, computed again from the definition, against what was reported.

A ranking is exact when every pick has the largest gain there was, up to the documented tolerance, and ties went to the
lowest row. A certificate takes picks at random and looks at all rows that could have been picked instead
(`dq_fast.select.certificate.exhaustive`: float64, its own arithmetic, a few sequential reads of the rows).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.progress import Progress
from dq_fast.select.certificate.exhaustive import Answer, Exhaustive, Ints, Question
from dq_fast.select.certificate.picks import Certificate, Pick
from dq_fast.select.groups import Groups
from dq_fast.select.settings import Settings


def certify(
    factors: Sequence[Tensor],
    groups: Groups,
    ranking: Ints,
    bin_of: Ints | None,
    gains: NDArray[np.float64] | None,
    settings: Settings,
    k: int,
    *,
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
        settings: the bins' parameters.
        k: how many picks to look at; all of them if there are no more.
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
    settings.check()
    k = checks.integer("k", k, 0)
    ranked = _Ranked(groups, ranking, bin_of, settings.n_bins)
    if gains is not None and np.shape(gains) != (n,):
        raise checks.bad("gains", f"one for every row, shape ({n},)", f"shape {np.shape(gains)}")
    questions = ranked.questions(k, seed)
    counter = _Counter(progress)
    exhaustive = Exhaustive(tensors, groups.of_row, ranked.places, settings, report=counter)
    batches = exhaustive.batches([q for q, _ in questions])
    counter.total = (3 if settings.center else 2) * sum(len(exhaustive.rows_of(b)) for b in batches)
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
