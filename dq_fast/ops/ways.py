"""In which way groups will be ranked, before any work: what the code that serves would begin with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, repeat

from dq_fast.ops import graph_cut_torch, native, trace
from dq_fast.ops.graph_cut import METHODS


def expected_ways(
    widths: Sequence[int], sizes: Sequence[int], n_bins: int, *, center: bool, method: str, looseness: float = 0.0
) -> dict[str, int] | None:
    """How many groups `graph_cut_bins` ranks in which way on a CPU, by the native code's own costs.

    Args:
        widths: numbers a row in each factor, one or two.
        sizes: rows of each group.
        n_bins: bins a group.
        center: as for `graph_cut_bins`.
        method: likewise.
        looseness: share of some rows' squares that 16 directions do not explain, 0 to 1; it matters only where "lazy"
            comes out with 0.

    Returns:
        Numbers of groups for "naive", "gram" and "lazy", as `graph_cut_bins` reports them; None where there is no
        native module, or one built before it could tell. Bounds that turn out worse than `looseness` says are
        given up during the work, and centred rows very near their mean are treated with more care: not foreseen.
    """
    tell = getattr(native.find("cpu")[0], "graph_cut_ways", None)
    if tell is None:
        return None
    wide, narrow = max(widths), min(widths) if len(widths) == 2 else 1
    offsets = [0, *accumulate(sizes)]
    counts = tell(wide, narrow, len(widths) == 2, center, offsets, n_bins, METHODS[method], looseness)
    return dict(zip(trace.WAYS, counts, strict=True))


def ways_in_torch(sizes: Sequence[int], method: str) -> dict[str, int]:
    """The same for the definition in torch."""
    ways = list(map(graph_cut_torch.way, sizes, repeat(method)))
    return {way: ways.count(way) for way in trace.WAYS}
