"""The ops as ways: native code through the public function, and the definitions in torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dq_fast import ops
from dq_fast.bench import torch_forms
from dq_fast.bench.case import Call, Way
from dq_fast.bench.judge import bin_sizes
from dq_fast.ops import registry


@dataclass
class Rows:
    """Inputs of the row sums and of the graph-cut ops.

    Attributes:
        factors: float [n, d_k] each, group after group.
        offsets: int64 [groups + 1].
        n_bins: bins of every group; 0 where budgets are asked for.
        budget: rows to pick of every group.
        center: see the ops.
    """

    factors: list[Tensor]
    offsets: Tensor
    n_bins: int = 0
    budget: int = 0
    center: bool = False

    @property
    def embedding(self) -> Any:
        """As the public functions take it."""
        return self.factors[0] if len(self.factors) == 1 else tuple(self.factors)

    @property
    def bounds(self) -> list[int]:
        """Offsets as numbers."""
        return [int(x) for x in self.offsets.tolist()]

    @property
    def sizes(self) -> list[list[int]]:
        """Of every group, its bins' sizes, or its budget."""
        if not self.n_bins:
            return [[self.budget] for _ in self.bounds[1:]]
        return [bin_sizes(j - i, self.n_bins) for i, j in pairwise(self.bounds)]

    @property
    def bytes(self) -> int:
        """Of the factors."""
        return sum(x.numel() * x.element_size() for x in self.factors)

    def to(self, device: torch.device) -> Rows:
        """The factors on a device; the offsets stay on the host."""
        return replace(self, factors=[x.to(device) for x in self.factors])


def row_sums(p: Rows) -> Call:
    """The public function."""
    return lambda: ops.cosine_row_sums(p.embedding, offsets=p.offsets, center=p.center)


def row_sums_torch(p: Rows) -> Call:
    """The definition."""
    definition = registry.reference("cosine_row_sums")
    return lambda: definition(p.factors, p.offsets, True, p.center)


def bins(method: str) -> Way:
    """`graph_cut_bins` by a method."""
    return lambda p: (
        lambda: ops.graph_cut_bins(p.embedding, p.n_bins, offsets=p.offsets, center=p.center, method=method)
    )


def bins_float32(p: Rows) -> Call:
    """`graph_cut_bins` from float32 similarities."""
    call = bins("gram")(p)

    def in_float32() -> Any:
        with ops.similarity_precision("float32"):
            return call()

    return in_float32


def bins_torch(p: Rows) -> Call:
    """The definition of `graph_cut_bins`."""
    definition = registry.reference("graph_cut_bins")
    return lambda: definition(p.factors, None, p.offsets, p.n_bins, 1.0, True, p.center, "auto")


def greedy(method: str) -> Way:
    """`graph_cut_greedy` by a method."""
    return lambda p: (
        lambda: ops.graph_cut_greedy(p.embedding, p.budget, offsets=p.offsets, center=p.center, method=method)
    )


def greedy_torch(p: Rows) -> Call:
    """The definition of `graph_cut_greedy`."""
    definition = registry.reference("graph_cut_greedy")
    budgets = [p.budget] * (len(p.bounds) - 1)
    return lambda: definition(p.factors, None, p.offsets, budgets, 1.0, True, p.center, "auto")


def gram(p: Rows) -> Call:
    """A user's matrix and loop."""
    return lambda: torch_forms.gram_bins(p.factors, p.bounds, p.sizes)


def incremental(p: Rows) -> Call:
    """A user's loop without a matrix."""
    return lambda: torch_forms.incremental_bins(p.factors, p.bounds, p.sizes)


class Matrices:
    """Only the forming of every group's similarity matrix: the rows normalised and the memory there before."""

    def __init__(self, p: Rows) -> None:
        self.bounds = p.bounds
        self.rows = [torch.nn.functional.normalize(x, dim=1) for x in p.factors]
        largest = max(j - i for i, j in pairwise(self.bounds))
        self.out = self.rows[0].new_empty(largest * largest)
        self.spare = self.rows[0].new_empty(largest * largest if len(self.rows) > 1 else 0)

    def __call__(self) -> list[Tensor]:
        """First row of each matrix, by which it is checked."""
        first = []
        for i, j in pairwise(self.bounds):
            n = j - i
            out = self.out[: n * n].view(n, n)
            spare = self.spare[: n * n].view(n, n) if len(self.rows) > 1 else self.spare
            torch_forms.similarity_into([x[i:j] for x in self.rows], out, spare)
            first.append(out[0].clone())
        return first


METHODS = {"native": "auto", "native-gram": "gram", "native-lazy": "lazy", "native-naive": "naive"}
