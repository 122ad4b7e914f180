"""Embeddings to select from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from dq_fast.select.groups import Groups
from dq_fast.select.methods import Evidence


def rows(n: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Clustered rows away from the origin, of different lengths."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, d, generator=g, dtype=torch.float64)
    picked = torch.randint(0, 3, (n,), generator=g)
    x = 1 + centres[picked] + 0.4 * torch.randn(n, d, generator=g, dtype=torch.float64)
    return (x * (0.5 + torch.rand(n, 1, generator=g, dtype=torch.float64))).to(dtype)


def evidence(
    factors: Tensor | Sequence[Tensor], budgets: int | Sequence[int], by: object = None, **more: object
) -> Evidence:
    """Of rows grouped `by` some labels."""
    found = (factors,) if isinstance(factors, Tensor) else tuple(factors)
    groups = Groups.of(by, len(found[0]))
    return Evidence(found, groups, np.atleast_1d(np.asarray(budgets, np.int64)), **more)  # type: ignore[arg-type]


@st.composite
def lattices(draw: st.DrawFn, max_rows: int = 9) -> tuple[Tensor, ...]:
    """One or two factors of small whole numbers: ties, repeats and zero rows in plenty."""
    n = draw(st.integers(1, max_rows))

    def factor() -> Tensor:
        d = draw(st.integers(1, 3))
        row = st.lists(st.integers(-2, 2), min_size=d, max_size=d)
        return torch.tensor(draw(st.lists(row, min_size=n, max_size=n)), dtype=torch.float32)

    return tuple(factor() for _ in range(draw(st.integers(1, 2))))
