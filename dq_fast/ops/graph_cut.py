"""Graph-cut greedy: rows that represent their group and do not repeat each other, and whole rankings in bins."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.ops import checks, graph_cut_torch, native, registry, trace
from dq_fast.ops.cuda import graph_cut as graph_cut_cuda
from dq_fast.ops.graph_cut_torch import bin_sizes
from dq_fast.ops.row_sums import NATIVE_NOTE, native_arguments, native_offsets, native_rows, raise_non_finite
from dq_fast.progress import Progress

METHODS = {"auto": 0, "naive": 1, "gram": 2, "lazy": 3}  # the numbers of csrc/kernels.h: Method

_CORE: Any = native.find("cpu")[0]  # looked up once; None: then the functions that use it do not serve
_PLACES = torch.empty(0, dtype=torch.int64, device="cpu")  # new_empty of it is quicker than torch.empty with a dtype
_GAINS = torch.empty(0, dtype=torch.float64, device="cpu")


def graph_cut_greedy(
    embedding: Any,
    budget: int | Sequence[int] | Tensor,
    *,
    similarity: Tensor | None = None,
    offsets: Any = None,
    lam: float = 1.0,
    shifted: bool = True,
    center: bool = False,
    method: str = "auto",
    progress: Progress | None = None,
    report: dict[str, Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """Pick `budget` rows of each group greedily by the graph-cut gain; exact, whatever the method.

    gain(x) = lam * sum_{j in R} s(j, x) - 2 * sum_{b in B} s(b, x), R all rows of the group, B those picked so far (as
    the published Dataset Quantization code has it). s is defined in `cosine_row_sums`, or given. Gains are float64:
    those within 1e-12 * n * (lam + 2) of the largest count as equal, and the lowest row wins. Negative gains never stop
    it.

    Peak memory of the native code beyond inputs and outputs, for a group of n rows: "naive" about 60 bytes a row;
    "lazy" about 160 bytes a row, a 1 MB pool, and a float32 copy of the narrower factor and of rows that are not
    float32; "gram" that and 4 n^2 bytes (up to 512 MB; beyond, as "lazy"), or 8 n^2 and a float64 copy of the rows (up
    to 256 MB each) where that is quicker, as for short groups of wide products; all up to about a hundred float64
    matrices [d1, d2], those of partial sums up to 64 MB together. A given similarity: about 40 bytes a row. On
    CUDA: float64 similarities of as many groups as fit a quarter of the free memory, or 1 GB, and float64 copies of one
    group's rows ("gram", and "auto" where a group's are up to 1 GB), or about 70 bytes a row and 32 MB ("lazy",
    "naive"); `similarity_precision("float32")` halves the similarities.

    Args:
        embedding: rows [n, d] or a tuple of factors [n, d_k]; None with `similarity`.
        budget: how many rows of every group, or one number for each group.
        similarity: float [n, n], used as given: s(j, x) = similarity[j, x]; one group.
        offsets: int64 [groups + 1]; None is one group.
        lam: weight of representation against repetition, >= 0.
        shifted: similarity 1/2 + 1/2 cos, see `cosine_row_sums`; not looked at with `similarity`.
        center: compare what tells a row from its group, see `cosine_row_sums`; not with `similarity`.
        method: "naive" (a product of the picked row with all rows), "gram" (similarities formed first, where they fit),
            "lazy" (a pool of candidates, and bounds; memory O(n d)), or "auto": whichever should cost least by n,
            widths and budget; bounds only where a sample of the rows promises tight ones, and given up midway where
            they are not. All give the same rows.
        progress: called as progress("greedy", rows picked, rows to pick).
        report: a dictionary that is filled with how it went: "algorithm" (the way of most groups), "groups" (how many
            were finished by which way; "naive" also stands for float32 similarities of each pick, decided in float64),
            "switched" (how many of them began another way); from the native code also
            "rows_read" (again each time, be it from a cache), "passes" (rows_read / n), "bytes_read" and
            "float64_decisions" (rows whose gains float32 could not tell from the best).

    Returns:
        indices int64 [sum of budgets]: row numbers in pick order, group by group; and gains float64 [sum of budgets].

    Raises:
        InputError: an argument that is not as above; non-finite values are reported by row.
    """
    factors, given, bounds, settings = _validate(embedding, similarity, offsets, lam, shifted, center, method)
    groups = 1 if bounds is None else bounds.shape[0] - 1
    budgets = _budgets(budget, groups)
    arguments = (factors, given, bounds, budgets, *settings)
    if progress is None and report is None:
        return registry.quickest("graph_cut_greedy", factors if given is None else (given,))(*arguments)
    serve = registry.serving("graph_cut_greedy", _device(factors, given))
    return serve(*arguments, progress=progress, report=report)


def graph_cut_bins(
    embedding: Any,
    n_bins: int,
    *,
    similarity: Tensor | None = None,
    offsets: Any = None,
    lam: float = 1.0,
    shifted: bool = True,
    center: bool = False,
    method: str = "auto",
    progress: Progress | None = None,
    report: dict[str, Any] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Split every group into bins, each picked greedily by the graph-cut gain from the rows that are left.

    Within a group bin sizes differ by at most one, larger first; a group with fewer rows than bins has empty late bins.
    The gain is `graph_cut_greedy`'s with R the rows that remain when the bin starts and B the rows of the bin so far.
    The last bin is picked greedily too, so that all rows are ranked. Peak memory is that of `graph_cut_greedy` for the
    same method, and 8 bytes for each row and for each bin of each group.

    Args:
        embedding: rows [n, d] or a tuple of factors [n, d_k]; None with `similarity`.
        n_bins: how many bins, >= 1.
        similarity: as in `graph_cut_greedy`.
        offsets: int64 [groups + 1]; None is one group.
        lam: weight of representation against repetition, >= 0.
        shifted: as in `graph_cut_greedy`.
        center: as in `graph_cut_greedy`.
        method: as in `graph_cut_greedy`.
        progress: called as progress("bins", rows ranked, n).
        report: as in `graph_cut_greedy`.

    Returns:
        ranking int64 [n]: row numbers, group after group, within a group bin after bin in pick order;
        bin_of int64 [n]: the bin of each row; gains float64 [n]: the gain that each row was picked with.

    Raises:
        InputError: an argument that is not as above; non-finite values are reported by row.
    """
    factors, given, bounds, settings = _validate(embedding, similarity, offsets, lam, shifted, center, method)
    arguments = (factors, given, bounds, checks.integer("n_bins", n_bins, 1), *settings)
    if progress is None and report is None:
        return registry.quickest("graph_cut_bins", factors if given is None else (given,))(*arguments)
    serve = registry.serving("graph_cut_bins", _device(factors, given))
    return serve(*arguments, progress=progress, report=report)


def _budgets(budget: Any, groups: int) -> list[int]:
    """One number for each group."""
    if type(budget) is int:  # asked first: asking whether it is a Sequence takes half a microsecond
        return [checks.integer("budget", budget, 0)] * groups
    if isinstance(budget, Tensor):
        budget = budget.tolist()
    if not isinstance(budget, Sequence):
        return [checks.integer("budget", budget, 0)] * groups
    if len(budget) != groups:
        raise checks.bad("budget", f"one integer, or one for each of the {groups} groups", f"{len(budget)}")
    return [checks.integer("budget", b, 0) for b in budget]


def _device(factors: list[Tensor], given: Tensor | None) -> str:
    return (factors[0] if given is None else given).device.type


def _validate(
    embedding: Any, similarity: Any, offsets: Any, lam: Any, shifted: Any, center: Any, method: Any
) -> tuple[list[Tensor], Tensor | None, Tensor | None, tuple[float, bool, bool, str]]:
    factors: list[Tensor] = []
    given = None
    if similarity is None:
        factors = checks.factors(embedding)
    elif embedding is not None:
        raise InputError("embedding must be None where similarity is given, got both; leave one out")
    else:
        given = checks.similarity(similarity)
        if offsets is not None and len(offsets) != 2:
            raise checks.bad("offsets", "None with similarity, which is one group", f"{len(offsets)} boundaries")
        if center:
            raise InputError("center must be False where similarity is given (it is used as given), got True")
    settings = (checks.real("lam", lam, 0.0), bool(shifted), bool(center), checks.one_of("method", method, METHODS))
    return factors, given, checks.offsets(offsets), settings


def _budget_sizes(bounds: list[int], budgets: Sequence[int]) -> list[list[int]]:
    for g, budget in enumerate(budgets):
        size = bounds[g + 1] - bounds[g]
        if budget > size:
            raise checks.bad("budget", f"at most {size}, the rows of group {g}", str(budget))
    return [[b] for b in budgets]


def _bins(ranking: Tensor, sizes: list[list[int]]) -> Tensor:
    """The bin of every row [n], from the ranking and the sizes of the bins of each group."""
    counts = np.array(sizes, dtype=np.int64).reshape(len(sizes), len(sizes[0]) if sizes else 1)
    in_order = np.repeat(np.tile(np.arange(counts.shape[1]), len(sizes)), counts.ravel())
    bin_of = torch.empty_like(ranking)
    bin_of[ranking] = torch.from_numpy(in_order).to(ranking.device)
    return bin_of


class _Counter:
    """Adds up ranked rows and tells the listener, not more often than anybody can read; `trace` takes the ways."""

    def __init__(self, stage: str, total: int, progress: Progress | None, trace: dict[str, Any] | None = None) -> None:
        self.stage, self.total, self.progress, self.trace = stage, total, progress, trace
        self.done, self.last = 0, 0.0

    def __call__(self, rows: int) -> None:
        self.done += rows
        if self.progress is not None and (self.done >= self.total or time.monotonic() - self.last > 0.1):
            self.last = time.monotonic()
            self.progress(self.stage, self.done, self.total)


def _greedy(rank: Any) -> Any:
    """The op `graph_cut_greedy` on top of a function that ranks."""

    def graph_cut_greedy(
        factors: list[Tensor], similarity: Tensor | None, offsets: Tensor | None, budgets: Sequence[int], lam: float,
        shifted: bool, center: bool, method: str, progress: Progress | None = None,
        report: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        bounds = checks.offsets_values(offsets, (similarity if similarity is not None else factors[0]).shape[0])
        sizes = _budget_sizes(bounds, budgets)
        counter = _Counter("greedy", sum(budgets), progress, report)
        return rank(
            factors, similarity, bounds, sizes, lam=lam, shifted=shifted, center=center, method=method, report=counter
        )

    return graph_cut_greedy


def _binned(rank: Any) -> Any:
    """The op `graph_cut_bins` on top of a function that ranks."""

    def graph_cut_bins(
        factors: list[Tensor], similarity: Tensor | None, offsets: Tensor | None, n_bins: int, lam: float,
        shifted: bool, center: bool, method: str, progress: Progress | None = None,
        report: dict[str, Any] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        n = (similarity if similarity is not None else factors[0]).shape[0]
        bounds = checks.offsets_values(offsets, n)
        sizes = [bin_sizes(end - begin, n_bins) for begin, end in itertools.pairwise(bounds)]
        counter = _Counter("bins", n, progress, report)
        ranking, gains_in_order = rank(
            factors, similarity, bounds, sizes, lam=lam, shifted=shifted, center=center, method=method, report=counter
        )
        gains = torch.empty_like(gains_in_order)
        gains[ranking] = gains_in_order
        return ranking, _bins(ranking, sizes), gains

    return graph_cut_bins


_greedy_in_torch = _greedy(graph_cut_torch.rank)
_bins_in_torch = _binned(graph_cut_torch.rank)


def _greedy_cpu(
    factors: list[Tensor], similarity: Tensor | None, offsets: Tensor | None, budgets: Sequence[int], lam: float,
    shifted: bool, center: bool, method: str, progress: Progress | None = None,
    report: dict[str, Any] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The op `graph_cut_greedy` by the native code: one call for all groups."""
    n = (factors[0] if similarity is None else similarity).shape[0]
    total = sum(budgets)
    if len(factors) <= 2 and 0 <= total <= n:
        indices, gains = _PLACES.new_empty(total), _GAINS.new_empty(total)
        counter = None if progress is None else _Counter("greedy", total, progress)
        if _native(
            factors, similarity, offsets, n, budgets, 0, lam, shifted, center, method, counter, report,
            indices.data_ptr(), 0, gains.data_ptr(),
        ):  # fmt: skip
            return indices, gains
    return _greedy_in_torch(factors, similarity, offsets, budgets, lam, shifted, center, method, progress, report)


def _bins_cpu(
    factors: list[Tensor], similarity: Tensor | None, offsets: Tensor | None, n_bins: int, lam: float,
    shifted: bool, center: bool, method: str, progress: Progress | None = None,
    report: dict[str, Any] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The op `graph_cut_bins` by the native code: one call for all groups and bins."""
    n = (factors[0] if similarity is None else similarity).shape[0]
    if len(factors) <= 2 and n_bins > 0:
        ranking, bin_of, gains = _PLACES.new_empty(n), _PLACES.new_empty(n), _GAINS.new_empty(n)
        counter = None if progress is None else _Counter("bins", n, progress)
        if _native(
            factors, similarity, offsets, n, (), n_bins, lam, shifted, center, method, counter, report,
            ranking.data_ptr(), bin_of.data_ptr(), gains.data_ptr(),
        ):  # fmt: skip
            return ranking, bin_of, gains
    return _bins_in_torch(factors, similarity, offsets, n_bins, lam, shifted, center, method, progress, report)


def _native(
    factors: list[Tensor], similarity: Tensor | None, offsets: Tensor | None, n: int, budgets: Sequence[int],
    n_bins: int, lam: float, shifted: bool, center: bool, method: str, counter: _Counter | None,
    report: dict[str, Any] | None, indices: int, bin_of: int, gains: int,
) -> bool:  # fmt: skip
    """Fill the places at the addresses; False: offsets or sizes are not valid, which the definition in torch explains.

    Either budgets are given, or n_bins > 0 and bin_of. Positional, and few Python objects: a call has 10 microseconds.
    """
    bounds = native_offsets(offsets)
    place, groups = (0, 1) if bounds is None else (bounds.data_ptr(), bounds.shape[0] - 1)
    counts = None if report is None else trace.blank()
    at = 0 if counts is None else counts.data_ptr()
    bad: int
    if similarity is None:
        rows = native_rows(factors)
        bad = _CORE.graph_cut(
            *native_arguments(rows), n, shifted, center, place, groups, budgets, n_bins, lam, METHODS[method],
            torch.get_num_threads(), counter, indices, bin_of, gains, at,
        )  # fmt: skip
        if bad >= 0:
            raise_non_finite(factors, bad)
    else:
        s = similarity if similarity.dtype in (torch.float32, torch.float64) else similarity.float()
        s = s.contiguous()
        bad = _CORE.graph_cut_given(
            s.data_ptr(), s.dtype is torch.float64, n, place, groups, budgets, n_bins, lam, METHODS[method],
            torch.get_num_threads(), counter, indices, bin_of, gains, at,
        )  # fmt: skip
        if bad >= 0:
            raise checks.non_finite("similarity", bad)
    if report is not None and counts is not None and bad != native.INVALID:
        trace.fill(report, counts, n)
    return bad != native.INVALID


def _fake_greedy(
    factors: list[Tensor], similarity: Tensor | None, offsets: Tensor | None, budgets: Sequence[int], lam: float,
    shifted: bool, center: bool, method: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    like = factors[0] if similarity is None else similarity
    total = sum(budgets)
    return like.new_empty(total, dtype=torch.int64), like.new_empty(total, dtype=torch.float64)


def _fake_bins(
    factors: list[Tensor], similarity: Tensor | None, offsets: Tensor | None, n_bins: int, lam: float,
    shifted: bool, center: bool, method: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    like = factors[0] if similarity is None else similarity
    n = like.shape[0]
    whole = like.new_empty(n, dtype=torch.int64)
    return whole, torch.empty_like(whole), like.new_empty(n, dtype=torch.float64)


_SETTINGS = "float lam, bool shifted, bool center, str method"
_INPUTS = "Tensor[] factors, Tensor? similarity, Tensor? offsets"
registry.define(
    f"graph_cut_greedy({_INPUTS}, SymInt[] budgets, {_SETTINGS}) -> (Tensor, Tensor)",
    reference=_greedy_in_torch,
    fake=_fake_greedy,
)
registry.define(
    f"graph_cut_bins({_INPUTS}, int n_bins, {_SETTINGS}) -> (Tensor, Tensor, Tensor)",
    reference=_bins_in_torch,
    fake=_fake_bins,
)
registry.impl("graph_cut_greedy", "cpu", _greedy_cpu, needs="graph_cut", note=NATIVE_NOTE)
registry.impl("graph_cut_bins", "cpu", _bins_cpu, needs="graph_cut", note=NATIVE_NOTE)
_CUDA_NOTE = "products of rows by torch, in float64"
registry.impl("graph_cut_greedy", "cuda", _greedy(graph_cut_cuda.rank), needs="graph_cut_gram", note=_CUDA_NOTE)
registry.impl("graph_cut_bins", "cuda", _binned(graph_cut_cuda.rank), needs="graph_cut_gram", note=_CUDA_NOTE)
