"""Groups: which rows are chosen among each other. A class, any other column, clusters, or one group of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError, missing_extra

Ints = NDArray[np.int64]

# k-means is fitted on a sample of this many rows a cluster (at least _FIT_ROWS), then every row goes to its nearest
# centre: more rows a cluster hardly move a centre, and the data are read once, in order.
_FIT_ROWS_A_CLUSTER = 256
_FIT_ROWS = 16_384
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Groups:
    """The rows in order of their groups.

    Attributes:
        order: int64 [n], row numbers, group after group, ascending within a group (so that ties stay ties).
        offsets: int64 [groups + 1]; group k is ``order[offsets[k]:offsets[k + 1]]``.
        names: what each group is called, the sorted distinct labels [groups], or None for one group of everything.
        of_row: int64 [n], the group's number of every row.
    """

    order: Ints
    offsets: Ints
    names: NDArray[Any] | None
    of_row: Ints

    @classmethod
    def of(cls, labels: Any, n: int) -> Groups:
        """Group `n` rows by their label.

        Args:
            labels: [n], one label a row: numpy array, list, tensor, pandas Series or Categorical; whole numbers,
                strings, anything that can be sorted. None: one group of all rows.
            n: number of rows.

        Raises:
            InputError: another number of labels than rows, labels that are missing (None, NaN) or cannot be sorted.
        """
        if labels is None:
            return cls(np.arange(n), np.array([0, n]), None, np.zeros(n, np.int64))
        given = label_array(labels, n)
        try:
            names, of_row = np.unique(given, return_inverse=True)
        except TypeError:
            kinds = sorted({type(value).__name__ for value in given.tolist()})
            raise InputError(f"labels must be of one kind that can be sorted, got {' and '.join(kinds)}") from None
        if names.dtype == object and all(isinstance(name, str) for name in names):
            names = names.astype(str)  # so that they can be saved without pickle
        of_row = of_row.reshape(-1).astype(np.int64)
        counts = np.bincount(of_row, minlength=len(names))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(np.argsort(of_row, kind="stable").astype(np.int64), offsets, names, of_row)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> Ints:
        """Rows in each group, int64 [groups]."""
        return np.diff(self.offsets)

    @property
    def in_order(self) -> bool:
        """Whether the rows lie group after group already, so that nothing has to be moved."""
        return bool(np.all(self.order[1:] > self.order[:-1]))

    def rows(self, k: int) -> Ints:
        """Row numbers of group `k`, ascending."""
        return self.order[self.offsets[k] : self.offsets[k + 1]]


def label_array(labels: Any, n: int) -> NDArray[Any]:
    """`labels` as a numpy array [n] without missing values.

    Raises:
        InputError: they are not one a row, or some are missing.
    """
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    try:
        given = np.asarray(labels)
    except ValueError as error:  # ragged lists
        raise InputError(f"labels must have one entry a row, shape ({n},), got {error}") from None
    if given.shape != (n,):
        raise InputError(f"labels must have one entry a row, shape ({n},), got shape {given.shape}")
    if isinstance(labels, (list, tuple)) and given.dtype.kind in "US":
        given = np.array(labels, dtype=object)  # numpy writes a NaN among strings as the string "nan"
    missing = _missing(given)
    if missing.any():
        at = np.flatnonzero(missing)
        raise InputError(
            f"labels must be given for every row, got none for {len(at)} of {n} rows, the first of them row {at[0]}; "
            "leave those rows out, or give them a label of their own"
        )
    return given


def _missing(given: NDArray[Any]) -> NDArray[np.bool_]:
    if given.dtype.kind in "fcmM":
        return np.asarray(np.isnan(given) if given.dtype.kind in "fc" else np.isnat(given))
    if given.dtype == object:  # None, and what does not equal itself: NaN. pandas' NA compares to NA, which is no bool
        return np.array([v is None or type(v).__name__ == "NAType" or bool(v != v) for v in given.tolist()], bool)
    return np.zeros(given.shape, bool)


def kmeans_groups(embedding: Any, k: int, *, seed: int = 0) -> Ints:
    """Group rows by k-means of their directions (spherical in effect: the rows are normalised), for unlabeled data.

    Args:
        embedding: [n, d], tensor or array (features; memory-mapped ones are read in blocks).
        k: number of clusters, 1 to n.
        seed: the same seed gives the same groups.

    Returns:
        int64 [n], the cluster of each row, 0 to k - 1. A cluster may end up without rows.

    Raises:
        InputError: `k` out of range, `embedding` not 2-D, or scikit-learn not installed.

    Source:
        scikit-learn's MiniBatchKMeans (Sculley 2010, "Web-scale k-means clustering"), fitted on a sample.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise missing_extra("scikit-learn", "sklearn", "grouping by k-means") from None
    rows = embedding.detach().cpu() if isinstance(embedding, Tensor) else torch.as_tensor(embedding)
    if rows.ndim != 2:
        raise InputError(f"embedding must be 2-D [n, d] for k-means, got shape {tuple(rows.shape)}")
    n = len(rows)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= n:
        raise InputError(f"k must be a whole number from 1 to the number of rows, {n}, got {k!r}")
    sample = np.arange(n)
    wanted = max(_FIT_ROWS, _FIT_ROWS_A_CLUSTER * int(k))
    if n > wanted:
        sample = np.sort(np.random.Generator(np.random.PCG64(seed)).choice(n, wanted, replace=False))
    model = MiniBatchKMeans(int(k), random_state=seed, n_init=3, batch_size=4096)
    model.fit(_directions(rows[torch.from_numpy(sample)]))
    block = max(1, _BLOCK_BYTES // max(1, 4 * rows.shape[1]))
    found = [model.predict(_directions(rows[start : start + block])) for start in range(0, n, block)]
    return np.concatenate(found).astype(np.int64)


def _directions(rows: Tensor) -> NDArray[np.float32]:
    return np.asarray(torch.nn.functional.normalize(rows.float(), dim=1).numpy(), np.float32)
