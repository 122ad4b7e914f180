"""How fast this machine is, and how tight the bounds of lazy selection will be: what a plan's times rest on."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dq_fast import ops
from dq_fast.ops.embedding import merged
from dq_fast.select.rows import Factors
from dq_fast.select.rows.gather import gather
from dq_fast.select.settings import Settings

_SIDE = 320  # of the matrices multiplied
_STREAM = 2 << 20  # numbers read: 8 MB, more than the caches of a core hold
_DIRECTIONS = 16  # that csrc/cpu/directions.h takes
_SAMPLE = 256  # rows
_PROBE_ROWS = 2048


@dataclass(frozen=True)
class Machine:
    """Attributes: products: float32 multiplications a second; bytes: read from memory a second."""

    products: float
    bytes: float


@functools.lru_cache(maxsize=4)
def machine(threads: int) -> Machine:
    """Rates of matrix products and of reading memory with this many threads; about 20 ms, once for the process."""
    a, stream = torch.rand(_SIDE, _SIDE), torch.rand(_STREAM)
    return Machine(_SIDE**3 / _best(lambda: a @ a), 4 * _STREAM / _best(lambda: stream.sum()))


def _best(work: object) -> float:
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - begin)
    return max(min(times), 1e-7)


def looseness(factors: Factors, rows: np.ndarray, center: bool) -> float:
    """Share of the rows' squares that no 16 directions explain, 0 to 1: how loose lazy selection's bounds will be.

    From the similarities of up to 256 of the given rows; what so few rows explain of each other by chance is put right
    by judging against rows without any structure.
    """
    picked = rows[np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).astype(np.int64)]
    m = len(picked)
    if m <= _DIRECTIONS:
        return 0.0
    sample = [torch.nan_to_num(x.double(), 0.0, 0.0, 0.0) for x in gather(factors, np.unique(picked))]
    narrow, wide = merged(sample)
    gram = (narrow @ narrow.T) * (wide @ wide.T)
    if center:
        gram = gram - gram.mean(0, keepdim=True) - gram.mean(1, keepdim=True) + gram.mean()
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    if float(values.sum()) == 0:
        return 0.0
    explained = float(values[-_DIRECTIONS:].sum() / values.sum())
    by_chance = _DIRECTIONS / len(gram)
    return float(np.clip((1 - explained) / (1 - by_chance), 0.0, 1.0))


def measured(factors: Factors, rows: np.ndarray, settings: Settings, method: str) -> tuple[float, int]:
    """Seconds that ranking up to 2,048 of the given rows (one group, spread over it) takes, and how many they were."""
    take = np.unique(rows[np.linspace(0, len(rows) - 1, min(_PROBE_ROWS, len(rows))).astype(np.int64)])
    sample: tuple[Tensor, ...] = tuple(torch.nan_to_num(x, 0.0, 0.0, 0.0) for x in gather(factors, take))
    begin = time.perf_counter()
    s = settings
    ops.graph_cut_bins(sample, s.n_bins, method=method, lam=s.lam, center=s.center, shifted=s.shifted)
    return time.perf_counter() - begin, len(take)
