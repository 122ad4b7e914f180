"""What a ranking tells about itself: which ways it took, and how much it read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WAYS = ("naive", "gram", "lazy")
FIELDS = (*WAYS, "switched", "rows_read", "bytes_read", "float64_decisions")  # csrc/kernels.h: Trace


def blank() -> Tensor:
    """Room for the numbers of FIELDS, int64, for the native code to add to."""
    return torch.zeros(len(FIELDS), dtype=torch.int64, device="cpu")


def fill(report: dict[str, Any], counts: Tensor, n: int) -> None:
    """Put what the native code counted into `report`; n is the number of rows."""
    numbers = dict(zip(FIELDS, counts.tolist()))  # noqa: B905
    fill_ways(report, {way: numbers.pop(way) for way in WAYS}, numbers.pop("switched"))
    report.update(numbers, passes=numbers["rows_read"] / n if n else 0.0)


def fill_ways(report: dict[str, Any], groups: dict[str, int], switched: int = 0) -> None:
    """Put into `report` how many groups were ranked in which way, and the way of most."""
    report.update(algorithm=max(WAYS, key=lambda way: groups.get(way, 0)), groups=groups, switched=switched)
