"""What `SampleQuantizer.fit` is given: rows, labels, groups and ids, from numpy, torch, pandas or files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError, InputTypeError
from dq_fast.select.groups import Groups, kmeans_groups
from dq_fast.select.rows import Factors, as_factors

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Beside:
    """What `SampleQuantizer.fit` may be given beside rows and labels, as the user wrote it; its docstring says more.

    Attributes:
        features: [n, D]. logits: [n, C]. Both for methods that need them.
        groups: which rows are chosen among each other: a column [n], "all", or a number of clusters; None: the classes.
        ids: what the rows are called, [n].
    """

    features: Any = None
    logits: Any = None
    groups: Any = None
    ids: Any = None


@dataclass(frozen=True)
class Given:
    """The data of one fit.

    Attributes:
        factors: the rows.
        ids: what the rows are called, [n]: the index of a DataFrame, or the row numbers.
        columns: names of the columns of a DataFrame, or None.
        classes: the rows by label; one group where there are no labels.
        groups: which rows are chosen among each other.
        labels: int64 [n], the number of each row's class (the column of the logits, where there are some), or None.
        features, logits: [n, D] and [n, C], or None.
    """

    factors: Factors
    ids: NDArray[Any]
    columns: NDArray[Any] | None
    classes: Groups
    groups: Groups
    labels: Ints | None
    features: Tensor | None
    logits: Tensor | None

    def __len__(self) -> int:
        return len(self.factors)

    @classmethod
    def of(cls, embedding: Any, labels: Any = None, beside: Beside | None = None, *, seed: int = 0) -> Given:
        """Read the arguments of `SampleQuantizer.fit`.

        Raises:
            InputError: naming the argument, what was expected, and what came.
        """
        beside = beside or Beside()
        factors, groups, ids = read_rows(embedding), beside.groups, beside.ids
        n = len(factors)
        index = getattr(embedding, "index", None) if hasattr(embedding, "columns") else None
        _same_index(index, labels, "labels")
        _same_index(index, groups, "groups")
        if ids is None:
            ids = np.arange(n) if index is None else np.asarray(index)
        ids = np.asarray(ids)
        if ids.shape != (n,):
            raise InputError(f"ids must have one entry a row, shape ({n},), got shape {ids.shape}")
        features = _beside(beside.features, "features", n)
        logits = _beside(beside.logits, "logits", n)
        classes = Groups.of(labels, n)
        return cls(
            factors,
            ids,
            _columns(embedding),
            classes,
            classes if groups is None else _groups(groups, n, factors if features is None else features, seed),
            None if labels is None else _class_numbers(classes, logits),
            features,
            logits,
        )


def read_rows(embedding: Any) -> Factors:
    """The rows of an embedding, at least one of them.

    Raises:
        InputError: not numbers [n, d] with n and d at least 1.
    """
    if isinstance(embedding, list) and embedding and all(_is_row(row) for row in embedding):
        embedding = np.asarray(embedding, np.float64)  # a list of rows; lists of arrays are factors
    if hasattr(embedding, "tocsr"):
        raise InputError("embedding must be dense, got a sparse matrix; give its toarray()")
    dtype = getattr(embedding, "dtype", None)
    if isinstance(embedding, np.ndarray) and embedding.dtype.kind == "O":
        embedding = _unboxed(embedding)
    if isinstance(dtype, np.dtype) and dtype.kind == "c":
        raise InputError(f"embedding must be real numbers, got {dtype}. Complex data not supported")
    shape = getattr(embedding, "shape", None)
    if shape is not None and len(shape) == 2 and shape[1] == 0:
        raise InputError(
            f"embedding must have columns, got 0 feature(s) (shape={tuple(shape)}) while a minimum of 1 is required."
        )
    factors = as_factors(embedding)
    if len(factors) == 0:
        raise InputError("embedding must have at least 1 row, got 0 sample(s)")
    return factors


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(x, (int, float, np.number)) for x in value)


def _unboxed(embedding: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers out of an array of Python objects (a frame of mixed columns, say)."""
    try:
        return np.asarray(embedding, np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"embedding must be numbers, [n, d], got objects: {error}") from None


def _columns(embedding: Any) -> NDArray[Any] | None:
    names = getattr(embedding, "columns", None)
    if names is None or not all(isinstance(name, str) for name in names):
        return None
    return np.asarray(names, dtype=object)


def _same_index(index: Any, column: Any, name: str) -> None:
    """A Series beside a DataFrame goes by position, as everywhere; an index that says otherwise is a mistake."""
    other = getattr(column, "index", None)
    if index is None or other is None or callable(other) or len(index) != len(other):
        return
    if not bool(np.all(np.asarray(index) == np.asarray(other))):
        raise InputError(
            f"{name} must have the index of the embedding, got another; align it first: {name}.loc[embedding.index]"
        )


def _beside(value: Any, name: str, n: int) -> Tensor | None:
    if value is None:
        return None
    try:
        factors = as_factors(value)
    except InputError as error:
        raise InputError(str(error).replace("embedding", name, 1)) from None
    if len(factors.tensors) != 1 or len(factors) != n:
        shapes = [tuple(t.shape) for t in factors.tensors]
        raise InputError(f"{name} must be one array with the {n} rows of the embedding, got shapes {shapes}")
    return factors.tensors[0]


def _groups(groups: Any, n: int, rows: Factors | Tensor, seed: int) -> Groups:
    """Groups from a column, "all" (one group), or a number of clusters."""
    if isinstance(groups, Groups):
        if len(groups.of_row) != n:
            raise InputError(f"groups must have one entry a row, {n}, got {len(groups.of_row)}")
        return groups
    if isinstance(groups, str):
        if groups != "all":
            raise InputError(f"groups must be a column [n], a number of clusters, or 'all', got {groups!r}")
        return Groups.of(None, n)
    if isinstance(groups, (int, np.integer)) and not isinstance(groups, bool):
        if isinstance(rows, Factors):
            if len(rows.tensors) > 1:
                raise InputError(
                    f"features must be given to make clusters of an embedding of factors, got {len(rows.tensors)} "
                    "factors and no features"
                )
            rows = rows.tensors[0]
        return Groups.of(kmeans_groups(rows, int(groups), seed=seed), n)
    try:
        return Groups.of(groups, n)
    except InputError as error:
        raise InputError(str(error).replace("labels", "groups", 1)) from None


def _class_numbers(classes: Groups, logits: Tensor | None) -> Ints:
    """The class of each row as a number: the column of the logits that speaks of it."""
    names = classes.names
    if logits is None or names is None:
        return classes.of_row
    columns = int(logits.shape[1])
    if names.dtype.kind in "iu" and (len(names) == 0 or 0 <= int(names[0]) <= int(names[-1]) < columns):
        return names.astype(np.int64)[classes.of_row]
    if len(names) != columns:
        raise InputError(
            f"logits must have a column for each class, in their sorted order, or labels must be their numbers; got "
            f"{columns} columns and {len(names)} classes"
        )
    return classes.of_row
