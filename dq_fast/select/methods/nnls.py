"""Non-negative least squares that grows: one more variable at a time, starting from the solution before.

Lawson and Hanson 1974, "Solving least squares problems", chapter 23 (active sets), on the normal equations, with the
inverse of the active variables' matrix kept up to date: entering and leaving cost O(p²) for p active variables. Every
solution is refined once against the matrix itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

_DEPENDENT = 1e-13  # a variable whose part outside the active ones' span is smaller than this, relatively, stays out
_CHANGES = 3  # times the variables: more changes of the active set than this are rounding going in circles


class GrowingNNLS:
    """min over w ≥ 0 of wᵀ(K + λ·I)w − 2·cᵀw, K growing by a row and column at a time.

    Args:
        capacity: how many variables there may be.
        ridge: λ ≥ 0.
        tolerance: a gradient up to this large counts as zero.
    """

    def __init__(self, capacity: int, ridge: float, tolerance: float, device: torch.device) -> None:
        def empty(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._ridge, self._tolerance = ridge, tolerance
        self._products, self._target, self._size = empty(capacity, capacity), empty(capacity), 0
        # Of the p active variables, in the order of `_active`: K + λ·I, its inverse, and w.
        self._active = torch.zeros(capacity, dtype=torch.int64, device=device)
        self._matrix, self._inverse, self._w, self._p = (
            empty(capacity, capacity),
            empty(capacity, capacity),
            empty(capacity),
            0,
        )
        self._is_active = torch.zeros(capacity, dtype=torch.bool, device=device)

    def add(self, products: Tensor, target: float) -> None:
        """One more variable: its inner products with those before and itself [size + 1], and its entry of c; solves."""
        t = self._size
        self._products[t, : t + 1] = products
        self._products[: t + 1, t] = products
        self._target[t] = target
        self._size += 1
        active, w = self.active()
        if target - float(self._products[t, active] @ w) > self._tolerance and self._enter(t):
            self._solve()

    def active(self) -> tuple[Tensor, Tensor]:
        """Positions of the variables that are not zero, and their weights."""
        return self._active[: self._p], self._w[: self._p]

    def weights(self) -> Tensor:
        """All weights [size]."""
        out = torch.zeros(self._size, dtype=torch.float64, device=self._w.device)
        out[self._active[: self._p]] = self._w[: self._p]
        return out

    def gradient(self) -> Tensor:
        """Half the fall of the objective, c − (K + λ·I)w [size]: positive where a larger weight would help."""
        t, (active, w) = self._size, self.active()
        out = torch.addmv(self._target[:t], self._products[:t, :t], self.weights(), alpha=-1)
        out[active] -= self._ridge * w
        return out

    def _solve(self) -> None:
        for _ in range(_CHANGES * self._size + 1):
            self._descend()
            slope = self.gradient().masked_fill_(self._is_active[: self._size], -torch.inf)
            enters = int(slope.argmax())
            if float(slope[enters]) <= self._tolerance or not self._enter(enters):
                return

    def _descend(self) -> None:
        """To the best weights of the active variables, on the way dropping those that would become negative."""
        while self._p:
            p, w = self._p, self._w[: self._p]
            target = self._target[self._active[:p]]
            inverse, matrix = self._inverse[:p, :p], self._matrix[:p, :p]
            best = inverse @ target
            best += inverse @ (target - matrix @ best)
            falls = best <= 0
            if not bool(falls.any()):
                self._w[:p] = best
                return
            step = torch.where(falls, w / (w - best).clamp(min=1e-300), torch.inf)
            first = int(step.argmin())
            w += float(step[first]) * (best - w)
            w[first] = 0
            w.clamp_(min=0)
            self._leave(first)

    def _enter(self, variable: int) -> bool:
        p, active = self._p, self._active[: self._p]
        column = self._products[variable, active]
        own = float(self._products[variable, variable]) + self._ridge
        through = self._inverse[:p, :p] @ column
        rest = own - float(column @ through)
        if rest <= _DEPENDENT * own:
            return False
        self._inverse[:p, :p].addr_(through, through, alpha=1 / rest)
        self._inverse[p, :p] = self._inverse[:p, p] = -through / rest
        self._inverse[p, p] = 1 / rest
        self._matrix[p, :p] = self._matrix[:p, p] = column
        self._matrix[p, p] = own
        self._active[p], self._w[p], self._is_active[variable] = variable, 0.0, True
        self._p += 1
        return True

    def _leave(self, place: int) -> None:
        p, last = self._p, self._p - 1
        self._is_active[self._active[place]] = False
        for square in (self._matrix, self._inverse):
            square[[place, last], :p] = square[[last, place], :p]
            square[:p, [place, last]] = square[:p, [last, place]]
        for line in (self._active, self._w):
            line[[place, last]] = line[[last, place]]
        column = self._inverse[:last, last].clone()
        self._inverse[:last, :last].addr_(column, column, alpha=-1 / float(self._inverse[last, last]))
        self._p = last
