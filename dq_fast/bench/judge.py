"""Independent definitions in numpy and float64 that every provider is held against before it is timed.

Nothing here is shared with the ops: similarities are formed from the definition, and a ranking is judged by replaying
its picks against the gains of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.bench.case import CheckError

Array = NDArray[np.float64]
QUADRATIC_ROWS = 8192  # up to this many rows column sums are summed over all pairs; beyond, by the linear formula
BLOCK = 256  # rows of similarities at a time


@dataclass
class Similarity:
    """Similarities of one group.

    Attributes:
        n: rows.
        rows: from row numbers [k] to their similarities with all rows, float64 [k, n].
        sums: column sums, float64 [n].
    """

    n: int
    rows: Callable[[NDArray[np.int64]], Array]
    sums: Array


def unit_rows(x: Any) -> Array:
    """Rows of x [n, d] scaled to norm 1 in float64; zero rows stay zero."""
    rows = np.asarray(x.double() if hasattr(x, "double") else x, dtype=np.float64)
    norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)


def shifted_similarity(factors: Sequence[Any], *, center: bool = False) -> Similarity:
    """S = 1/2 + 1/2 prod_k cos of the rows of one group, or of their differences from the group's mean."""
    parts = [unit_rows(x) for x in factors]
    n = len(parts[0])
    if center:
        whole = parts[0]
        for part in parts[1:]:
            whole = (whole[:, :, None] * part[:, None, :]).reshape(n, -1)
        whole = whole - whole.mean(0)
        norm = np.sqrt(np.einsum("ij,ij->i", whole, whole))[:, None]
        parts = [np.divide(whole, norm, out=np.zeros_like(whole), where=norm > 1e-12)]

    def rows(picked: NDArray[np.int64]) -> Array:
        cosines = parts[0][picked] @ parts[0].T
        for part in parts[1:]:
            cosines *= part[picked] @ part.T
        cosines *= 0.5
        cosines += 0.5
        return cosines

    if n <= QUADRATIC_ROWS or len(parts) > 2:
        sums = sum_of(rows, np.arange(n))
    elif len(parts) == 1:
        sums = 0.5 * n + 0.5 * (parts[0] @ parts[0].sum(0))
    else:
        b, h = parts
        sums = 0.5 * n + 0.5 * np.einsum("ij,ij->i", b @ (b.T @ h), h)
    return Similarity(n, rows, sums)


def given_similarity(matrix: Any) -> Similarity:
    """A matrix as it is."""
    s = np.asarray(matrix, dtype=np.float64)
    return Similarity(len(s), lambda picked: s[picked], s.sum(0))


def sum_of(rows: Callable[[NDArray[np.int64]], Array], picked: NDArray[np.int64]) -> Array:
    """Sum of the similarity rows of some rows, in blocks."""
    return np.add.reduce([rows(picked[i : i + BLOCK]).sum(0) for i in range(0, len(picked), BLOCK)])


def replay(similarity: Similarity, picks: NDArray[np.int64], sizes: Sequence[int]) -> tuple[float, Array]:
    """How far below the largest gain the picks of the bins were at worst, and the gain of each.

    The shortfall is relative to the largest absolute gain at the start of the bin. `sizes` may end before the last bin.
    """
    if len(picks) != sum(sizes):
        raise CheckError(f"{len(picks)} picks where {sum(sizes)} were asked for")
    if len(picks) and (picks.min() < 0 or picks.max() >= similarity.n):
        raise CheckError(f"picks outside the group of {similarity.n} rows")
    if len(np.unique(picks)) != len(picks):
        raise CheckError("a row is picked twice")
    sums, left = similarity.sums.copy(), np.ones(similarity.n, dtype=bool)
    worst, gains, begin = 0.0, [], 0
    for size in sizes:
        gain = np.where(left, sums, -np.inf)
        scale = max(float(np.abs(gain[left]).max()), 1e-300) if size else 1.0
        for start in range(begin, begin + size, BLOCK):
            block = picks[start : min(start + BLOCK, begin + size)]
            s = similarity.rows(block)
            for k, row in enumerate(block.tolist()):
                worst = max(worst, float(gain.max() - gain[row]) / scale)
                gains.append(float(gain[row]))
                gain -= 2 * s[k]
                gain[row] = -np.inf
            sums -= s.sum(0)
        left[picks[begin : begin + size]] = False
        begin += size
    return worst, np.array(gains)


def as_array(x: Any) -> NDArray[Any]:
    """A tensor, on whatever device, or a list as numpy."""
    return x.cpu().numpy() if hasattr(x, "cpu") else np.asarray(x)


def bin_sizes(n: int, n_bins: int) -> list[int]:
    """Sizes differ by at most one, larger first."""
    return [n // n_bins + (k < n % n_bins) for k in range(n_bins)]


class RankingJudge:
    """Judges rankings of groups into bins (or of the first few bins), remembering what it has seen.

    Args:
        similarities: makes the Similarity of group g; called when needed, one group at a time.
        bounds: offsets of the groups.
        sizes: of each group, its bins' sizes.
    """

    def __init__(
        self, similarities: Callable[[int], Similarity], bounds: Sequence[int], sizes: Sequence[Sequence[int]]
    ) -> None:
        self.similarities, self.bounds, self.sizes = similarities, list(bounds), [list(s) for s in sizes]
        self._seen: list[tuple[NDArray[np.int64], float, Array]] = []

    def __call__(self, result: Any) -> float:
        """Deviation: shortfall of the picks, or difference of the gains reported with them, whichever is larger."""
        picks, gains, bin_of = _picks_of(result)
        if bin_of is not None:
            self._check_bins(picks, bin_of)
        worst, want = self._replayed(picks)
        if gains is not None:
            scale = max(float(np.abs(want).max(initial=0.0)), 1e-300)
            worst = max(worst, float(np.abs(gains - want).max(initial=0.0)) / scale)
        return worst

    def _replayed(self, picks: NDArray[np.int64]) -> tuple[float, Array]:
        for seen, worst, gains in self._seen:
            if np.array_equal(seen, picks):
                return worst, gains
        if len(picks) != sum(map(sum, self.sizes)):
            raise CheckError(f"{len(picks)} picks where {sum(map(sum, self.sizes))} were asked for")
        worst, all_gains, begin = 0.0, [], 0
        for g, sizes in enumerate(self.sizes):
            mine = picks[begin : begin + sum(sizes)] - self.bounds[g]
            begin += sum(sizes)
            short, gains = replay(self.similarities(g), mine, sizes)
            worst = max(worst, short)
            all_gains.append(gains)
        joined = np.concatenate(all_gains) if all_gains else np.empty(0)
        self._seen.append((picks.copy(), worst, joined))
        return worst, joined

    def _check_bins(self, picks: NDArray[np.int64], bin_of: NDArray[np.int64]) -> None:
        want = np.concatenate([np.repeat(np.arange(len(s)), s) for s in self.sizes])
        if len(want) != len(picks) or not np.array_equal(bin_of[picks], want):
            raise CheckError("bin_of does not agree with the ranking")


def _picks_of(result: Any) -> tuple[NDArray[np.int64], Array | None, NDArray[np.int64] | None]:
    """Picks, gains in pick order and bins of a result in any of the providers' forms."""
    if isinstance(result, tuple) and len(result) == 3:  # graph_cut_bins: ranking, bin_of, gains of rows
        ranking, bin_of, gains = map(as_array, result)
        return ranking, gains[ranking], bin_of
    if isinstance(result, tuple) and len(result) == 2:  # graph_cut_greedy: indices, gains
        indices, gains = map(as_array, result)
        return indices, gains, None
    return as_array(result).astype(np.int64), None, None


def relative_error(got: Any, want: Array) -> float:
    """Largest difference, relative to the largest number that should be there; raises for another shape."""
    found = as_array(got)
    if found.shape != want.shape:
        raise CheckError(f"shape {found.shape} where {want.shape} was asked for")
    if not np.isfinite(found).all():
        raise CheckError("NaN or infinity in the result")
    scale = max(float(np.abs(want).max(initial=0.0)), 1e-300)
    return float(np.abs(found.astype(np.float64) - want).max(initial=0.0)) / scale
