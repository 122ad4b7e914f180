"""Rows of a product embedding and their inner products, in float64, without forming the product.

With two factors row i is φ_i = b_i ⊗ h_i, d₁·d₂ numbers, of which only b_i and h_i are held:
⟨φ_i, φ_j⟩ = ⟨b_i, b_j⟩·⟨h_i, h_j⟩, and ⟨φ_i, W⟩ = b_iᵀ W h_i for a matrix W [d₁, d₂] such as a sum of rows. With one
factor φ_i = h_i and W is [1, d]. Three and more are made two by multiplying the narrowest out.

Rows keep the type they come in (float32, or less); they become float64 a block at a time, or once where a copy fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.ops.embedding import normalise
from dq_fast.select.methods.base import Chosen, Counter, Evidence, Ints, Picks, by_group

DEFAULT_MEMORY = 1 << 30
"""Bytes a method may hold beyond what it is given, unless told otherwise."""

SAME = 1e-14
"""Rows whose squared distance is less than this part of the sum of their squared norms are the same row, but for
rounding: in float64 a squared distance is not known better than that."""

_BLOCK_NUMBERS = 1 << 21  # numbers of a temporary: 16 MB
_GRAM_SHARE = (
    1 / 16
)  # forming all n² products is one large product of matrices, about 16 times as quick as n small ones


class Rows:
    """Some rows of an embedding: those of one group.

    Args:
        factors: tensors [N, d_k] of all rows.
        index: the n row numbers meant.
        normalised: divide each factor's rows by their norm; zero rows stay zero.
        centred: subtract the mean row, which changes no distance and no difference, and makes them more precise. Only
            one factor is centred; with more this is ignored.
        max_memory: bytes that copies of rows, or all products, may take.
    """

    def __init__(
        self,
        factors: Sequence[Tensor],
        index: Ints,
        *,
        normalised: bool = False,
        centred: bool = False,
        max_memory: int = DEFAULT_MEMORY,
    ) -> None:
        self._factors = sorted(factors, key=lambda f: f.shape[1])
        self._normalised, self._max_memory = normalised, max_memory
        self.device = self._factors[0].device
        self._index = torch.from_numpy(np.ascontiguousarray(index)).to(self.device)
        self._n = len(index)
        self._start = int(index[0]) if self._n and index[-1] - index[0] + 1 == self._n else None
        self._shift: Tensor | None = None
        self._held: tuple[Tensor | None, Tensor] | None = None
        self._gram: Tensor | None = None
        b, h = self._read(slice(0, min(1, self._n)))
        self.shape = (1 if b is None else b.shape[1], h.shape[1])
        self._step = max(1, _BLOCK_NUMBERS // sum(self.shape))
        if centred and len(self._factors) == 1 and self._n:
            self._shift = self.total() / self._n
        if 8 * self._n * sum(self.shape) <= max_memory // 4:
            self._held = self._read(slice(0, self._n))

    def __len__(self) -> int:
        return self._n

    def _read(self, which: slice | Tensor) -> tuple[Tensor | None, Tensor]:
        """Narrow and wide factor of some rows, float64; the narrow one is None where there is one factor."""
        if self._held is not None:
            b, h = self._held
            return None if b is None else b[which], h[which]
        if isinstance(which, slice) and self._start is not None:
            parts = [f[self._start + which.start : self._start + which.stop] for f in self._factors]
        else:
            parts = [f[self._index[which]] for f in self._factors]
        rows = [normalise(x) if self._normalised else x.double() for x in parts]
        while len(rows) > 2:
            first, second = rows.pop(0), rows.pop(0)
            rows.append((first[:, :, None] * second[:, None, :]).flatten(1))
            rows.sort(key=lambda x: x.shape[1])
        wide = rows[-1] if self._shift is None else rows[-1] - self._shift
        return (rows[0] if len(rows) == 2 else None), wide

    def _blocks(self) -> Iterator[tuple[slice, Tensor | None, Tensor]]:
        for begin in range(0, self._n, self._step):
            block = slice(begin, min(begin + self._step, self._n))
            yield block, *self._read(block)

    def squared_norms(self) -> Tensor:
        """‖φ_i‖² [n]."""
        out = torch.empty(self._n, dtype=torch.float64, device=self.device)
        for block, b, h in self._blocks():
            norms = h.square().sum(1)
            out[block] = norms if b is None else norms * b.square().sum(1)
        return out

    def total(self, weights: Tensor | None = None, which: Tensor | None = None) -> Tensor:
        """Σ_i w_i φ_i [d₁, d₂], over the rows `which` (positions [m]) with `weights` [m], or over all with weight 1."""
        if which is not None:
            b, h = self._read(which)
            h = h if weights is None else weights[:, None] * h
            return h.sum(0, keepdim=True) if b is None else b.T @ h
        out = torch.zeros(self.shape, dtype=torch.float64, device=self.device)
        for block, b, h in self._blocks():
            h = h if weights is None else weights[block, None] * h
            out += h.sum(0, keepdim=True) if b is None else b.T @ h
        return out

    def dot(self, w: Tensor) -> Tensor:
        """⟨φ_i, W⟩ [n] for W [d₁, d₂]."""
        out = torch.empty(self._n, dtype=torch.float64, device=self.device)
        for block, b, h in self._blocks():
            out[block] = h @ w[0] if b is None else ((b @ w) * h).sum(1)
        return out

    def products(self, which: Tensor) -> Tensor:
        """⟨φ_i, φ_j⟩ [m, n] of the rows at positions `which` [m] with all."""
        if self._gram is not None:
            return self._gram[which]
        out = torch.empty((len(which), self._n), dtype=torch.float64, device=self.device)
        mine, own = self._read(which)
        for block, b, h in self._blocks():
            part = own @ h.T
            if b is not None and mine is not None:
                part *= mine @ b.T
            if len(h) == self._n:
                return part
            out[:, block] = part
        return out

    def products_of(self, i: int) -> Tensor:
        """⟨φ_i, φ_j⟩ [n] of the row at position i with all; not to be written to."""
        if self._gram is not None:
            return self._gram[i]
        if self._held is not None:
            b, h = self._held
            return h @ h[i] if b is None else (h @ h[i]).mul_(b @ b[i])
        return self.products(torch.tensor([i], device=self.device))[0]

    def expect(self, picks: int) -> None:
        """Form all products [n, n] first where that is quicker for this many `products_of`, and fits."""
        if self._gram is None and picks > self._n * _GRAM_SHARE and 8 * self._n**2 <= self._max_memory // 2:
            gram = torch.empty((self._n, self._n), dtype=torch.float64, device=self.device)
            step = max(1, _BLOCK_NUMBERS // max(1, self._n))
            for begin in range(0, self._n, step):
                block = torch.arange(begin, min(begin + step, self._n), device=self.device)
                gram[begin : begin + step] = self.products(block)
            self._gram = gram

    def squared_distances(self, which: Tensor, norms: Tensor) -> Tensor:
        """‖φ_i − φ_j‖² [m, n] of the rows at positions `which` with all, given all squared norms; 0 for equal rows."""
        return _apart(self.products(which).clone(), norms[which, None], norms)

    def squared_distances_of(self, i: int, norms: Tensor) -> Tensor:
        """‖φ_i − φ_j‖² [n] of the row at position i with all, given all squared norms; 0 for equal rows."""
        return _apart(self.products_of(i).clone(), norms[i], norms)


def _apart(products: Tensor, own: Tensor, norms: Tensor) -> Tensor:
    """Squared distances from inner products, in their place."""
    both = own + norms
    apart = products.mul_(-2).add_(both)
    return apart.masked_fill_(apart < SAME * both, 0.0)


def check_finite(factors: Sequence[Tensor]) -> None:
    """Raise for the first row with a NaN or an infinity.

    Raises:
        InputError: naming the factor and the row.
    """
    for k, x in enumerate(factors):
        name = "embedding" if len(factors) == 1 else f"embedding[{k}]"
        step = max(1, _BLOCK_NUMBERS // x.shape[1])
        for begin in range(0, len(x), step):
            bad = (~torch.isfinite(x[begin : begin + step])).any(dim=1)
            if bool(bad.any()):
                raise checks.non_finite(name, begin + int(bad.nonzero()[0, 0]))


def pick_rows(
    evidence: Evidence, name: str, pick: Callable[[Rows, int, Counter], Picks], *, normalised: bool, max_memory: int
) -> Chosen:
    """Pick in one group after the other, from its centred rows: what geometric methods do.

    Args:
        evidence: embedding, groups and budgets.
        name: of the method, for the progress.
        pick: called as ``pick(rows, budget, counter)`` with a group's rows where the budget is not 0; see `by_group`.
        normalised: rows of norm 1.
        max_memory: see `Rows`.

    Raises:
        InputError: values are not finite.
    """
    check_finite(evidence.factors)

    def of_group(rows: Ints, budget: int, counter: Counter) -> Picks:
        held = Rows(evidence.factors, rows, normalised=normalised, centred=True, max_memory=max_memory)
        return pick(held, budget, counter)

    return by_group(evidence, name, of_group)
