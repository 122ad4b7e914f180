"""How fast this machine is, and how tight the bounds of lazy selection will be: what a plan's times rest on."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from dq_fast import ops
from dq_fast.ops.embedding import merged
from dq_fast.select.groups import Groups
from dq_fast.select.rows import Factors
from dq_fast.select.rows.gather import gather
from dq_fast.select.settings import Settings

_SIDE = 320  # of the matrices multiplied
_STREAM = 2 << 20  # numbers read: 8 MB, more than the caches of a core hold
_DIRECTIONS = 16  # that csrc/cpu/directions.h takes
_SAMPLE = 256  # rows
_TRIAL_ROWS, _TRIAL_GROUPS = 4096, 64  # of a trial, at most
_PIECES, _PIECE_BYTES = 8, 1 << 20  # of a file, read to see how quickly it comes


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


@dataclass(frozen=True)
class Trial:
    """Some of the work, done and timed.

    Attributes:
        sizes: rows of the groups that were ranked. seconds: what that took.
    """

    sizes: np.ndarray
    seconds: float

    @property
    def rows(self) -> int:
        """How many were ranked."""
        return int(self.sizes.sum())

    def whole(self, sizes: np.ndarray, formula: Callable[[np.ndarray], float]) -> float:
        """Seconds for groups of these sizes, in proportion to a formula."""
        return self.seconds * formula(sizes) / formula(self.sizes)


def measured(
    factors: Factors, groups: Groups, settings: Settings, method: str, cheap: Callable[[np.ndarray], bool]
) -> Trial | None:
    """Rank some whole groups, as many as is cheap, and time it; None where no group is small and cheap enough.

    Parts of a longer group would tell little: how many rows are looked at again grows with its length.
    """
    sizes = groups.sizes.astype(np.float64)
    spread = np.unique(np.linspace(0, len(sizes) - 1, _TRIAL_GROUPS).astype(np.int64))
    spread = spread[sizes[spread] > 0]
    while len(spread) and (sizes[spread].sum() > _TRIAL_ROWS or not cheap(sizes[spread])):
        spread = spread[: len(spread) // 2]
    if not len(spread):
        return None
    return Trial(sizes[spread], _timed(factors, [groups.rows(g) for g in spread], settings, method))


def _timed(factors: Factors, groups: list[np.ndarray], settings: Settings, method: str) -> float:
    sample = tuple(torch.nan_to_num(x, 0.0, 0.0, 0.0) for x in gather(factors, np.concatenate(groups)))
    offsets = torch.from_numpy(np.concatenate([[0], np.cumsum([len(rows) for rows in groups])]))
    begin, s = time.perf_counter(), settings
    ops.graph_cut_bins(sample, s.n_bins, offsets=offsets, method=method, lam=s.lam, center=s.center, shifted=s.shifted)
    return max(time.perf_counter() - begin, 1e-6)


def reading_rate(factors: Factors, speed: Machine) -> float:
    """Bytes a second at which rows come: of memory, or what some pieces of a mapped file took, cached or not."""
    if not factors.mapped or factors.nbytes < _PIECES * _PIECE_BYTES:
        return speed.bytes
    wide = max(factors.tensors, key=lambda x: x.shape[1])
    step = max(1, _PIECE_BYTES // (wide.shape[1] * wide.element_size()))
    begin, read = time.perf_counter(), 0
    for start in np.linspace(0, max(0, len(wide) - step), _PIECES).astype(np.int64).tolist():
        piece = wide[start : start + step].clone()
        read += piece.numel() * piece.element_size()
    return min(speed.bytes, read / max(time.perf_counter() - begin, 1e-7))
