"""The sample-level quantizer: splits a data set into bins of diverse samples, and draws from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.progress import Progress
from dq_fast.select.sampling import draw

Ints = NDArray[np.int64]


class SampleQuantizer:
    """Dataset Quantization's sample level (section 3.2 of the paper), exact.

    Within each class (or over the whole set when no labels are given) the samples are split into `n_bins` bins. Bin
    after bin is picked greedily: the next sample is the one with the largest graph-cut gain
    ``lam * sum over R of s(x, j) - 2 * sum over B of s(x, b)``, R the samples that no earlier bin took, B those already
    in this bin. The last bin is picked greedily too. Ties go to the lowest row.

    Args:
        n_bins: number of bins N, at least 1. The paper finds 10 best; 1 is plain graph cut.
        lam: λ, weight of the first sum. 1 is the official code's.
        shifted: similarity ``1/2 + 1/2 * cos`` (as the official code) rather than the plain cosine.
        center: take the cosines between what tells a sample from the mean of its class.
        method: "auto", "naive", "gram" or "lazy"; all give the same ranking.

    Attributes:
        ranking_: int64 [n], row numbers class after class, within a class bin after bin in pick order.
        bin_of_: int64 [n], the bin of each row.
        gains_: float64 [n], the gain each row was picked with.
        bins_: list of `n_bins` int64 arrays of row numbers, class after class in pick order.
        groups_: int64 [n], the class (as a number from 0, in sorted order of the labels) of each row.
        classes_: the sorted distinct labels, or None where none were given.

    Example:
        >>> sq = SampleQuantizer(n_bins=10).fit(dq_fast.gradient_embedding(logits, features, labels), labels)
        >>> rows = sq.sample(0.6, seed=0)
    """

    def __init__(
        self,
        n_bins: int = 10,
        lam: float = 1.0,
        shifted: bool = True,
        center: bool = False,
        method: str = "auto",
    ) -> None:
        self.n_bins = n_bins
        self.lam = lam
        self.shifted = shifted
        self.center = center
        self.method = method

    def __repr__(self) -> str:
        parameters = ("n_bins", "lam", "shifted", "center", "method")
        return f"SampleQuantizer({', '.join(f'{name}={getattr(self, name)!r}' for name in parameters)})"

    def fit(self, embedding: Any, labels: Any = None, *, progress: Progress | None = None) -> SampleQuantizer:
        """Split the rows of `embedding` into bins.

        Args:
            embedding: tensor or array [n, d], or a tuple of them (factors, as `dq_fast.gradient_embedding` returns).
            labels: class of each row, [n]; None takes the whole set as one group.
            progress: called as ``progress("bins", rows ranked, n)``.

        Raises:
            InputError: shapes or lengths do not fit, values are not finite, or a parameter is out of range.
        """
        if isinstance(self.n_bins, bool) or not isinstance(self.n_bins, (int, np.integer)) or self.n_bins < 1:
            raise InputError(f"n_bins must be a whole number of at least 1, got {self.n_bins!r}")
        factors = tuple(_tensor(f) for f in (embedding if isinstance(embedding, (tuple, list)) else (embedding,)))
        if not factors or any(f.ndim != 2 for f in factors):
            raise InputError(
                f"embedding must be 2-D [n, d] or a tuple of such, got shapes {[tuple(f.shape) for f in factors]}"
            )
        n = factors[0].shape[0]
        if labels is None:
            self.classes_, groups = None, np.zeros(n, np.int64)
            order, offsets = np.arange(n), np.array([0, n])
        else:
            given = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
            if given.shape != (n,):
                raise InputError(f"labels must have one entry a row, shape ({n},), got shape {given.shape}")
            self.classes_, groups = np.unique(given, return_inverse=True)
            groups = groups.astype(np.int64)
            order = np.argsort(groups, kind="stable")  # rows of a class together, in their order: ties stay ties
            offsets = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=len(self.classes_)))])
        if not np.array_equal(order, np.arange(n)):
            take = torch.from_numpy(order)
            factors = tuple(f[take.to(f.device)] for f in factors)
        ranking, bin_of, gains = ops.graph_cut_bins(
            factors if len(factors) > 1 else factors[0],
            int(self.n_bins),
            offsets=torch.from_numpy(offsets),
            lam=self.lam,
            shifted=self.shifted,
            center=self.center,
            method=self.method,
            progress=progress,
        )
        ranked = ranking.cpu().numpy()
        self.ranking_: Ints = order[ranked].astype(np.int64)
        self.bin_of_: Ints = np.empty(n, np.int64)
        self.bin_of_[order] = bin_of.cpu().numpy()
        self.gains_: NDArray[np.float64] = np.empty(n, np.float64)
        self.gains_[order] = gains.cpu().numpy()
        self.groups_: Ints = groups
        self._split()
        return self

    def restore(self, ranking: Ints, bin_of: Ints, gains: NDArray[np.float64], groups: Ints) -> SampleQuantizer:
        """Take over the results of an earlier `fit` (its `ranking_`, `bin_of_`, `gains_`, `groups_`), as saved.

        Raises:
            InputError: the arrays are not the results of one fit with this `n_bins`.
        """
        n = len(ranking)
        whole = all(a.shape == (n,) for a in (bin_of, gains, groups)) and np.array_equal(np.sort(ranking), np.arange(n))
        if not whole or (n and not 0 <= bin_of.min() <= bin_of.max() < self.n_bins):
            raise InputError(f"ranking, bin_of, gains and groups must be one fit's results with {self.n_bins} bins")
        self.classes_ = None
        self.ranking_, self.bin_of_, self.gains_, self.groups_ = ranking, bin_of, gains, groups
        self._split()
        return self

    def _split(self) -> None:
        ranked_bin = self.bin_of_[self.ranking_]
        self.bins_: list[Ints] = [self.ranking_[ranked_bin == k] for k in range(self.n_bins)]

    def sample(self, keep: float, *, seed: int = 0, labels: Any = None) -> Ints:
        """Draw a fraction of the samples, uniformly from every bin.

        Args:
            keep: fraction of the samples, in (0, 1].
            seed: the same seed gives the same samples.
            labels: [n], to balance the draw by; by default the classes that `fit` was given.

        Returns:
            Row numbers, ascending, exactly ``round(keep * n)``. Every bin gives its share, rounded down or up.

        Raises:
            InputError: `keep` out of range, `fit` not called yet, or labels of another length.
        """
        if not hasattr(self, "bin_of_"):
            raise InputError("SampleQuantizer must be fitted before sample(): call fit(embedding, labels) first")
        strata = self.groups_ if labels is None else np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
        return draw(self.bin_of_, strata, keep, n_bins=self.n_bins, seed=seed)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    try:
        return torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"embedding must be numbers, [n, d], got {type(value).__name__}: {error}") from None
