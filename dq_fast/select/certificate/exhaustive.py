"""Gains of all rows of a group at a few of its picks, in float64, from sequential reads: what certificates rest on.

At a pick that finds the rows R remaining and the rows B in its bin, row x gains
lam * sum_R s(x, j) - 2 * sum_B s(x, b). With phi the (product) embedding of the normalised rows, both sums are inner
products of phi_x with sums of rows. So one read of the rows adds up the sums between the places asked about, and one
more gives the gains of all rows at all of those places, rows [n, d] x [d, picks]. Centred rows take one read more, for
the mean. Nothing here is shared with the code that ranks: it is what that code is checked against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.select.certificate.pieces import Centre, Piece, inverse, rows_and_norms
from dq_fast.select.settings import Settings

Ints = NDArray[np.int64]

TIE = 1e-12  # gains nearer than TIE * n * (lam + 2) * largest |s| count as equal; the lowest row wins
CENTRE_FLOOR = 1e-12  # a row of norm 1 this near to its group's mean is the mean, and counts as a zero row
_EDGE = 0.5  # of the tolerance: nearer to the best than that is a tie whatever the rounding
_CHUNK_NUMBERS = 1 << 21  # numbers of all factors in a chunk of rows: 16 MB in float64
_TABLE_NUMBERS = 1 << 25  # numbers of all sums held at a time: 256 MB; picks beyond are asked about in another batch
_LOST = 1e-6  # a squared norm this small beside its terms has lost digits: those rows are formed explicitly


@dataclass(frozen=True)
class Question:
    """One pick: its group, the place in the group's ranking at which its bin starts, and its own place."""

    group: int
    start: int
    place: int


@dataclass
class Answer:
    """What all rows would have gained at a pick.

    Attributes:
        picked: gain of the row that was picked. best, best_row: the largest gain, and the row that has it.
        lowest: the lowest row that is certainly within the tolerance of the best: what a tie must be decided for.
        mean: mean gain of the rows that could have been picked: what a random pick gains on average.
        tolerance: gains nearer than that are equal. scale: the largest that the sums of the gain can be.
    """

    picked: float = math.nan
    best: float = -math.inf
    best_row: int = -1
    lowest: int = -1
    mean: float = math.nan
    tolerance: float = 0.0
    scale: float = 0.0


class Exhaustive:
    """Answers questions about picks of groups.

    Args:
        factors: tensors [n, d_k] on the CPU, possibly memory-mapped.
        of_row: group of every row, [n].
        places: place of every row in its group's ranking, [n]; rows that are not ranked have the number of those that
            are.
        settings: the bins' parameters.
        report: called with numbers of rows read.

    Attributes:
        bytes_read: from `factors`.
    """

    def __init__(
        self,
        factors: Sequence[Tensor],
        of_row: Ints,
        places: Ints,
        settings: Settings,
        *,
        report: Callable[[int], None],
    ) -> None:
        self.factors, self.of_row, self.places = factors, of_row, places
        self.lam, self.center, self.report = float(settings.lam), bool(settings.center), report
        self.dot = settings.similarity == "dot"
        self.shifted = bool(settings.shifted) and not self.dot
        self.sizes = np.bincount(of_row) if len(of_row) else np.zeros(0, np.int64)
        self.bytes_read = 0
        widths = sorted(f.shape[1] for f in factors)
        while len(widths) > 2:
            widths = sorted([widths[0] * widths[1], *widths[2:]])
        self.d1, self.d2 = (1, widths[0]) if len(widths) == 1 else (widths[0], widths[1])

    def batches(self, questions: Sequence[Question]) -> list[list[Question]]:
        """The questions, group after group, in parts whose sums fit into memory together."""
        at_once = max(1, _TABLE_NUMBERS // ((6 if self.center else 3) * self.d1 * self.d2))
        ordered = sorted(questions, key=lambda q: (q.group, q.place))
        return [ordered[i : i + at_once] for i in range(0, len(ordered), at_once)]

    def rows_of(self, batch: Sequence[Question]) -> Ints:
        """Rows of the groups asked about, ascending."""
        asked = np.zeros(len(self.sizes), bool)
        asked[[q.group for q in batch]] = True
        return np.flatnonzero(asked[self.of_row])

    def answer(self, batch: Sequence[Question]) -> dict[Question, Answer]:
        """One batch of questions, in two reads of the rows of their groups (three if centred)."""
        rows = self.rows_of(batch)
        of_group: dict[int, list[Question]] = {}
        for question in batch:
            of_group.setdefault(question.group, []).append(question)
        centres = self._centres(rows, list(of_group)) if self.center else {}
        parts = {g: _Part(self, asked, centres.get(g)) for g, asked in of_group.items()}
        scale = torch.empty(len(rows) if self.center else 0, dtype=torch.float64)
        for piece, at, group in self._read(rows):
            if self.center:
                squares = self._centred_squares(piece, centres[group])
                piece.scale = torch.ones_like(squares) if self.dot else inverse(squares.sqrt(), CENTRE_FLOOR)
                scale[at] = piece.scale
            parts[group].add(piece)
            if self.dot:  # |s| is largest of a row with itself
                own = squares if self.center else piece.b.square().sum(1) * piece.h.square().sum(1)
                parts[group].largest = max(parts[group].largest, float(own.max()))
        for part in parts.values():
            part.turn()
        for piece, at, group in self._read(rows):
            if self.center:
                piece.scale = scale[at]
            parts[group].look(piece)
        return {q: a for part in parts.values() for q, a in zip(part.questions, part.answers)}  # noqa: B905

    def _centres(self, rows: Ints, groups: list[int]) -> dict[int, Centre]:
        """Means of groups: of the factors, and what the mean of their products differs by from the means' product."""
        sums = {
            g: [torch.zeros(s, dtype=torch.float64) for s in ((self.d1,), (self.d2,), (self.d1, self.d2))]
            for g in groups
        }
        for piece, _, group in self._read(rows):
            b, h, both = sums[group]
            b += piece.b.sum(0)
            h += piece.h.sum(0)
            both += piece.b.T @ piece.h
        found = {}
        for g, (b, h, both) in sums.items():
            n = float(self.sizes[g])
            b0, h0 = b / n, h / n
            found[g] = Centre(b0, h0, both / n - torch.outer(b0, h0))
        return found

    def _centred_squares(self, piece: Piece, m: Centre) -> Tensor:
        """|phi - mean|^2 of rows that are not scaled yet [r]."""
        f, e = piece.b - m.b0, piece.h - m.h0
        terms = [
            m.b0.square().sum() * e.square().sum(1),
            f.square().sum(1) * piece.h.square().sum(1),
            m.c.square().sum().expand(len(f)),
            2 * (f @ m.b0) * (e * piece.h).sum(1),
            -2 * (e @ (m.b0 @ m.c)),
            -2 * ((f @ m.c) * piece.h).sum(1),
        ]
        square = torch.stack(terms).sum(0)
        lost = square < _LOST * torch.stack(terms).abs().sum(0)
        for i in lost.nonzero()[:, 0].tolist():
            explicit = torch.outer(m.b0, e[i]) + torch.outer(f[i], piece.h[i]) - m.c
            square[i] = explicit.square().sum()
        return square.clamp(min=0)

    def _read(self, rows: Ints) -> Iterator[tuple[Piece, Tensor, int]]:
        """The rows in their order, in chunks, split by group: each piece, its places in `rows`, its group."""
        step = max(1, _CHUNK_NUMBERS // sum(f.shape[1] for f in self.factors))
        for begin in range(0, len(rows), step):
            chunk = rows[begin : begin + step]
            b, h, scale = self._load(chunk)
            groups = self.of_row[chunk]
            order = np.argsort(groups, kind="stable")
            whole = Piece(chunk, self.places[chunk], b, h, scale)
            for at in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
                piece = whole if len(at) == len(chunk) else whole.take(at)
                yield piece, torch.from_numpy(at + begin), int(groups[at[0]])
            self.report(len(chunk))

    def _load(self, chunk: Ints) -> tuple[Tensor, Tensor, Tensor]:
        """Narrow and wide factor of some rows, and the scale that makes their product's rows normal."""
        found: list[tuple[Tensor, Tensor]] = []
        whole = chunk[-1] - chunk[0] + 1 == len(chunk)
        for k, factor in enumerate(self.factors):
            x = factor[int(chunk[0]) : int(chunk[-1]) + 1] if whole else factor[torch.from_numpy(chunk)]
            self.bytes_read += x.numel() * x.element_size()
            name = "embedding" if len(self.factors) == 1 else f"embedding[{k}]"
            if self.dot:
                found.append((x.double(), torch.ones(len(chunk), dtype=torch.float64)))
            else:
                y, norm = rows_and_norms(x, chunk, name)
                found.append((y, inverse(norm)))
        scale = torch.stack([s for _, s in found]).prod(0)
        rows = [x * s[:, None] if self.center and not self.dot else x for x, s in found]
        rows.sort(key=lambda x: x.shape[1])
        while len(rows) > 2:
            first, second = rows.pop(0), rows.pop(0)
            rows.append((first[:, :, None] * second[:, None, :]).flatten(1))
            rows.sort(key=lambda x: x.shape[1])
        b = rows[0] if len(rows) == 2 else torch.ones_like(rows[0][:, :1])
        return b, rows[-1], torch.ones_like(scale) if self.center else scale


class _Part:
    """The questions about one group: the sums they need, and then the answers."""

    def __init__(self, of: Exhaustive, questions: list[Question], centre: Centre | None) -> None:
        self.of, self.questions, self.centre = of, questions, centre
        self.n = int(of.sizes[questions[0].group])
        self.starts = np.array([q.start for q in questions])
        self.own = np.array([q.place for q in questions])
        self.cuts = np.unique(np.concatenate([self.starts, self.own]))
        self.sums = torch.zeros(len(self.cuts), of.d1, of.d2, dtype=torch.float64)  # of the rows from cut to cut
        self.largest = 0.0
        self.answers = [Answer() for _ in questions]

    def add(self, piece: Piece) -> None:
        """First read: add the rows to the sums between cuts."""
        segment = np.searchsorted(self.cuts, piece.places, side="right") - 1
        order = np.argsort(segment, kind="stable")
        segment = segment[order]
        ordered = piece.take(order)
        edges = np.searchsorted(segment, np.arange(len(self.cuts) + 1))
        for s in np.unique(segment[segment >= 0]).tolist():
            self.sums[s] += ordered.total(slice(int(edges[s]), int(edges[s + 1])), self.centre)

    def turn(self) -> None:
        """Between the reads: from sums to the directions that the gains are inner products with."""
        of, unit = self.of, 0.5 if self.of.shifted else 1.0
        largest = self.largest if of.dot else 1.0
        remaining, before = self.n - self.starts, self.own - self.starts
        first, last = np.searchsorted(self.cuts, self.starts), np.searchsorted(self.cuts, self.own)
        self.directions = torch.stack(
            [
                unit * (of.lam * self.sums[i:].sum(0) - 2 * self.sums[i:j].sum(0))
                for i, j in zip(first.tolist(), last.tolist())  # noqa: B905
            ]
        )
        self.constants = 0.5 * (of.lam * remaining - 2 * before) if of.shifted else np.zeros(len(before))
        for k, answer in enumerate(self.answers):
            answer.scale = float(of.lam * remaining[k] + 2 * before[k]) * largest
            answer.tolerance = TIE * self.n * (of.lam + 2) * largest
            rest = self.sums[int(last[k]) :].sum(0)
            answer.mean = float((rest * self.directions[k]).sum()) / (self.n - int(self.own[k])) + self.constants[k]
        self.records: list[list[tuple[float, int]]] = [[] for _ in self.answers]
        del self.sums

    def look(self, piece: Piece) -> None:
        """Second read: gains of the rows at every question."""
        gains = piece.dot(self.directions, self.centre).numpy() + self.constants
        place = piece.places[:, None]
        row, k = np.nonzero(place == self.own)
        for i, j in zip(row.tolist(), k.tolist()):  # noqa: B905
            self.answers[j].picked = float(gains[i, j])
        gains[place < self.own] = -math.inf
        for j, top in enumerate(gains.max(0).tolist()):
            answer = self.answers[j]
            if top > -math.inf and top >= answer.best - _EDGE * answer.tolerance:
                self._compete(answer, self.records[j], piece.rows, gains[:, j], top)

    @staticmethod
    def _compete(
        answer: Answer, records: list[tuple[float, int]], rows: Ints, gains: NDArray[np.float64], top: float
    ) -> None:
        """Keep the best row, and the lowest of those that tie with it.

        Of the rows near the best so far only those count that gain more than every lower one among them: another is
        never the lowest of the rows within the tolerance, whatever comes later.
        """
        if top > answer.best:
            answer.best, answer.best_row = top, int(rows[int(gains.argmax())])
        floor = answer.best - _EDGE * answer.tolerance
        near = np.flatnonzero(gains >= floor)
        highest = np.maximum.accumulate(np.concatenate([[records[-1][0] if records else -math.inf], gains[near]]))
        records.extend((float(gains[i]), int(rows[i])) for i in near[gains[near] > highest[:-1]])
        while records[0][0] < floor:
            records.pop(0)
        answer.lowest = records[0][1]
