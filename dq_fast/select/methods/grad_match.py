"""GradMatch: samples whose non-negatively weighted gradients sum up to the gradient of all.

Killamsetty et al. 2021, "GRAD-MATCH: gradient matching based data subset selection for efficient deep model training"
(ICML): orthogonal matching pursuit of min over S and w ≥ 0 of λ‖w‖² + ‖Σ_{i ∈ S} w_i g_i − ḡ‖².
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.select.methods.base import Chosen, Counter, Evidence, Ints, Method, Picks, by_group, first_best
from dq_fast.select.methods.gradients import gradient_factors
from dq_fast.select.methods.nnls import GrowingNNLS
from dq_fast.select.methods.products import DEFAULT_MEMORY, Rows

_TIE = 1e-12  # times the largest |⟨g, ḡ⟩|: inner products this near to each other count as equal
_MATCHED = 1e-10  # times the same: an inner product with what is left over that is no larger is none


def choose(
    evidence: Evidence, *, lam: float = 0.5, gradients: str = "auto", max_memory: int = DEFAULT_MEMORY
) -> Chosen:
    """Pick the row whose gradient has the largest inner product with what the picks so far leave over, exactly.

    In each group ḡ is the sum of all gradients. After every pick w is the best non-negative weighting of the picks
    (non-negative least squares, from the solution before); weights may become and stay 0. Once no row's inner product
    is positive nothing lowers the error any more: the rest of the budget is picked by the same inner product, with
    weight 0. Inner products within 1e-12 of the largest of ḡ count as equal, and the lowest row wins.

    Time a pick: O(n·d) (d₁·d₂ with two factors), or O(n·k) with the k picks so far where that is less and their 8·n·k
    bytes fit `max_memory`; and O(k²) a change of the weights that are not 0. Memory: 24·k² bytes, and a float64 copy of
    the rows where it fits.

    Args:
        evidence: embedding, groups and budgets.
        lam: λ ≥ 0, against large weights; in squared units of the gradients. 0.5 is the paper's.
        gradients: what rows' gradients are, see `gradients.gradient_factors`.
        max_memory: bytes to hold beyond the inputs.

    Returns:
        Rows with the inner products they were picked for as scores, and the final weights (of the whole budget)
        for sums over the group: a group's weights approach its size in sum as λ falls.

    Raises:
        InputError: values are not finite, what `gradients` asks for is not given, or λ is negative.
    """
    lam = checks.real("lam", lam, 0.0)
    factors = gradient_factors(evidence, gradients)

    def pick(rows: Ints, budget: int, counter: Counter) -> Picks:
        return _pick(Rows(factors, rows, max_memory=max_memory), budget, lam, max_memory, counter)

    return by_group(evidence, "grad-match", pick, weighted=True)


def _pick(rows: Rows, budget: int, lam: float, max_memory: int, counter: Counter) -> Picks:
    n, device = len(rows), rows.device
    whole = rows.total()
    target = rows.dot(whole)  # ⟨g, ḡ⟩
    largest = float(target.abs().max())
    nnls = GrowingNNLS(budget, lam, _MATCHED * largest, device)
    wide = rows.shape[0] * rows.shape[1]
    kept = None
    if budget < 2 * wide and 8 * n * budget <= max_memory // 4:
        kept = torch.empty((budget, n), dtype=torch.float64, device=device)  # inner products of the picks with all
    order, scores = np.empty(budget, np.int64), np.empty(budget)
    chosen = torch.zeros(budget, dtype=torch.int64, device=device)
    left = target.clone()  # ⟨g, ḡ − Σ w_i g_i⟩; −∞ for picks
    done = False
    for k in range(budget):
        i = first_best(left, _TIE * largest)
        order[k], scores[k], chosen[k] = i, float(left[i]), i
        done = done or scores[k] <= _MATCHED * largest
        if not done:
            products = rows.products_of(i)
            if kept is not None:
                kept[k] = products
            nnls.add(products[chosen[: k + 1]], float(target[i]))
            left = _left(rows, whole, target, kept, chosen, nnls)
            left[chosen[: k + 1]] = -torch.inf
        else:
            left[i] = -torch.inf
        counter()
    weights = np.zeros(budget)
    found = nnls.weights().cpu().numpy()
    weights[: len(found)] = found
    return Picks(order, scores, weights)


def _left(rows: Rows, whole: Tensor, target: Tensor, kept: Tensor | None, chosen: Tensor, nnls: GrowingNNLS) -> Tensor:
    """⟨g, ḡ − Σ w_i g_i⟩ of all rows."""
    if kept is not None:
        w = nnls.weights()
        return torch.addmv(target, kept[: len(w)].T, w, alpha=-1)
    active, w = nnls.active()
    return rows.dot(whole - rows.total(w, chosen[active]))


METHODS = (
    Method(
        "grad-match",
        frozenset({"factors"}),
        True,
        "Killamsetty et al. 2021, GRAD-MATCH, orthogonal matching pursuit",
        choose,
    ),
)
