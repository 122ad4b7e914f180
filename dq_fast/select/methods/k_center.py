"""k-center greedy: samples that leave no sample far from all of them.

Sener and Savarese 2018, "Active learning for convolutional neural networks: a core-set approach" (ICLR), section 4.3,
Algorithm 1 (farthest-first traversal, Gonzalez 1985): u = arg max_x min_{b ∈ B} Δ(x, b), Δ the Euclidean distance. Its
largest distance is at most twice the smallest possible.
"""

from __future__ import annotations

import numpy as np
import torch

from dq_fast.select.methods.base import Chosen, Counter, Evidence, Method, Picks, first_best
from dq_fast.select.methods.products import DEFAULT_MEMORY, Rows, pick_rows

_TIE = 1e-12  # times the largest squared norm: squared distances this near to each other count as equal


def choose(evidence: Evidence, *, normalised: bool = False, max_memory: int = DEFAULT_MEMORY) -> Chosen:
    """Pick the row that is farthest from the rows picked so far, exactly.

    The paper starts from a labelled pool; here the first pick of a group is the row nearest its mean. Two factors are
    their product embedding. Squared distances within 1e-12 times the group's largest squared norm (from its mean, with
    one factor) of the largest count as equal, and the lowest row wins. Repeated rows come last, in row order.

    Time O(n·d) a pick, or O(n² d) once and O(n) a pick where that is quicker and fits. Memory: a float64 copy of a
    group's rows, or all its n² products, where they fit `max_memory` bytes; else O(n).

    Args:
        evidence: embedding, groups and budgets.
        normalised: distances between rows of norm 1, rather than between rows as they are.
        max_memory: bytes to hold beyond the inputs.

    Returns:
        Rows; the score is the distance to the nearest earlier pick, which with all picks is how far any row is at most.
        The first pick's is its distance to the mean.

    Raises:
        InputError: values are not finite.
    """
    return pick_rows(evidence, "k-center", _pick, normalised=normalised, max_memory=max_memory)


def _pick(rows: Rows, budget: int, counter: Counter) -> Picks:
    rows.expect(budget)
    norms = rows.squared_norms()
    mean = rows.total() / len(rows)
    tie = _TIE * float(norms.max())
    to_mean = (norms - 2 * rows.dot(mean) + mean.square().sum()).clamp_(min=0)
    order, scores = np.empty(budget, np.int64), np.empty(budget)
    i = first_best(-to_mean, tie)
    order[0], scores[0] = i, float(to_mean[i])
    counter()
    apart = rows.squared_distances_of(i, norms)  # to the nearest pick; −∞ for picks
    apart[i] = -torch.inf
    for k in range(1, budget):
        i = first_best(apart, tie)
        order[k], scores[k] = i, float(apart[i])
        apart = apart.minimum(rows.squared_distances_of(i, norms))
        apart[i] = -torch.inf
        counter()
    return Picks(order, np.sqrt(scores))


METHODS = (
    Method(
        "k-center",
        frozenset({"factors"}),
        True,
        "Sener and Savarese 2018, Active learning for convolutional neural networks, Algorithm 1",
        choose,
    ),
)
