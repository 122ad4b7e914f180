"""Facility location: samples such that every sample has a similar one among them.

f(S) = Σ_i max_{j ∈ S} s(i, j) (Wei, Iyer and Bilmes 2015, "Submodularity in data subset selection and active learning"
(ICML), on nearest-neighbour classifiers), the gain of x being Σ_i max(0, s(i, x) − max_{j ∈ S} s(i, j)), with maxima
over nothing 0; s = ½ + ½·cos as in the rest of this package.
"""

from __future__ import annotations

from torch import Tensor

from dq_fast.select.methods.base import Chosen, Counter, Evidence, Ints, Method, Picks, by_group
from dq_fast.select.methods.coverage import Coverage
from dq_fast.select.methods.products import DEFAULT_MEMORY, Rows, check_finite


def choose(evidence: Evidence, *, max_memory: int = DEFAULT_MEMORY) -> Chosen:
    """Pick the row with the largest gain, exactly, by lazy evaluation (`coverage`).

    Two factors: cos is the product of the factors' cosines. A zero row has cosine 0 with every row, so s = ½. Gains
    within 1e-12·n of the largest count as equal, and the lowest row wins.

    Time: O(n² d) once for all similarities of a group of n rows, and O(n) for every gain that is looked at. Memory:
    8·n² bytes where that is at most half of `max_memory`; otherwise blocks of 16 MB, computed again when needed, and a
    float64 copy of the rows where it fits.

    Args:
        evidence: embedding, groups and budgets.
        max_memory: bytes to hold beyond the inputs.

    Returns:
        Rows with their gains as scores.

    Raises:
        InputError: values are not finite.
    """
    check_finite(evidence.factors)

    def pick(rows: Ints, budget: int, counter: Counter) -> Picks:
        return _pick(Rows(evidence.factors, rows, normalised=True, max_memory=max_memory), budget, max_memory, counter)

    return by_group(evidence, "facility-location", pick)


def _pick(rows: Rows, budget: int, max_memory: int, counter: Counter) -> Picks:
    def similar(which: Tensor) -> Tensor:
        return rows.products(which).add_(1).mul_(0.5).clamp_(0, 1)

    first = 0.5 * len(rows) + 0.5 * rows.dot(rows.total())  # sums over all rows are linear
    coverage = Coverage(
        similar, len(rows), largest=1.0, max_memory=max_memory, device=rows.device, first=first.clamp_(min=0)
    )
    cover = coverage.greedy(budget, counter)
    return Picks(cover.order, cover.gains)


METHODS = (
    Method(
        "facility-location",
        frozenset({"factors"}),
        True,
        "Wei, Iyer and Bilmes 2015, Submodularity in data subset selection and active learning",
        choose,
    ),
)
