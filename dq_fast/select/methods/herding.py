"""Herding: samples whose mean stays as near as possible to the mean of all.

Welling 2009, "Herding dynamical weights to learn"; as an exemplar choice Rebuffi et al. 2017, "iCaRL: incremental
classifier and representation learning", Algorithm 4: p_k = arg min_x ‖μ − (φ(x) + Σ_{j<k} φ(p_j)) / k‖.
(DeepCore takes the arg max.)
"""

from __future__ import annotations

import numpy as np
import torch

from dq_fast.select.methods.base import Chosen, Counter, Evidence, Method, Picks, first_best
from dq_fast.select.methods.products import DEFAULT_MEMORY, Rows, pick_rows

_TIE = 1e-12  # times n and the largest squared norm: sums this near to each other count as equal


def choose(evidence: Evidence, *, normalised: bool = False, max_memory: int = DEFAULT_MEMORY) -> Chosen:
    """Pick the rows that hold the running mean at the group's mean, exactly.

    With w = k·μ − Σ_{j<k} φ(p_j) the k-th pick has the largest ⟨w, φ(x)⟩ − ‖φ(x)‖²/2 of the rows not picked yet;
    ⟨w, φ(x)⟩ of all rows is kept up to date with one product of the picked row with all. Two factors are their product
    embedding. Sums within 1e-12·n·max‖φ‖² of the best count as equal, and the lowest row wins.

    Time O(n·d) a pick, or O(n² d) once and O(n) a pick where that is quicker and fits. Memory: a float64 copy of a
    group's rows, or all its n² products, where they fit `max_memory` bytes; else O(n).

    Args:
        evidence: embedding, groups and budgets.
        normalised: rows of norm 1, as iCaRL has them, rather than as they are.
        max_memory: bytes to hold beyond the inputs.

    Returns:
        Rows; the score of the k-th is the distance between the mean of the first k and the group's mean.

    Raises:
        InputError: values are not finite.
    """
    return pick_rows(evidence, "herding", _pick, normalised=normalised, max_memory=max_memory)


def _pick(rows: Rows, budget: int, counter: Counter) -> Picks:
    rows.expect(budget)
    norms = rows.squared_norms()
    mean = rows.total() / len(rows)
    to_mean = rows.dot(mean)
    mean_norm = float(mean.square().sum())
    tie = _TIE * len(rows) * float(norms.max())
    pull = to_mean.clone()  # ⟨w, φ(x)⟩
    against = -0.5 * norms  # −∞ for picked rows
    w_norm, w_mean = mean_norm, mean_norm  # ‖w‖² and ⟨w, μ⟩
    order, scores = np.empty(budget, np.int64), np.empty(budget)
    for k in range(budget):
        i = first_best(pull + against, tie)
        order[k] = i
        against[i] = -torch.inf
        w_norm += float(norms[i]) - 2 * float(pull[i])
        w_mean -= float(to_mean[i])
        scores[k] = np.sqrt(max(0.0, w_norm)) / (k + 1)
        w_norm += 2 * w_mean + mean_norm
        w_mean += mean_norm
        pull += to_mean
        pull -= rows.products_of(i)
        counter()
    return Picks(order, scores)


METHODS = (
    Method(
        "herding",
        frozenset({"factors"}),
        True,
        "Welling 2009, Herding dynamical weights to learn; Rebuffi et al. 2017, iCaRL, Algorithm 4",
        choose,
    ),
)
