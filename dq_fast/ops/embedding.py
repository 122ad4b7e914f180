"""The product embedding in float64, never materialised: what every definition in torch is written with.

Rows phi_i are the flattened outer product b_i (x) h_i of a narrow and a wide normalised factor; one factor is b = 1.
Centred rows are phi_i - mean(phi), normalised. All is float64, so that definitions agree to about 1e-13 relative.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from dq_fast.ops import checks

CENTRE_FLOOR = 1e-12
"""A row this near to its group's mean (rows have norm 1) is the mean, but for rounding: it counts as a zero row."""

_CHUNK_NUMBERS = 1 << 22  # numbers of a temporary [rows, d1, d2]: 32 MB


def normalise(x: Tensor) -> Tensor:
    """Rows of x [n, d] with norm 1 in float64; zero rows stay zero. Divided by the largest first: no overflow."""
    x = x.double()
    largest = x.abs().amax(dim=1, keepdim=True)
    x = x / torch.where(largest > 0, largest, 1.0)
    norm = x.square().sum(dim=1, keepdim=True).sqrt()
    return x / torch.where(norm > 0, norm, 1.0)


def merged(factors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Narrow [n, d1] and wide [n, d2] normalised float64 factor with the product embedding of all factors.

    Three or more are merged two by two, the narrowest first; one gets a narrow factor of ones.
    """
    rows = sorted((normalise(x) for x in factors), key=lambda x: x.shape[1])
    if len(rows) == 1:
        return torch.ones_like(rows[0][:, :1]), rows[0]
    while len(rows) > 2:
        first, second = rows.pop(0), rows.pop(0)
        rows.append((first[:, :, None] * second[:, None, :]).flatten(1))
        rows.sort(key=lambda x: x.shape[1])
    return rows[0], rows[1]


@dataclass
class Centre:
    """The mean of a group and what its rows are written with.

    With f = b - b0, e = h - h0 (b0, h0 the factors' means) and c = mean - b0 (x) h0,
    phi - mean = b0 (x) e + f (x) h - c.
    Every term is as small as the group is tight, so that nothing cancels where rows are near each other.

    Attributes:
        b0 [d1], h0 [d2], c [d1, d2]: as above.
        scale: 1 / ||phi_i - mean|| [n], 0 for a row equal to the mean.
        own: <phi_i - mean + c, c> - ||c||^2 / 2 [n]; what row i takes from all its inner products.
    """

    b0: Tensor
    h0: Tensor
    c: Tensor
    scale: Tensor
    own: Tensor

    @classmethod
    def of(cls, b: Tensor, h: Tensor) -> Centre:
        """The centre of all rows of a group."""
        mean, b0, h0 = b.T @ h / len(h), b.mean(0), h.mean(0)
        step = max(1, _CHUNK_NUMBERS // mean.numel())
        norm = torch.cat(
            [
                (b[i : i + step, :, None] * h[i : i + step, None, :] - mean).square().sum((1, 2)).sqrt()
                for i in range(0, len(h), step)
            ]
        )
        scale = torch.where(norm > CENTRE_FLOOR, 1 / norm, 0.0)
        c = mean - torch.outer(b0, h0)
        own = (h - h0) @ (b0 @ c) + (((b - b0) @ c) * h).sum(1) - 0.5 * c.square().sum()
        return cls(b0, h0, c, scale, own)

    def take(self, rows: Tensor) -> Centre:
        """The same for some rows."""
        return Centre(self.b0, self.h0, self.c, self.scale[rows], self.own[rows])


@dataclass
class Group:
    """The rows of one group, or some of them.

    Attributes:
        b: narrow factor [n, d1], h: wide factor [n, d2], normalised, float64.
        centre: of the whole group, or None where rows are not centred.
    """

    b: Tensor
    h: Tensor
    centre: Centre | None = None

    def __len__(self) -> int:
        return len(self.h)

    def take(self, rows: Tensor) -> Group:
        """The group of some rows; the mean stays that of the whole group."""
        return Group(self.b[rows], self.h[rows], None if self.centre is None else self.centre.take(rows))

    def total(self) -> Tensor:
        """Sum of all rows [d1, d2]."""
        m = self.centre
        if m is None:
            return self.b.T @ self.h
        e, f, scale = self.h - m.h0, self.b - m.b0, m.scale
        return torch.outer(m.b0, scale @ e) + (f * scale[:, None]).T @ self.h - scale.sum() * m.c

    def dot(self, w: Tensor) -> Tensor:
        """Inner product of every row with w [d1, d2]: [n]."""
        m = self.centre
        if m is None:
            return ((self.b @ w) * self.h).sum(1)
        e, f = self.h - m.h0, self.b - m.b0
        return (e @ (m.b0 @ w) + ((f @ w) * self.h).sum(1) - (m.c * w).sum()) * m.scale

    def cosines(self, other: Group) -> Tensor:
        """Inner products [n, m] with the rows of another part of the same group."""
        m, o = self.centre, other.centre
        if m is None or o is None:
            return (self.b @ other.b.T) * (self.h @ other.h.T)
        e, f, eo, fo = self.h - m.h0, self.b - m.b0, other.h - m.h0, other.b - m.b0
        product = (m.b0 @ m.b0) * (e @ eo.T) + (f @ fo.T) * (self.h @ other.h.T)
        product += (f @ m.b0)[:, None] * (self.h @ eo.T) + (fo @ m.b0)[None, :] * (e @ other.h.T)
        product -= m.own[:, None] + o.own[None, :]
        return product * m.scale[:, None] * o.scale[None, :]


def groups(factors: list[Tensor], bounds: list[int], center: bool) -> list[Group]:
    """One Group for each pair of bounds; raises for non-finite rows."""
    for k, x in enumerate(factors):
        checks.finite_rows("embedding" if len(factors) == 1 else f"embedding[{k}]", x)
    b, h = merged(factors)
    parts = [(b[i:j], h[i:j]) for i, j in itertools.pairwise(bounds)]
    return [Group(x, y, Centre.of(x, y) if center and len(y) else None) for x, y in parts]
