"""Graph-cut greedy in torch and float64: the definition of the ops, and what serves where there is no native kernel.

gain(x) = lam * sum_{j in R} s(j, x) - 2 * sum_{b in B} s(b, x), R the rows remaining at the start of the bin (x and the
rows already picked for the bin included), B the rows picked for the bin. The largest gain is picked; gains within
`tie_tolerance` of it count as equal and the lowest row wins: rounding never decides what mathematics leaves open.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dq_fast.ops import checks, trace
from dq_fast.ops.embedding import Group, groups

TIE_TOLERANCE = 1e-12  # of the largest gain there can be; csrc/cpu/graph_cut.h has the same number
GRAM_NUMBERS = 1 << 27  # of a similarity matrix that "auto" still forms: 1 GB in float64
BLOCK = 512  # candidates of a lazy block: their similarities cost what two or three passes over a group cost
FEW_PICKS = 4  # a block that gives fewer picks costs more than picking row by row

Report = Callable[[int], None]  # called with the number of rows ranked since the last call


def tie_tolerance(n: int, lam: float, largest: float = 1.0) -> float:
    """Gains of a group of n rows nearer than this are equal; `largest` is the largest |s| there can be."""
    return TIE_TOLERANCE * max(1, n) * (lam + 2) * largest


def bin_sizes(n: int, n_bins: int) -> list[int]:
    """Sizes of n_bins bins of n rows: they differ by at most one, larger first."""
    return [n // n_bins + (k < n % n_bins) for k in range(n_bins)]


class Given:
    """The gains of a group whose similarities stand in a matrix s [n, n], s[j, x] = s(j, x)."""

    def __init__(self, s: Tensor) -> None:
        self.s, self.sums = s, s.sum(0)
        self.left = torch.ones(len(s), dtype=torch.bool, device=s.device)

    def start(self, lam: float) -> Tensor:
        """Gains [n] at the start of a bin, -inf where a row is no longer there."""
        return torch.where(self.left, lam * self.sums, -math.inf)

    def after(self, gains: Tensor, row: int) -> None:
        """Let the gains know that `row` was picked."""
        gains.sub_(self.s[row], alpha=2)
        gains[row] = -math.inf

    def end(self, picked: list[int]) -> None:
        """Take a bin's rows out."""
        rows = torch.tensor(picked, dtype=torch.int64, device=self.s.device)
        self.sums = self.sums - self.s[rows].sum(0)
        self.left[rows] = False


class Naive:
    """The gains of a group given by its rows: one product of a row with all rows for each pick."""

    def __init__(self, group: Group, shifted: bool) -> None:
        self.group, self.shifted = group, shifted
        self.total = group.total()
        self.remaining = len(group)
        self.left = torch.ones(len(group), dtype=torch.bool, device=group.h.device)

    def start(self, lam: float) -> Tensor:
        """Gains [n] at the start of a bin, -inf where a row is no longer there."""
        sums = self.group.dot(self.total)
        if self.shifted:
            sums = 0.5 * self.remaining + 0.5 * sums
        return torch.where(self.left, lam * sums, -math.inf)

    def after(self, gains: Tensor, row: int) -> None:
        """Let the gains know that `row` was picked."""
        rows = torch.tensor([row], device=gains.device)
        c = self.group.cosines(self.group.take(rows))[:, 0]
        gains.sub_(1 + c if self.shifted else 2 * c)
        gains[row] = -math.inf

    def end(self, picked: list[int]) -> None:
        """Take a bin's rows out."""
        rows = torch.tensor(picked, dtype=torch.int64, device=self.group.h.device)
        self.total = self.total - self.group.take(rows).total()
        self.left[rows] = False
        self.remaining -= len(picked)


def winner(gains: Tensor, tolerance: float) -> tuple[int, float]:
    """The row to pick and its gain: the lowest row among those within the tolerance of the largest gain."""
    ties = gains >= gains.max() - tolerance
    row = int(ties.to(torch.uint8).argmax())
    return row, float(gains[row])


def pick(
    state: Given | Naive, sizes: list[int], lam: float, tolerance: float, report: Report
) -> Iterator[tuple[int, float]]:
    """Rows and gains of the bins in pick order."""
    for size in sizes:
        gains = state.start(lam)
        picked: list[int] = []
        while len(picked) < size:
            row, gain = winner(gains, tolerance)
            picked.append(row)
            yield row, gain
            state.after(gains, row)
            report(1)
        state.end(picked)


def pick_lazily(
    group: Group, shifted: bool, sizes: list[int], lam: float, tolerance: float, report: Report
) -> Iterator[tuple[int, float]]:
    """The same in blocks: pick among the rows of largest gain for as long as no other row can win.

    A row x outside the block lost at least <x, u><w, u> - sqrt(1 - <x, u>^2) * ||w - <w, u>u|| since the block began,
    w the sum of the rows picked in it, u the direction of the group's sum (Cauchy-Schwarz on the rest; valid for
    negative similarities too). When that cannot exclude all of them, one pass over the rows renews all gains.
    """
    state = Naive(group, shifted)
    unit = 0.5 if shifted else 1.0
    for size in sizes:
        gains = state.start(lam)
        length = state.total.norm()
        along = group.dot(state.total / length) if length > 0 else torch.zeros_like(gains)
        across = (1 - along.square()).clamp_(min=0).add_(1e-14).sqrt_()  # rounding must not make a bound too tight
        picked: list[int] = []
        while len(picked) < size:
            first, _ = winner(gains, tolerance)
            left = int(torch.isfinite(gains).sum())
            inside = torch.topk(gains, min(BLOCK, left)).indices
            inside = torch.unique(torch.cat([inside, torch.tensor([first], device=gains.device)]))  # ascending: ties
            outside = torch.isfinite(gains)
            outside[inside] = False
            others, o_along, o_across = gains[outside], along[outside], across[outside]
            part = group.take(inside)
            s, mine = part.cosines(part), gains[inside].clone()
            dots, w_along, w_square, taken = torch.zeros_like(mine), 0.0, 0.0, 0
            for _ in range(size - len(picked)):
                q, gain = winner(mine, tolerance)
                if not math.isfinite(gain):
                    break
                if taken and len(others):
                    rest = math.sqrt(max(0.0, w_square - w_along**2) + 1e-14 * w_square)
                    lost = o_along * w_along - o_across * rest
                    bound = float((others - 2 * unit * lost).max()) - (taken if shifted else 0)
                    if bound >= gain - 2 * tolerance:
                        break
                picked.append(int(inside[q]))
                yield picked[-1], gain
                report(1)
                w_square += 2 * float(dots[q]) + float(s[q, q])
                dots += s[q]
                w_along += float(along[inside[q]])
                taken += 1
                mine -= 2 * unit * s[q] + (1 if shifted else 0)
                mine[q] = -math.inf
            now = torch.tensor(picked[len(picked) - taken :], device=gains.device)
            gains -= 2 * unit * group.dot(group.take(now).total()) + (taken if shifted else 0)
            gains[now] = -math.inf
            while taken < FEW_PICKS and len(picked) < size:  # bounds are too loose here: row by row is cheaper
                row, gain = winner(gains, tolerance)
                picked.append(row)
                yield row, gain
                state.after(gains, row)
                report(1)
                taken += 1
        state.end(picked)


def rank(
    factors: list[Tensor],
    similarity: Tensor | None,
    bounds: list[int],
    sizes: list[list[int]],
    *,
    lam: float,
    shifted: bool,
    center: bool,
    method: str,
    report: Report,
) -> tuple[Tensor, Tensor]:
    """Rows in pick order, int64, and their gains, float64: for every group its bins of the given sizes."""
    rows: list[int] = []
    gains: list[float] = []
    told = getattr(report, "trace", None)
    if told is not None:
        ways = [way(end - begin, method, similarity is not None) for begin, end in itertools.pairwise(bounds)]
        trace.fill_ways(told, {name: ways.count(name) for name in trace.WAYS})
    if similarity is not None:
        checks.finite_rows("similarity", similarity)
        s = similarity.double()
        largest = float(s.abs().max()) if len(s) else 1.0
        parts = [pick(Given(s), sizes[0], lam, tie_tolerance(len(s), lam, largest), report)]
        device = s.device
    else:
        device = factors[0].device
        parts = [
            _picks(group, size, lam, shifted, method, report)
            for group, size in zip(groups(factors, bounds, center), sizes)  # noqa: B905
        ]
    for begin, part in zip(bounds, parts):  # noqa: B905  the last bound begins no group
        for row, gain in part:
            rows.append(begin + row)
            gains.append(gain)
    return torch.tensor(rows, dtype=torch.int64, device=device), torch.tensor(gains, dtype=torch.float64, device=device)


def way(n: int, method: str, given: bool = False) -> str:
    """How a group of n rows is ranked, for what the caller asked for; a given matrix counts as gram."""
    fits = n * n <= GRAM_NUMBERS
    if given:
        return "gram"
    if method == "lazy" or (method == "auto" and not fits):
        return "lazy"
    return "naive" if method == "naive" or not fits else "gram"


def _picks(
    group: Group, sizes: list[int], lam: float, shifted: bool, method: str, report: Report
) -> Iterator[tuple[int, float]]:
    tolerance = tie_tolerance(len(group), lam)
    chosen = way(len(group), method)
    if chosen == "lazy":
        return pick_lazily(group, shifted, sizes, lam, tolerance, report)
    if chosen == "naive":
        return pick(Naive(group, shifted), sizes, lam, tolerance, report)
    return _picks_from_matrix(group, sizes, lam, shifted, tolerance, report)


def _picks_from_matrix(
    group: Group, sizes: list[int], lam: float, shifted: bool, tolerance: float, report: Report
) -> Iterator[tuple[int, float]]:
    """Form the matrix only when the group's turn has come, and let it go after."""
    s = group.cosines(group)
    yield from pick(Given(s.mul_(0.5).add_(0.5) if shifted else s), sizes, lam, tolerance, report)
