"""The product embedding in float64, never materialised: what every definition in torch is written with.

Rows phi_i are the flattened outer product b_i (x) h_i of a narrow and a wide normalised factor; one factor is b = 1.
Centred rows are phi_i - mean(phi), normalised. All is float64, so that definitions agree to about 1e-13 relative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dq_fast.ops import checks

CENTRE_FLOOR = 1e-12
"""A row this near to its group's mean (rows have norm 1) is the mean, but for rounding: it counts as a zero row."""

_CHUNK_NUMBERS = 1 << 22  # numbers of a temporary [rows, d1, d2]: 32 MB


def normalise(x: Tensor) -> Tensor:
    """Rows of x [n, d] scaled to norm 1 in float64; zero rows stay zero. Scaled by the largest number first: no overflow."""
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
class Group:
    """The rows of one group.

    Attributes:
        b: narrow factor [n, d1], h: wide factor [n, d2], normalised, float64.
        mean: mean of b (x) h [d1, d2], or None where rows are not centred.
        scale: 1 / ||phi_i - mean|| [n], 0 for a row equal to the mean; None where rows are not centred.
        b_mean, h_mean: means of b [d1] and h [d2] over the whole group; None where rows are not centred.
    """

    b: Tensor
    h: Tensor
    mean: Tensor | None = None
    scale: Tensor | None = None
    b_mean: Tensor | None = None
    h_mean: Tensor | None = None

    @classmethod
    def of(cls, b: Tensor, h: Tensor, center: bool) -> Group:
        """The group of rows, centred if asked."""
        group = cls(b, h)
        if center and len(h):
            mean = b.T @ h / len(h)
            group.b_mean, group.h_mean = b.mean(0), h.mean(0)
            norm = torch.cat([x.square().sum((1, 2)).sqrt() for x in group._outer(mean)])
            group.mean, group.scale = mean, torch.where(norm > CENTRE_FLOOR, 1 / norm, 0.0)
        return group

    def __len__(self) -> int:
        return len(self.h)

    def take(self, rows: Tensor) -> Group:
        """The group of some rows; the mean stays that of the whole group."""
        scale = None if self.scale is None else self.scale[rows]
        return Group(self.b[rows], self.h[rows], self.mean, scale, self.b_mean, self.h_mean)

    def _outer(self, mean: Tensor) -> list[Tensor]:
        """Pieces [rows, d1, d2] of b (x) h - mean: subtracted number by number, so that tight groups keep their digits."""
        step = max(1, _CHUNK_NUMBERS // mean.numel())
        return [
            self.b[i : i + step, :, None] * self.h[i : i + step, None, :] - mean for i in range(0, len(self.h), step)
        ]

    def total(self) -> Tensor:
        """Sum of all rows [d1, d2]."""
        if self.mean is None or self.scale is None:
            return self.b.T @ self.h
        step = max(1, _CHUNK_NUMBERS // self.mean.numel())
        pieces = self._outer(self.mean)
        return sum(
            (torch.einsum("i,iab->ab", self.scale[k * step : (k + 1) * step], x) for k, x in enumerate(pieces)),
            torch.zeros_like(self.mean),
        )

    def dot(self, w: Tensor) -> Tensor:
        """Inner product of every row with w [d1, d2]: [n]."""
        if self.mean is None or self.scale is None:
            return ((self.b @ w) * self.h).sum(1)
        pieces = self._outer(self.mean)
        return torch.cat([torch.einsum("iab,ab->i", x, w) for x in pieces]) * self.scale

    def cosines(self, other: Group) -> Tensor:
        """Inner products [n, m] with the rows of another part of the same group."""
        if self.mean is None or self.scale is None or other.scale is None:
            return (self.b @ other.b.T) * (self.h @ other.h.T)
        assert self.b_mean is not None and self.h_mean is not None
        # b(x)h - mean = b0(x)e + f(x)h - c with e = h - h0, f = b - b0 and c = mean - b0(x)h0: every term is as small as
        # the group is tight, so nothing cancels.
        b0, h0 = self.b_mean, self.h_mean
        c = self.mean - torch.outer(b0, h0)
        e, f, eo, fo = self.h - h0, self.b - b0, other.h - h0, other.b - b0
        product = (b0 @ b0) * (e @ eo.T) + (f @ fo.T) * (self.h @ other.h.T)
        product += torch.outer(f @ b0, torch.ones_like(fo[:, 0])) * (self.h @ eo.T)
        product += torch.outer(torch.ones_like(f[:, 0]), fo @ b0) * (e @ other.h.T)
        product -= (e @ (b0 @ c) + ((f @ c) * self.h).sum(1))[:, None]
        product -= (eo @ (b0 @ c) + ((fo @ c) * other.h).sum(1))[None, :]
        return (product + c.square().sum()) * self.scale[:, None] * other.scale[None, :]


def groups(factors: list[Tensor], bounds: list[int], center: bool) -> list[Group]:
    """One Group for each pair of bounds; raises for non-finite rows."""
    for k, x in enumerate(factors):
        checks.finite_rows("embedding" if len(factors) == 1 else f"embedding[{k}]", x)
    b, h = merged(factors)
    return [Group.of(b[i:j], h[i:j], center) for i, j in zip(bounds, bounds[1:])]  # noqa: B905
