"""Graph cut of one group without its matrix: blocks of picks among a few candidates, or row by row.

A block takes the `BLOCK` rows of largest gain, forms their similarities and picks among them in one kernel, for as
long as no other row can win (csrc/cuda/graph_cut_block.cuh has the bound). One pass over the rows then makes all gains
true again. The host waits once a block, to read how many rows were picked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dq_fast.ops.cuda import launch
from dq_fast.ops.cuda.rows import Rows
from dq_fast.ops.graph_cut_torch import Report, tie_tolerance

BLOCK = 1024
"""Candidates of a block: their similarities are 8 MB, which a GPU's second-level cache holds."""

FEW_PICKS = 8
"""A block costs what about so many picks row by row cost in a small group, by its launches (predicted: some 30, and a
wait, against 4 to 8); one that gives fewer is followed by a burst of those."""

FULL_PASS = 1 << 25
"""Numbers of rows that take as long to read as a pick's launches: beyond, the pass is what a block costs too."""

LONGEST_BURST = 128
"""Picks row by row before the next block is tried; a burst is twice the one before, until a block is worth it."""

TOLD_EVERY = 64
"""Picks row by row between two words to a listener."""


@dataclass(frozen=True)
class Settings:
    """What all groups of a call share.

    Attributes:
        lam: weight of representation.
        shifted: s = 1/2 + 1/2 c.
        listened: whether somebody listens to `report`.
        report: called with the number of rows ranked since the last call.
    """

    lam: float
    shifted: bool
    listened: bool
    report: Report


def similarities(rows: Rows, chosen: Tensor, out: Tensor | None = None) -> Tensor:
    """Cosines of some rows, int64 [k], with each other: [k, k] float64, or into `out` in its precision."""
    part = rows.gather(chosen)
    if part.centre is None:
        b, h = (x if out is None else x.to(out.dtype) for x in (part.b, part.h))
        found = torch.matmul(h, h.T, out=out)
        return found if len(rows.factors) == 1 else found.mul_(b @ b.T)
    found = part.cosines(part)
    return found.contiguous() if out is None else out.copy_(found)


class Walk:
    """Picks of one group; indices and gains are filled in pick order.

    Attributes:
        blocks, passes: blocks tried, and reads of all rows, so far.
    """

    def __init__(
        self, rows: Rows, first: int, indices: Tensor, values: Tensor, settings: Settings, stream: int
    ) -> None:
        self._rows, self._first, self._settings, self._stream = rows, first, settings, stream
        self._indices, self._values = indices, values
        self._kernels = launch.kernels()
        self._tolerance = tie_tolerance(rows.n, settings.lam)
        self._total = rows.total()  # of the rows left when the bin begins
        self._sum = torch.zeros_like(self._total)  # of those picked for the bin
        n, numbers = rows.n, self._total
        self._base, self._taken, self._dots, self._gains = (numbers.new_empty(n) for _ in range(4))
        self._maxima = numbers.new_empty(self._kernels.graph_cut_chunks(n))
        self._gone, self._inside = (numbers.new_zeros(n, dtype=torch.uint8) for _ in range(2))
        self._row, self._count = (numbers.new_zeros(1, dtype=torch.int64) for _ in range(2))
        self._bounds = numbers.new_empty(self._kernels.graph_cut_bounds())
        self._along = self._base
        self._order = numbers.new_empty(0, dtype=torch.int64)
        self._left = n
        self._done = 0
        self._bin, self._bin_begins = 0, 0
        read = n * sum(x.shape[1] for x in rows.factors) / FULL_PASS
        self._few = max(2, round(FEW_PICKS / (1 + read)))
        self.blocks = self.passes = 0

    def run(self, sizes: list[int], *, lazily: bool) -> None:
        """Bins of the given sizes, one after the other."""
        for size in sizes:
            if size:
                self._begin_bin(size, lazily)
                self._run_bin(lazily)

    def _run_bin(self, lazily: bool) -> None:
        burst = few = self._few
        while self._missing:
            picks = self._pick_block() if lazily else 0
            if picks >= few or not self._missing:
                burst = few
                continue
            self._pick_row_by_row(min(burst, self._missing) if lazily else self._missing)
            burst = min(2 * burst, LONGEST_BURST)

    @property
    def _missing(self) -> int:
        """Picks that the bin still lacks."""
        return self._bin_begins + self._bin - self._done

    @property
    def _constant(self) -> float:
        """The part of the next pick's gain that all rows share: csrc/cpu/graph_cut.h, Job::constant."""
        if not self._settings.shifted:
            return 0.0
        return 0.5 * self._settings.lam * self._left - (self._done - self._bin_begins)

    def _begin_bin(self, size: int, lazily: bool) -> None:
        self._left -= self._bin
        self._bin, self._bin_begins = size, self._done
        self._total = self._total - self._sum
        self._sum.zero_()
        self._rows.dots(self._total, out=self._base)
        self.passes += 1
        self._renew(None, add=False)
        if lazily:
            length = self._total.norm()
            self._along = torch.where(length > 0, self._base / length, 0.0)
            if self._left > self._candidates:
                places = torch.where(self._gone.bool(), torch.inf, self._along)
                self._order = torch.sort(places).indices[: self._left]
            else:
                self._order = self._order[:0]  # all rows are candidates

    @property
    def _candidates(self) -> int:
        return min(BLOCK, self._kernels.graph_cut_block_rows())

    def _renew(self, dots: Tensor | None, *, add: bool) -> None:
        """Gains after what was picked: dots [n] are the rows' inner products with its sum, or (add) with more of it."""
        self._kernels.graph_cut_renew(
            self._base.data_ptr(), 0 if dots is None else dots.data_ptr(), add, self._gone.data_ptr(), self._rows.n,
            self._settings.lam, self._settings.shifted, self._taken.data_ptr(), self._gains.data_ptr(),
            self._maxima.data_ptr(), self._stream,
        )  # fmt: skip

    def _pick_block(self) -> int:
        """A block; how many rows it picked, possibly none: where rows outside tie with the best candidate."""
        here = self._left - (self._done - self._bin_begins)
        candidates = torch.topk(self._gains, min(self._candidates, here), sorted=False).indices.sort().values
        self._inside.zero_().index_fill_(0, candidates, 1)
        s = similarities(self._rows, candidates)
        self._kernels.graph_cut_outside(
            self._order.data_ptr(), len(self._order), self._along.data_ptr(), self._gains.data_ptr(),
            self._inside.data_ptr(), self._bounds.data_ptr(), self._stream,
        )  # fmt: skip
        self._kernels.graph_cut_block(
            s.data_ptr(), len(candidates), candidates.data_ptr(), self._along.data_ptr(), self._gains.data_ptr(),
            self._bounds.data_ptr(), len(self._order), self._tolerance, self._settings.shifted, self._missing,
            self._first, self._constant, self._gone.data_ptr(), self._indices[self._done :].data_ptr(),
            self._values[self._done :].data_ptr(), self._count.data_ptr(), self._stream,
        )  # fmt: skip
        self.blocks += 1
        picks = int(self._count)  # the block's one wait
        if picks:
            self._settings.report(picks)
            self._add_picks(picks)
            if self._missing:
                self._rows.dots(self._sum, out=self._dots)
                self.passes += 1
                self._renew(self._dots, add=False)
        return picks

    def _pick_row_by_row(self, picks: int) -> None:
        """The best of all rows, so many times: no bounds, and no wait."""
        told = 0
        for k in range(picks):
            place = self._done + k
            constant = self._constant - (k if self._settings.shifted else 0)
            self._kernels.graph_cut_winner(
                self._gains.data_ptr(), self._maxima.data_ptr(), self._rows.n, self._tolerance, self._first, constant,
                self._gone.data_ptr(), self._row.data_ptr(), self._indices[place:].data_ptr(),
                self._values[place:].data_ptr(), self._stream,
            )  # fmt: skip
            if k + 1 < self._missing:
                one = self._rows.gather(self._row).total()
                self._renew(self._rows.dots(one, out=self._dots), add=True)
                self.passes += 1
            if self._settings.listened and (k + 1 == picks or k - told + 1 == TOLD_EVERY):
                self._row.item()  # waits: what is reported is done
                self._settings.report(k + 1 - told)
                told = k + 1
        if told < picks:
            self._settings.report(picks - told)
        self._add_picks(picks)

    def _add_picks(self, picks: int) -> None:
        rows = self._indices[self._done : self._done + picks] - self._first
        self._sum += self._rows.gather(rows).total()
        self._done += picks
