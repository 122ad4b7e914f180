"""Cells: the rows that one bin and one class share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Which cell each row is in.

    Attributes:
        cell: int64 [n], bin · strata + stratum.
        sizes: int64 [bins, strata], rows of each cell.
        names: the sorted distinct labels, [strata].
    """

    cell: Ints
    sizes: Ints
    names: NDArray[Any]

    @classmethod
    def of(cls, bin_of: Ints, strata: Any, n_bins: int) -> Cells:
        """Group rows by bin and stratum.

        Raises:
            InputError: the lengths differ, or a bin is not one of 0 to n_bins - 1.
        """
        bin_of, strata = np.asarray(bin_of), np.asarray(strata)
        if bin_of.shape != strata.shape or bin_of.ndim != 1:
            raise InputError(f"labels must have one entry a row, shape {bin_of.shape}, got shape {strata.shape}")
        if bin_of.size and (bin_of.dtype.kind not in "iu" or not 0 <= bin_of.min() <= bin_of.max() < n_bins):
            raise InputError(
                f"bin_of must be whole numbers from 0 to {n_bins - 1}, got {bin_of.min()} to {bin_of.max()}"
            )
        names, stratum = np.unique(strata, return_inverse=True)
        cell = bin_of.astype(np.int64) * len(names) + stratum.reshape(-1)
        sizes = np.bincount(cell, minlength=n_bins * len(names)).reshape(n_bins, len(names))
        return cls(cell.astype(np.int64), sizes.astype(np.int64), names)

    def in_one_bin(self) -> Cells:
        """The same classes with all bins taken as one."""
        return Cells(self.cell % max(1, len(self.names)), self.sizes.sum(0, keepdims=True), self.names)


def of_bins(name: str, values: Any, n_bins: int) -> Floats:
    """`values` as finite float64 >= 0, one a bin.

    Raises:
        InputError: they are not.
    """
    given = _numbers(name, values)
    if given.shape != (n_bins,):
        raise InputError(f"{name} must have one number a bin, {n_bins}, got shape {given.shape}")
    return given


def of_classes(name: str, values: Any, names: NDArray[Any], default: float) -> Floats:
    """`values` as finite float64 >= 0, one a class.

    Args:
        name: of the argument, for messages.
        values: one number for all; an array or list in the sorted order of the labels; or a mapping from label to
            number (classes that it does not name get `default`).
        names: the sorted distinct labels.
        default: see `values`.

    Raises:
        InputError: another number of values than classes, a label that no row has, or a value that is no number >= 0.
    """
    if isinstance(values, Mapping):
        known = names.tolist()
        strangers = [label for label in values if label not in known]
        if strangers:
            raise InputError(f"{name} must name classes that rows have, got {strangers[0]!r}")
        values = [values.get(label, default) for label in known]
    given = _numbers(name, values)
    if given.ndim == 0:
        return np.full(len(names), float(given))
    if given.shape != (len(names),):
        raise InputError(f"{name} must have one number a class, {len(names)}, got shape {given.shape}")
    return given


def _numbers(name: str, values: Any) -> Floats:
    try:
        given = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, got {values!r}") from None
    if not (np.isfinite(given) & (given >= 0)).all():
        raise InputError(f"{name} must be finite numbers >= 0, got {given.reshape(-1)[:8].tolist()}")
    return given
