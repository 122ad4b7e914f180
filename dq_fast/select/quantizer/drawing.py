"""Draws from a fitted quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.select.groups import label_array
from dq_fast.select.methods import METHODS
from dq_fast.select.official import official_sample
from dq_fast.select.quantizer.parameters import ALGORITHMS
from dq_fast.select.samplers import draw

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Drawing:
    """`sample` of a `SampleQuantizer`."""

    method: Any
    sampler: Any
    compat: Any
    max_keep: Any
    ranking_: Ints
    bin_of_: Ints
    gains_: Floats
    groups_: Ints
    labels_: Ints | None
    ids_: NDArray[Any]
    bins_: list[Ints]

    def sample(
        self,
        keep: float,
        *,
        seed: int = 0,
        labels: Any = None,
        sampler: str | None = None,
        nested: bool = False,
        as_ids: bool = False,
        **more: Any,
    ) -> NDArray[Any]:
        """Draw a fraction of the samples: uniformly from every bin, or as `sampler` says.

        Args:
            keep: fraction of the samples, in (0, 1].
            seed: the same seed gives the same samples.
            labels: [n], to balance the draw by; by default the classes that `fit` was given (for other methods than
                this paper's: the groups that they chose in).
            sampler: see `dq_fast.select.draw`; None: the quantizer's own.
            nested: a smaller keep's samples are a subset of a larger one's.
            as_ids: return the ids of the samples (`ids_`), not their row numbers.
            **more: further parameters of `dq_fast.select.draw`: bin_weights, class_weights, floor, ….

        Returns:
            Row numbers, ascending, exactly ``round(keep * n)``. Every bin gives its share, rounded down or up. With
            compat "official": as many and in the order that the official code draws them.

        Raises:
            InputError: `keep` out of range, `fit` not called yet, or labels of another length.
        """
        if not hasattr(self, "bin_of_"):
            raise InputError("SampleQuantizer must be fitted before sample(): call fit(embedding, labels) first")
        n, ours = len(self.bin_of_), self.method in ALGORITHMS
        if labels is not None:
            strata = label_array(labels, n)
        else:
            strata = self.labels_ if ours and self.labels_ is not None else self.groups_
        if self.compat == "official":
            return self._official(keep, seed, strata, as_ids, sampler=sampler, nested=nested, **more)
        if not ours:
            self._check_depth(keep)
            if sampler not in (None, "first"):
                raise InputError(f"sampler must be 'first' for the ranking of method {self.method!r}, got {sampler!r}")
        how = sampler if sampler is not None else self.sampler if ours else "first"
        rows = draw(
            np.maximum(self.bin_of_, 0),
            strata,
            keep,
            n_bins=len(self.bins_),
            seed=seed,
            sampler=how,
            gains=self.gains_ if how == "gain" else None,
            ranking=self.ranking_ if how == "first" else None,
            nested=nested,
            **more,
        )
        return self.ids_[rows] if as_ids else rows

    def _official(self, keep: float, seed: int, strata: NDArray[Any], as_ids: bool, **others: Any) -> NDArray[Any]:
        """The official code's draw, in the order of its file."""
        for name, value in others.items():
            if value not in (None, False) and (name, value) != ("sampler", "uniform"):
                raise InputError(f"{name} must not be given with compat 'official', got {value!r}")
        rows = official_sample(self.bins_, strata, keep, seed=seed)
        return self.ids_[rows] if as_ids else rows

    def _check_depth(self, keep: Any) -> None:
        """Refuse draws that another method's ranking does not reach, or that would not be its choice."""
        if not isinstance(keep, (int, float)) or keep > self.max_keep + 1e-9:
            raise InputError(
                f"keep must be at most max_keep, {self.max_keep}, got {keep!r}; fit with a larger max_keep"
            )
        if not METHODS[self.method].nested and keep < self.max_keep - 1e-9:
            raise InputError(
                f"keep must be max_keep, {self.max_keep}, for method {self.method!r}, whose choice depends on how many "
                f"are chosen, got {keep!r}; fit with max_keep={keep!r}"
            )
