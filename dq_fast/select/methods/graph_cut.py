"""Graph cut once: the greedy choice without bins (N = 1)."""

from __future__ import annotations

import torch

from dq_fast import ops
from dq_fast.select.methods.base import Chosen, Evidence, Method


def choose(
    evidence: Evidence, *, lam: float = 1.0, shifted: bool = True, center: bool = False, algorithm: str = "auto"
) -> Chosen:
    """Pick each group's budget by the graph-cut gain, as one bin.

    gain(x) = λ·Σ_{j ∈ R} s(x, j) − 2·Σ_{b ∈ B} s(x, b), R the whole group and B the picks so far (Iyer et al. 2021,
    "Submodular combinatorial information measures with applications in machine learning" (ALT), on graph cut; the
    factors are those of the published Dataset Quantization code).
    Exact greedy by `dq_fast.ops.graph_cut_greedy`, which tells time and memory: about O(n·d) for a bin of passes.

    Args:
        evidence: embedding, groups and budgets.
        lam: λ, weight of the first sum.
        shifted: similarity ½ + ½·cos rather than the cosine.
        center: cosines between what tells a row from its group's mean.
        algorithm: "naive", "gram", "lazy" or "auto"; all give the same rows.

    Returns:
        Rows with their gains as scores.
    """
    order = evidence.groups.order
    factors = evidence.factors
    if not evidence.groups.in_order:
        take = torch.from_numpy(order)
        factors = tuple(f[take.to(f.device)] for f in factors)
    indices, gains = ops.graph_cut_greedy(
        factors,
        [int(b) for b in evidence.budgets],
        offsets=torch.from_numpy(evidence.groups.offsets),
        lam=lam,
        shifted=shifted,
        center=center,
        method=algorithm,
        progress=evidence.progress,
    )
    return Chosen(order[indices.cpu().numpy()], gains.cpu().numpy())


METHODS = (
    Method(
        "graph-cut",
        frozenset({"factors"}),
        True,
        "Iyer et al. 2021, Submodular combinatorial information measures, graph cut; Dataset Quantization with N = 1",
        choose,
    ),
)
