"""Rows of one group in float64, as they are (not normalised), read block by block: sums, products, some of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.ops.embedding import Centre, Group
from dq_fast.select.rows import Factors
from dq_fast.select.rows.factors import merged_widths

Ints = NDArray[np.int64]

_BLOCK = 6 << 20  # bytes of float64 rows and their products in flight
_KEPT_SHARE = 0.5  # of the memory that may be taken: float64 rows are kept where they fit it


def kept(factors: Factors, rows: int, room: int) -> bool:
    """Whether float64 copies of a group's rows fit the memory that may be taken for them."""
    return 16 * rows * sum(merged_widths(factors.widths)) <= room * _KEPT_SHARE


class Products:
    """The (product) embedding of a group's rows, phi_i = b_i (x) h_i, or phi_i - mean where centred.

    Args:
        factors: all rows; rows: which of them are the group, ascending.
        center: subtract the group's mean.
        room: bytes that may be taken; where float64 copies of the rows fit half of it, they are made once.

    Attributes:
        squares: ||phi_i||^2, float64 [n].
        finite: whether they all are; a row that is not makes them so.
        rows_read: how many rows were read from the factors so far.
    """

    def __init__(self, factors: Factors, rows: Ints, *, center: bool, room: int) -> None:
        self.factors, self.rows, self.device = factors, rows, factors.device
        self.rows_read = 0
        widths = factors.widths
        self.d1, self.d2 = merged_widths(widths)
        self.step = max(1, _BLOCK // (8 * 3 * (self.d1 + self.d2 + sum(widths))))
        self._kept: tuple[Tensor, Tensor] | None = None
        self._centre: Centre | None = None
        if kept(factors, len(rows), room):
            b, h = self._read(np.arange(len(rows)))
            self._kept = (b, h)
        if center and len(rows):
            self._find_centre()
        self.squares = torch.cat([self._squares(part) for _, part in self.blocks()] or [torch.zeros(0)])
        self.finite = bool(torch.isfinite(self.squares.sum() * max(1, len(rows))))

    def __len__(self) -> int:
        return len(self.rows)

    def _read(self, places: Ints) -> tuple[Tensor, Tensor]:
        """Narrow [m, d1] and wide [m, d2] factor of the rows at these places of the group, float64."""
        if self._kept is not None:
            if len(places) and places[-1] - places[0] + 1 == len(places) and bool((np.diff(places) == 1).all()):
                part = slice(int(places[0]), int(places[-1]) + 1)  # a view
                return self._kept[0][part], self._kept[1][part]
            take = torch.from_numpy(places).to(self.device)
            return self._kept[0][take], self._kept[1][take]
        self.rows_read += len(places)
        take = torch.from_numpy(self.rows[places]).to(self.device)
        parts = sorted((x.index_select(0, take).double() for x in self.factors.tensors), key=lambda x: x.shape[1])
        if len(parts) == 1:
            return torch.ones_like(parts[0][:, :1]), parts[0]
        while len(parts) > 2:
            first, second = parts.pop(0), parts.pop(0)
            parts.append((first[:, :, None] * second[:, None, :]).flatten(1))
            parts.sort(key=lambda x: x.shape[1])
        return parts[0], parts[1]

    def _find_centre(self) -> None:
        """As in `ops.embedding.Centre`, but in two reads and without lengths."""
        n = len(self.rows)
        b0, h0 = (
            torch.zeros(self.d1, dtype=torch.float64, device=self.device),
            torch.zeros(self.d2, dtype=torch.float64, device=self.device),
        )
        mean = torch.zeros(self.d1, self.d2, dtype=torch.float64, device=self.device)
        for _, part in self.blocks():
            b0 += part.b.sum(0) / n
            h0 += part.h.sum(0) / n
            mean += part.b.T @ part.h / n
        none = torch.zeros(0, dtype=torch.float64, device=self.device)
        self._centre = Centre(b0, h0, mean - torch.outer(b0, h0), none, none)

    def take(self, places: Ints) -> Group:
        """The rows at these places of the group."""
        b, h = self._read(places)
        m = self._centre
        if m is None:
            return Group(b, h)
        own = (h - m.h0) @ (m.b0 @ m.c) + (((b - m.b0) @ m.c) * h).sum(1) - 0.5 * m.c.square().sum()
        return Group(b, h, Centre(m.b0, m.h0, m.c, torch.ones_like(own), own))

    def of_all_pairs(self) -> Tensor:
        """Dot products of all pairs of rows [n, n]."""
        rows = self.take(np.arange(len(self.rows)))
        return self.pairs(rows, rows)

    def pairs(self, one: Group, other: Group) -> Tensor:
        """Dot products of some rows of the group with others [m, k]."""
        centre = one.centre
        if len(self.factors.tensors) == 1:
            return one.h @ other.h.T if centre is None else (one.h - centre.h0) @ (other.h - centre.h0).T
        if centre is not None:
            return one.cosines(other)  # of rows that are not normalised: dot products
        return (one.h @ other.h.T).mul_(one.b @ other.b.T)

    def blocks(self, places: Ints | None = None) -> Iterator[tuple[slice, Group]]:
        """All rows, or those at some places, a block at a time, with the block's place among them."""
        where = np.arange(len(self.rows)) if places is None else places
        for i in range(0, len(where), self.step):
            part = slice(i, min(i + self.step, len(where)))
            yield part, self.take(where[part])

    def total(self) -> Tensor:
        """Sum of all rows [d1, d2]."""
        out = torch.zeros(self.d1, self.d2, dtype=torch.float64, device=self.device)
        for _, part in self.blocks():
            out += part.total()
        return out

    def dots(self, w: Tensor, places: Ints | None = None) -> Tensor:
        """Inner products with each w [k, d1, d2] of all rows, or of those at some places: [m, k]."""
        count = len(self.rows) if places is None else len(places)
        out = torch.empty(count, len(w), dtype=torch.float64, device=self.device)
        for where, part in self.blocks(places):
            if self.d1 == 1 and self._centre is None:
                out[where] = part.b * (part.h @ w[:, 0].T)
            else:
                for k in range(len(w)):
                    out[where, k] = part.dot(w[k])
        return out

    def _squares(self, part: Group) -> Tensor:
        """||phi||^2 of a block's rows."""
        m = part.centre
        if m is None:
            return part.b.square().sum(1) * part.h.square().sum(1)
        e, f = part.h - m.h0, part.b - m.b0
        f2, h2, e2 = f.square().sum(1), part.h.square().sum(1), e.square().sum(1)
        square = m.b0.square().sum() * e2 + f2 * h2 + 2 * (f @ m.b0) * (part.h * e).sum(1) - 2 * m.own
        return square.clamp(min=0)
