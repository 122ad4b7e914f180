"""Features, logits and labels to score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dq_fast.select.groups import Groups
from dq_fast.select.methods import Evidence

SCORE_METHODS = [
    "least-confidence", "entropy", "margin", "grand", "el2n", "forgetting", "cal", "deepfool", "contextual-diversity",
    "glister",
]  # fmt: skip
NESTED = [name for name in SCORE_METHODS if name != "glister"]


def scored(
    n: int, width: int = 4, classes: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Features [n, width] of overlapping classes, logits [n, classes] that fit them badly, and labels."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=g)
    centres = torch.randn(classes, width, generator=g, dtype=torch.float64)
    x = 0.5 + centres[y] + 0.7 * torch.randn(n, width, generator=g, dtype=torch.float64)
    z = x @ centres.T + 0.8 * torch.randn(n, classes, generator=g, dtype=torch.float64)
    return x.to(dtype), z.to(dtype), y.numpy()


def evidence(
    x: Tensor | None,
    z: Tensor | None,
    y: np.ndarray | None,
    budgets: int | Sequence[int],
    groups: object = None,
    **more: object,
) -> Evidence:
    n = len(next(a for a in (x, z, y) if a is not None))
    found = Groups.of(groups, n)
    return Evidence((), found, np.atleast_1d(np.asarray(budgets, np.int64)), x, z, y, **more)  # type: ignore[arg-type]
