"""Rows of a partition in float64, and the sums of them that are kept for every bin.

A row is phi = b (x) h, the outer product of its normalised narrow and wide factor (b = 1 for one factor; raw rows for
dot products). Centred rows are (phi - mean) / |phi - mean| with the mean that the group had when it was ranked: it is
kept when rows come or go, so that the sums stay sums of the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.ops.embedding import CENTRE_FLOOR, Centre, Group, merged

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_CHUNK_NUMBERS = 1 << 22  # numbers of explicit rows [rows, d1, d2] at a time: 32 MB


def sums_shape(factors: Sequence[Tensor]) -> tuple[int, int]:
    """d1 and d2 of the narrow and the wide factor that all factors are merged into."""
    widths = sorted(f.shape[1] for f in factors)
    while len(widths) > 2:
        widths = sorted([widths[0] * widths[1], *widths[2:]])
    return (1, widths[0]) if len(widths) == 1 else (widths[0], widths[1])


@dataclass(frozen=True)
class Rows:
    """The rows of an embedding, read as they are needed: factors [n, d_k] and "cosine" or "dot"."""

    factors: Sequence[Tensor]
    similarity: str

    def take(self, rows: Ints) -> Group:
        """Some of the rows, not centred."""
        at = torch.from_numpy(rows)
        taken = [f[at] for f in self.factors]
        for k, x in enumerate(taken):
            good = torch.isfinite(x).all(1)
            if not bool(good.all()):
                name = "embedding" if len(taken) == 1 else f"embedding[{k}]"
                raise checks.non_finite(name, int(rows[int((~good).nonzero()[0, 0])]))
        return Group(*(merged(taken) if self.similarity == "cosine" else _outer(taken)))


def _outer(factors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Narrow and wide float64 factor of raw rows."""
    rows = sorted((x.double() for x in factors), key=lambda x: x.shape[1])
    while len(rows) > 2:
        first, second = rows.pop(0), rows.pop(0)
        rows.append((first[:, :, None] * second[:, None, :]).flatten(1))
        rows.sort(key=lambda x: x.shape[1])
    return (torch.ones_like(rows[0][:, :1]), rows[0]) if len(rows) == 1 else (rows[0], rows[1])


@dataclass(frozen=True)
class Sums:
    """What is kept of the rows.

    Attributes:
        of_bin: float64 [groups, n_bins, d1, d2], sums of rows.
        largest: float64 [groups], the largest |s| there can be: 1 for cosines.
        b0: [groups, d1], h0: [groups, d2], mean: [groups, d1, d2], means that rows are centred with; no groups where
            rows are not centred.
        total: [groups, d1, d2], sums of the rows before centring as they are now: where the mean is by now.
        spread: [groups], root mean square distance of the rows from the mean when that was taken.
    """

    of_bin: Floats
    largest: Floats
    b0: Floats
    h0: Floats
    mean: Floats
    total: Floats
    spread: Floats

    @classmethod
    def empty(cls, shape: tuple[int, ...], center: bool) -> Sums:
        """Zeros for groups x bins x d1 x d2."""
        groups, _, d1, d2 = shape
        centred = groups if center else 0
        return cls(
            np.zeros(shape), np.ones(groups), np.zeros((centred, d1)), np.zeros((centred, d2)),
            np.zeros((centred, d1, d2)), np.zeros((centred, d1, d2)), np.ones(centred),
        )  # fmt: skip

    @property
    def center(self) -> bool:
        """Whether rows are centred."""
        return len(self.mean) > 0

    @property
    def width(self) -> tuple[int, int]:
        """d1 and d2."""
        return self.of_bin.shape[2], self.of_bin.shape[3]

    def measure(self, g: int, rows: Rows, members: Ints, bin_of: Ints) -> None:
        """Set everything about group `g` from all its rows."""
        group, dot = rows.take(members), rows.similarity == "dot"
        if self.center and len(group):
            self.b0[g], self.h0[g] = group.b.mean(0).numpy(), group.h.mean(0).numpy()
            self.total[g] = group.total().numpy()
            self.mean[g] = self.total[g] / len(group)
            self.spread[g] = float(self._distances(g, group).square().mean().sqrt())
        if dot:
            self.largest[g] = self.largest_own(g, group)
        group = self.centred(g, group, dot)
        for k in range(self.of_bin.shape[1]):
            self.of_bin[g, k] = group.take(torch.from_numpy(np.flatnonzero(bin_of[members] == k))).total().numpy()

    def _distances(self, g: int, group: Group) -> Tensor:
        """Of rows from the mean that is kept, from the explicit rows: nothing cancels."""
        mean = torch.from_numpy(self.mean[g])
        step = max(1, _CHUNK_NUMBERS // mean.numel())
        parts = [
            (group.b[i : i + step, :, None] * group.h[i : i + step, None, :] - mean).square().sum((1, 2)).sqrt()
            for i in range(0, len(group), step)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def largest_own(self, g: int, group: Group) -> float:
        """The largest dot product of a row with itself: the largest |s|."""
        own = group.b.square().sum(1) * group.h.square().sum(1)
        if self.center:
            own = self._distances(g, group).square()
        return float(own.max()) if len(own) else 0.0

    def centred(self, g: int, group: Group, dot: bool) -> Group:
        """Rows of group `g` without the mean that is kept for it, normalised again unless for dot products.

        Rows as they are where rows are not centred.
        """
        if not self.center:
            return group
        b0, h0, mean = (torch.from_numpy(x[g]) for x in (self.b0, self.h0, self.mean))
        c = mean - torch.outer(b0, h0)
        f, e = group.b - b0, group.h - h0
        norm = self._distances(g, group)
        scale = torch.ones_like(norm) if dot else torch.where(norm > CENTRE_FLOOR, 1 / norm, 0.0)
        own = e @ (b0 @ c) + ((f @ c) * group.h).sum(1) - 0.5 * c.square().sum()
        return Group(group.b, group.h, Centre(b0, h0, c, scale, own))

    def mean_shift(self, sizes: Ints) -> float:
        """How far the mean of a group is by now from the one kept for it, at most; 0 where rows are not centred.

        As a part of the root mean square distance of the group's rows from the mean that is kept.
        """
        if not self.center:
            return 0.0
        there = np.flatnonzero(sizes > 0)
        moved = np.sqrt(((self.total[there] / sizes[there, None, None] - self.mean[there]) ** 2).sum((1, 2)))
        return float(np.max(moved / np.maximum(self.spread[there], CENTRE_FLOOR), initial=0.0))

    def regrouped(self, origin: Ints, center: bool) -> Sums:
        """A copy with the groups in another order: the old number of every new group, -1 for one without rows."""
        old = np.flatnonzero(origin >= 0)
        made = Sums.empty((len(origin), *self.of_bin.shape[1:]), center)
        for name in ("of_bin", "largest", *(("b0", "h0", "mean", "total", "spread") if self.center else ())):
            getattr(made, name)[old] = getattr(self, name)[origin[old]]
        return made

    def check(self, groups: int, bins: int, center: bool) -> None:
        """Raise where shapes do not belong together or values are not finite."""
        if self.of_bin.ndim != 4 or self.of_bin.shape[:2] != (groups, bins):
            raise checks.bad("sums", f"float64 [{groups}, {bins}, d1, d2]", f"shape {self.of_bin.shape}")
        d1, d2 = self.width
        centred = groups if center else 0
        shapes = {
            "largest": (groups,), "b0": (centred, d1), "h0": (centred, d2), "mean": (centred, d1, d2),
            "total": (centred, d1, d2), "spread": (centred,),
        }  # fmt: skip
        for name, shape in {"of_bin": self.of_bin.shape, **shapes}.items():
            x = getattr(self, name)
            if x.shape != shape or x.dtype != np.float64:
                raise checks.bad(f"sums of {name}", f"float64 {shape}", f"{x.dtype} {x.shape}")
            if not np.isfinite(x).all():
                raise checks.bad(f"sums of {name}", "finite", "NaN or infinity")
