"""Greedy choice of rows that cover all rows: f(S) = Σ_i max_{j ∈ S} s(i, j), by lazy evaluation, exact.

Minoux 1978, "Accelerated greedy algorithms for maximizing submodular set functions": gains only fall as S grows, so
that a gain computed earlier is an upper bound, and only rows whose bound reaches the best fresh gain are looked at.
Here they are looked at a block at a time, and every pick that covers only a few rows better (nearly all picks but the
first) lowers all bounds by exactly what those rows took away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dq_fast.select.methods.base import Counter, Floats, Ints, first_best

_TIE = 1e-12  # times n and the largest similarity: gains this near to each other count as equal
_SAME = 1e-14  # times the largest similarity: no better than before, but for rounding
_FIRST_BLOCK = 8  # rows looked at first in a pick; then twice as many, and so on
_BLOCK_NUMBERS = 1 << 18  # similarities at once: 2 MB, which stay in the cache through the steps that make them
_FEW = 1 / 10  # of all rows: as long as no more are covered better, all bounds are lowered


@dataclass(frozen=True)
class Cover:
    """What was picked.

    Attributes:
        order: int64 [budget], in pick order.
        gains: float64 [budget], by how much each raised f.
        nearest: int64 [n], for every row the number of the pick that covers it best; the earliest among equals.
    """

    order: Ints
    gains: Floats
    nearest: Ints


class Coverage:
    """The greedy state over n rows.

    Args:
        similar: similarities [m, n] of the rows at positions [m] with all, new memory; symmetric, 0 to `largest`.
        n: rows, at least 1.
        largest: no similarity is larger.
        max_memory: all similarities are computed once where they take up to half of these bytes; otherwise when needed.
        device: where similarities are.
        first: Σ_i s(i, j) [n] where it is known, or None.
    """

    def __init__(
        self,
        similar: Callable[[Tensor], Tensor],
        n: int,
        *,
        largest: float,
        max_memory: int,
        device: torch.device,
        first: Tensor | None = None,
    ) -> None:
        self._n, self._device, self._similar = n, device, similar
        self._tie, self._same = _TIE * n * largest, _SAME * largest
        self._step = max(1, _BLOCK_NUMBERS // n)
        if 8 * n * n <= max_memory // 2:
            matrix = torch.empty((n, n), dtype=torch.float64, device=device)
            for begin in range(0, n, self._step):
                block = torch.arange(begin, min(begin + self._step, n), device=device)
                matrix[begin : begin + self._step] = similar(block)
            self._similar = lambda which: matrix[which]
        self._covered = torch.zeros(n, dtype=torch.float64, device=device)  # max_{j ∈ S} s(i, j)
        self._bounds = self._gains(torch.arange(n, device=device)) if first is None else first.clone()

    def _gains(self, which: Tensor) -> Tensor:
        out = torch.empty(len(which), dtype=torch.float64, device=self._device)
        whole = self._covered.sum()
        for begin in range(0, len(which), self._step):
            s = self._similar(which[begin : begin + self._step])
            out[begin : begin + self._step] = torch.maximum(s, self._covered, out=s).sum(1) - whole
        return out

    def _next(self, fresh: Tensor) -> tuple[int, float]:
        """The row to pick, with its gain. `fresh` [n]: bounds of picked rows, −∞; is written to."""
        best = -torch.inf
        stale = self._bounds + fresh
        block = _FIRST_BLOCK
        while True:
            bound, which = stale.topk(min(block, self._n))
            which = which[bound >= best - 2 * self._tie]
            which = which[torch.isfinite(stale[which])]
            if not len(which):
                break
            gains = self._gains(which)
            self._bounds[which] = gains
            stale[which] = -torch.inf
            best = max(best, float(gains.max()))
            if best <= self._tie and float(stale.max()) <= self._tie:
                break  # nothing is left to gain: the lowest row
            block = min(2 * block, self._step)
        i = first_best(self._bounds + fresh, self._tie)
        return i, float(self._bounds[i])

    def _lower(self, changed: Tensor, before: Tensor, after: Tensor) -> None:
        """Take from all bounds what the rows `changed` no longer add to any gain: they are covered `after`."""
        for begin in range(0, len(changed), self._step):
            part = slice(begin, begin + self._step)
            floor = before[part, None]
            s = self._similar(changed[part])
            self._bounds -= s.clamp_(floor, after[part, None]).sub_(floor).sum(0)

    def greedy(self, budget: int, counter: Counter) -> Cover:
        """Pick `budget` rows."""
        order, gains = np.empty(budget, np.int64), np.empty(budget)
        nearest = torch.zeros(self._n, dtype=torch.int64, device=self._device)
        picked = torch.zeros(self._n, dtype=torch.float64, device=self._device)  # −∞ for picked rows
        for k in range(budget):
            i, gain = self._next(picked)
            order[k], gains[k] = i, max(0.0, gain)
            picked[i] = -torch.inf
            s = self._similar(torch.tensor([i], device=self._device))[0]
            changed = (s > self._covered + self._same).nonzero()[:, 0]
            if len(changed) <= _FEW * self._n:
                self._lower(changed, self._covered[changed], s[changed])
            self._covered[changed] = s[changed]
            nearest[changed] = k
            counter()
        return Cover(order, gains, nearest.cpu().numpy())
