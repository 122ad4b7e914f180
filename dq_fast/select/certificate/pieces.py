"""Rows of one group in a chunk, in float64, and what certificates need of them: sums and inner products.

Only `dq_fast.select.certificate.exhaustive` uses this; it shares nothing with the code that ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError

Ints = NDArray[np.int64]


@dataclass
class Centre:
    """phi - mean = b0 (x) e + f (x) h - c with f = b - b0, e = h - h0: every term as small as the group is tight."""

    b0: Tensor
    h0: Tensor
    c: Tensor


@dataclass
class Piece:
    """Rows of one group in a chunk: factors b [r, d1], h [r, d2], float64, and the scale of their product [r]."""

    rows: Ints
    places: Ints
    b: Tensor
    h: Tensor
    scale: Tensor

    def take(self, order: Ints) -> Piece:
        """Some of the rows, or all in another order."""
        at = torch.from_numpy(order)
        return Piece(self.rows[order], self.places[order], self.b[at], self.h[at], self.scale[at])

    def total(self, part: slice, centre: Centre | None) -> Tensor:
        """Sum of some of the rows [d1, d2]."""
        b, h, scale = self.b[part], self.h[part], self.scale[part]
        if centre is None:
            return (b * scale[:, None]).T @ h
        f, e = b - centre.b0, h - centre.h0
        return torch.outer(centre.b0, scale @ e) + (f * scale[:, None]).T @ h - scale.sum() * centre.c

    def dot(self, w: Tensor, centre: Centre | None) -> Tensor:
        """Inner products of the rows with w [p, d1, d2]: [r, p]."""
        if centre is None:
            return products(self.b, self.h, w) * self.scale[:, None]
        e = self.h - centre.h0
        dots = e @ (centre.b0 @ w).T + products(self.b - centre.b0, self.h, w)
        return (dots - (w * centre.c).sum((1, 2))) * self.scale[:, None]


def products(b: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """<b_i (x) h_i, w_p> for all i and p."""
    if w.shape[1] == 1:
        return (h @ w[:, 0].T) * b
    return torch.stack([((b @ one) * h).sum(1) for one in w], 1)


def inverse(norm: Tensor, floor: float = 0.0) -> Tensor:
    """1 / norm, 0 where the norm is not above the floor."""
    return torch.where(norm > floor, 1 / norm, 0.0)


def rows_and_norms(x: Tensor, rows: Ints, name: str) -> tuple[Tensor, Tensor]:
    """Rows in float64 and their norms; rows whose squares would overflow or vanish are scaled first."""
    x = x.double()
    square = torch.einsum("ij,ij->i", x, x)
    odd = ~((square > 1e-200) & (square < 1e200))
    if bool(odd.any()):
        largest = x[odd].abs().amax(1, keepdim=True)
        finite = torch.isfinite(largest[:, 0])
        if not bool(finite.all()):
            row = int(rows[odd.numpy()][int((~finite).nonzero()[0, 0])])
            raise InputError(f"{name} must be finite, got NaN or infinity in row {row}")
        x = x.clone()
        x[odd] /= torch.where(largest > 0, largest, 1.0)
        square = torch.einsum("ij,ij->i", x, x)
    return x, square.sqrt()
