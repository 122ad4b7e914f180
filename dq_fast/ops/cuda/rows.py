"""The rows of one group on a device: what row sums and graph cut ask of them, in float64."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from dq_fast.ops.embedding import Centre, Group, merged


class Rows:
    """Rows `begin` to `end` of an embedding: one group, as many factors as there are.

    Rows are normalised; with `center` they are phi_i - mean, normalised, phi the product embedding of the group's rows.
    Inner products live in [d1, d2], d1 the width of the narrow factor (1 for one factor), d2 that of the wide one.
    Nothing here waits for the device except `first_bad`.
    """

    def __init__(self, factors: list[Tensor], begin: int, end: int, center: bool) -> None:
        self.factors = [x[begin:end] for x in factors]
        self.n = end - begin
        self.center = center

    @cached_property
    def group(self) -> Group:
        """The rows as the definitions have them: float64 copies [n, d1] and [n, d2]."""
        b, h = merged(self.factors)
        if not self.center or self.n == 0:
            return Group(b, h)
        centre = Centre.of(b, h)
        if len(self.factors) > 1:
            return Group(b, h, centre)
        return Group(b, (h - centre.h0) * centre.scale[:, None])  # centred rows of one factor are rows like others

    def first_bad(self) -> int:
        """The first row of the group with a NaN or an infinity, -1 if there is none; waits for the device."""
        bad = torch.zeros(self.n, dtype=torch.bool, device=self.factors[0].device)
        for x in self.factors:
            bad |= ~torch.isfinite(x).all(dim=1)
        found = bad.nonzero()
        return int(found[0, 0]) if len(found) else -1

    def total(self) -> Tensor:
        """Sum of all rows, float64 [d1, d2]."""
        return self.group.total()

    def dots(self, w: Tensor, out: Tensor | None = None) -> Tensor:
        """Inner product of every row with w [d1, d2], float64 [n]; into `out` if given."""
        found = self.group.dot(w)
        if out is None:
            return found
        return out.copy_(found)

    def gather(self, rows: Tensor) -> Group:
        """Some rows, int64 [k] numbered within the group: float64 copies, with the mean of the whole group."""
        return self.group.take(rows)
