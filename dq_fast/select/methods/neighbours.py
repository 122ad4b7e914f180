"""Exact nearest neighbours in feature space, in blocks.

Distances are sifted in float32 (one matrix product a block of queries) and decided in float64: a row is left out only
where its float32 distance, less the error that it can have, is larger than the k-th exact one.
O(n m D) time, O(block * m) memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.select.methods.base import Ints
from dq_fast.select.methods.scores import in_blocks

_SPARE = 8
"""Candidates beyond the k nearest that are looked at exactly: neighbours as near as rounding are rarely more."""

_CELL = 64
"""Distances that are first represented by their smallest, so that the k smallest are not sought among all m."""

_BLOCK_NUMBERS = 1 << 22  # distances of a block, float32: 16 MB
_ROUNDING = 2.0**-23
"""Twice float32's relative rounding error: also pays for the rounding of the inputs and of the lengths."""


def nearest(features: Tensor, k: int, among: Tensor | None = None) -> Ints:
    """The k nearest rows in Euclidean distance, nearest first; among equally near ones the lowest row.

    Args:
        features: [n, D], finite.
        k: at least 0; where there are fewer rows, all of them.
        among: [m, D], finite, the rows to look among; None: the other rows of `features`, a row never being its own
            neighbour.

    Returns:
        Row numbers of `among` (or `features`), int64 [n, min(k, rows to look among)].

    Raises:
        InputError: widths differ, or a number is not finite.
    """
    itself = among is None
    others = features if among is None else among
    if others.ndim != 2 or others.shape[1] != features.shape[1]:
        raise checks.bad("among", f"2-D and {features.shape[1]} wide like features", checks.shape_of(others))
    k = min(checks.integer("k", k, 0), max(0, len(others) - itself))
    if k == 0 or len(features) == 0:
        return torch.empty(len(features), k, dtype=torch.int64).numpy()
    centre = in_blocks(lambda x: x.sum(0, keepdim=True), others, name="features").sum(0) / len(others)
    size = max(
        float(in_blocks(lambda x: (x - centre).abs().amax(1), rows, name="features").max())
        for rows in (features, others)
    )
    scale = math.ldexp(1.0, -math.frexp(size)[1])  # a power of two: rounds nothing, equal distances stay equal
    padded = torch.zeros(-(-len(others) // _CELL) * _CELL, others.shape[1])
    padded[: len(others)] = _single(others, centre, scale)
    lengths = torch.full((len(padded),), torch.inf)
    lengths[: len(others)] = padded[: len(others)].double().square().sum(1)
    step = max(1, _BLOCK_NUMBERS // len(padded))
    found = []
    for start in range(0, len(features), step):
        queries = features[start : start + step].double()
        block = torch.addmm(lengths, _single(queries, centre, scale), padded.T, alpha=-2)
        if itself:
            block.diagonal(start).fill_(torch.inf)
        found.append(_decide(block, queries, others, k, centre, scale, float(lengths[: len(others)].max()) ** 0.5))
    return torch.cat(found).numpy()


def _single(x: Tensor, centre: Tensor, scale: float) -> Tensor:
    return ((x.double() - centre) * scale).float()


def _decide(
    block: Tensor, queries: Tensor, others: Tensor, k: int, centre: Tensor, scale: float, longest: float
) -> Tensor:
    """The k nearest [b, k] of queries [b, D] among others [m, D].

    Args:
        block: float32 [b, cells * _CELL], squared distances less the query's squared length, scaled; inf: not a row.
        queries: float64, plain.
        others: plain.
        k: 1 to the number of rows to look among.
        centre: subtracted from both before the product.
        scale: both were multiplied with it.
        longest: the largest length of a scaled row of others.
    """
    candidates, cutoff = _smallest(block, k + _SPARE)
    exact = _distances(queries, others, candidates, scale)
    exact, order = exact.sort(dim=1, stable=True)
    chosen = candidates.gather(1, order)[:, :k]
    length = ((queries - centre) * scale).square().sum(1)
    error = _ROUNDING * ((queries.shape[1] + 4) * 2 * length.sqrt() * longest + longest**2)
    kth = exact[:, k - 1] - length + error
    for row in (cutoff <= kth).nonzero()[:, 0].tolist():  # rounding could have hidden a neighbour: look at all so near
        near = (block[row] <= kth[row]).nonzero()[:, 0]
        order = _distances(queries[row : row + 1], others, near[None], scale)[0].sort(stable=True).indices
        chosen[row] = near[order[:k]]
    return chosen


def _smallest(block: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where the `count` smallest finite numbers of each row stand, ascending, and what all others are no smaller than.

    Fewer finite numbers than `count`: all of them, and positions of others, which are inf.
    """
    cells = block.view(len(block), -1, _CELL)
    lowest, cell = cells.amin(2).topk(min(count + 1, cells.shape[1]), dim=1, largest=False)
    cutoff = torch.full((len(block),), torch.inf)
    if lowest.shape[1] > count:
        cutoff, cell = lowest[:, count], cell[:, :count]
    inside = cells.gather(1, cell[:, :, None].expand(-1, -1, _CELL)).flatten(1)
    position = (cell[:, :, None] * _CELL + torch.arange(_CELL)).flatten(1)
    values, at = inside.topk(min(count + 1, inside.shape[1]), dim=1, largest=False)
    if values.shape[1] > count:
        cutoff, at = torch.minimum(cutoff, values[:, count]), at[:, :count]
    return position.gather(1, at).sort(dim=1).values, cutoff


def _distances(queries: Tensor, others: Tensor, candidates: Tensor, scale: float) -> Tensor:
    """Squared distances, scaled, of queries [b, D] from candidates [b, c] (rows of others); inf where not a row."""
    real = candidates < len(others)
    rows = others[candidates.clamp(max=len(others) - 1)].double()
    distance = ((rows - queries[:, None, :]) * scale).square().sum(2)
    return torch.where(real, distance, torch.inf)
