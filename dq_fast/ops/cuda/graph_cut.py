"""Graph cut on a device: a ranking of all groups, by their matrices in one launch, or by their rows in blocks of picks.

"gram" forms the similarities of many groups at once (torch, in the precision asked for) and runs every group's whole
loop in one kernel. "lazy" needs no matrix: `cuda/blocks.py`. Both decide in float64 by the rule of `graph_cut_torch`:
from float64 similarities, the default, the rows are those of every other backend.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dq_fast.ops import checks, graph_cut_torch
from dq_fast.ops.cuda import launch
from dq_fast.ops.cuda.blocks import Settings, Walk, similarities
from dq_fast.ops.cuda.rows import Rows
from dq_fast.ops.graph_cut_torch import Report, tie_tolerance
from dq_fast.ops.precision import similarity_dtype

FREE_PART = 4
"""One over the part of the free memory that the matrices of a launch may take."""


def rank(
    factors: list[Tensor],
    similarity: Tensor | None,
    bounds: list[int],
    sizes: list[list[int]],
    *,
    lam: float,
    shifted: bool,
    center: bool,
    method: str,
    report: Report,
) -> tuple[Tensor, Tensor]:
    """Rows in pick order, int64, and their gains, float64: for every group its bins of the given sizes.

    Waits for the device to learn that the rows are finite, once for each block of picks of the lazy way, and where
    somebody listens to the progress; not for any pick. So it cannot be captured in a CUDA graph.
    """
    like = factors[0] if similarity is None else similarity
    settings = Settings(lam, shifted and similarity is None, getattr(report, "progress", None) is not None, report)
    ranking = _Ranking(like, bounds, sizes, settings)
    with launch.on(like.device) as stream:
        if similarity is not None:
            _rank_given(ranking, similarity, stream)
        else:
            _rank_rows(ranking, factors, center, method, stream)
    return ranking.indices, ranking.gains


class _Ranking:
    """What is to be ranked, and where it goes.

    Attributes:
        bounds, sizes: rows bounds[g] to bounds[g + 1] are group g; sizes[g] those of its bins.
        places: indices and gains places[g] to places[g + 1] are group g's picks.
        indices, gains: the result [picks].
    """

    def __init__(self, like: Tensor, bounds: list[int], sizes: list[list[int]], settings: Settings) -> None:
        self.bounds, self.sizes, self.settings = bounds, sizes, settings
        self.places = list(itertools.accumulate((sum(s) for s in sizes), initial=0))
        self.indices = like.new_empty(self.places[-1], dtype=torch.int64)
        self.gains = like.new_empty(self.places[-1], dtype=torch.float64)

    def rows(self, g: int) -> int:
        """How many rows group g has."""
        return self.bounds[g + 1] - self.bounds[g]

    def picks(self, g: int) -> int:
        """How many of them are to be picked."""
        return self.places[g + 1] - self.places[g]

    def from_matrices(
        self, batch: Sequence[int], matrices: Tensor, sums: Tensor, tolerances: Tensor, stream: int
    ) -> None:
        """All bins of some groups, in one launch.

        Args:
            batch: the groups.
            matrices: their similarities, one after the other, each [n, n] without gaps; float32 or float64.
            sums: of the matrices' columns, at the places of all rows, float64.
            tolerances: within which gains tie, float64 [groups of the batch].
            stream: where to launch.
        """
        kernels, device = launch.kernels(), matrices.device
        at = list(itertools.accumulate((self.rows(g) ** 2 for g in batch), initial=0))
        table = torch.tensor(
            [[at[k], self.rows(g), self.bounds[g], self.places[g]] for k, g in enumerate(batch)], dtype=torch.int64
        ).to(device)
        sizes = torch.tensor([self.sizes[g] for g in batch], dtype=torch.int64).to(device)
        longest, is_float64 = max(self.rows(g) for g in batch), matrices.dtype is torch.float64
        state = sums.new_empty(len(batch) * kernels.graph_cut_gram_state(longest, is_float64))
        kernels.graph_cut_gram(
            matrices.data_ptr(), is_float64, sums.data_ptr(), table.data_ptr(), len(batch), longest, sizes.data_ptr(),
            sizes.shape[1], tolerances.data_ptr(), self.settings.lam, self.settings.shifted, state.data_ptr(),
            self.indices.data_ptr(), self.gains.data_ptr(), stream,
        )  # fmt: skip
        if self.settings.listened:
            self.indices[self.places[batch[-1]]].item()  # waits: what is reported is done
        self.settings.report(sum(self.picks(g) for g in batch))


def _rank_given(ranking: _Ranking, similarity: Tensor, stream: int) -> None:
    """One group's similarities as they are, whatever the method."""
    n = len(similarity)
    if n == 0:
        return
    s = similarity if similarity.dtype in (torch.float32, torch.float64) else similarity.float()
    s = s.contiguous()
    least, largest = torch.aminmax(s)
    sums = s.sum(0, dtype=torch.float64)
    scale = torch.maximum(-least, largest).double()
    if not bool(torch.isfinite(scale + sums.sum())):
        checks.finite_rows("similarity", similarity)
    if ranking.picks(0):
        tolerance = (scale * tie_tolerance(n, ranking.settings.lam)).reshape(1)
        ranking.from_matrices([0], s, sums, tolerance, stream)


def _rank_rows(ranking: _Ranking, factors: list[Tensor], center: bool, method: str, stream: int) -> None:
    for k, x in enumerate(factors):
        checks.finite_rows("embedding" if len(factors) == 1 else f"embedding[{k}]", x)
    formed: list[int] = []
    walked: list[int] = []
    for g in range(len(ranking.sizes)):
        fits = ranking.rows(g) ** 2 <= graph_cut_torch.GRAM_NUMBERS
        if ranking.picks(g):
            (formed if fits and method in ("auto", "gram") else walked).append(g)
    if formed:
        _rank_formed(ranking, formed, factors, center, stream)
    for g in walked:
        rows = Rows(factors, ranking.bounds[g], ranking.bounds[g + 1], center)
        place = slice(ranking.places[g], ranking.places[g + 1])
        walk = Walk(rows, ranking.bounds[g], ranking.indices[place], ranking.gains[place], ranking.settings, stream)
        walk.run(ranking.sizes[g], lazily=method != "naive")


def _rank_formed(ranking: _Ranking, wanted: list[int], factors: list[Tensor], center: bool, stream: int) -> None:
    """The groups by their matrices, those of like length together."""
    sums = factors[0].new_empty(ranking.bounds[-1], dtype=torch.float64)
    dtype = similarity_dtype()
    if center and len(factors) > 1:
        dtype = torch.float64  # their cosines are small differences of products
    for batch in _batches(sorted(wanted, key=ranking.rows, reverse=True), ranking, sums.device, dtype.itemsize):
        lengths = [ranking.rows(g) for g in batch]
        matrices = sums.new_empty(sum(n * n for n in lengths), dtype=dtype)
        at = 0
        for g, n in zip(batch, lengths):  # noqa: B905
            begin = ranking.bounds[g]
            rows = Rows(factors, begin, begin + n, center)
            rows.dots(rows.total(), out=sums[begin : begin + n])
            similarities(rows, torch.arange(n, device=sums.device), out=matrices[at : at + n * n].view(n, n))
            at += n * n
        tolerances = torch.tensor([tie_tolerance(n, ranking.settings.lam) for n in lengths], dtype=torch.float64)
        ranking.from_matrices(batch, matrices, sums, tolerances.to(sums.device), stream)


def _batches(groups: list[int], ranking: _Ranking, device: torch.device, number: int) -> Iterator[list[int]]:
    """Parts of the groups, longest first, whose matrices, of numbers of so many bytes, are formed together.

    The more groups run at a time, the better: a group's picks are a chain. So their matrices may take a part of the
    free memory, and GRAM_NUMBERS numbers at any rate.
    """
    most = graph_cut_torch.GRAM_NUMBERS
    if sum(ranking.rows(g) ** 2 for g in groups) > most:  # asking takes a while
        most = max(most, launch.free_bytes(device) // FREE_PART // number)
    batch: list[int] = []
    numbers = 0
    for g in groups:
        if batch and numbers + ranking.rows(g) ** 2 > most:
            yield batch
            batch, numbers = [], 0
        batch.append(g)
        numbers += ranking.rows(g) ** 2
    if batch:
        yield batch
