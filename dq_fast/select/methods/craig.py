"""CRAIG: samples whose weighted gradients stand for the gradients of all.

Mirzasoleiman, Bilmes and Leskovec 2020, "Coresets for data-efficient training of machine learning models" (ICML):
facility location on gradient distances, F(S) = L({s₀}) − L(S ∪ {s₀}) with L(S) = Σ_i min_{j ∈ S} d_ij (Eqs. 8 and 11 of
its earlier version, "Coresets for accelerating incremental gradient methods"), greedily, and as weight of each pick the
number of samples that are nearest to it (Algorithm 1 there, lines 3 and 9).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from dq_fast.select.methods.base import Chosen, Counter, Evidence, Ints, Method, Picks, by_group
from dq_fast.select.methods.coverage import Coverage
from dq_fast.select.methods.gradients import gradient_factors
from dq_fast.select.methods.products import DEFAULT_MEMORY, Rows


def choose(evidence: Evidence, *, gradients: str = "auto", max_memory: int = DEFAULT_MEMORY) -> Chosen:
    """Pick greedily by how much nearer to its nearest pick a row brings all rows of its group, exactly.

    F(S) = Σ_i (d₀ − min_{j ∈ S} ‖g_i − g_j‖), whose gain is Σ_i max(0, min_{j ∈ S} d_ij − d_ix); the distance to no
    pick at all is d₀, twice the largest distance from the group's mean, which is no less than any distance and decides
    nothing but the first gain's size. Gains within 1e-12·n·d₀ of the largest count as equal, and the lowest row wins.

    Time and memory are facility location's: O(n² d) once, and O(n) for every gain looked at; 8·n² bytes where that is
    at most half of `max_memory`, otherwise blocks of 16 MB.

    Args:
        evidence: embedding, groups and budgets.
        gradients: what rows' gradients are, see `gradients.gradient_factors`.
        max_memory: bytes to hold beyond the inputs.

    Returns:
        Rows with their gains as scores; weights: the number of the group's rows nearest to each pick, itself included
        (of equally near ones the earliest pick); they sum to the group's size.

    Raises:
        InputError: values are not finite, or what `gradients` asks for is not given.
    """
    factors = gradient_factors(evidence, gradients)

    def pick(rows: Ints, budget: int, counter: Counter) -> Picks:
        return _pick(Rows(factors, rows, centred=True, max_memory=max_memory), budget, max_memory, counter)

    return by_group(evidence, "craig", pick, weighted=True)


def _pick(rows: Rows, budget: int, max_memory: int, counter: Counter) -> Picks:
    norms = rows.squared_norms()
    mean = rows.total() / len(rows)
    to_mean = (norms - 2 * rows.dot(mean) + mean.square().sum()).clamp_(min=0).sqrt()
    farthest = 2 * float(to_mean.max())

    def similar(which: Tensor) -> Tensor:
        return rows.squared_distances(which, norms).sqrt_().neg_().add_(farthest).clamp_(min=0)

    coverage = Coverage(similar, len(rows), largest=farthest, max_memory=max_memory, device=rows.device)
    cover = coverage.greedy(budget, counter)
    return Picks(cover.order, cover.gains, np.bincount(cover.nearest, minlength=budget).astype(np.float64))


METHODS = (
    Method(
        "craig",
        frozenset({"factors"}),
        True,
        "Mirzasoleiman, Bilmes and Leskovec 2020, Coresets for data-efficient training, the CRAIG algorithm",
        choose,
    ),
)
