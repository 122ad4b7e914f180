"""New rows for a fitted quantizer, and rows taken out of it, without starting over (`dq_fast.select.partition`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.progress import Progress
from dq_fast.select.groups import Groups
from dq_fast.select.partition import Change, Partition, Settings, incremental
from dq_fast.select.partition.draft import Rank, rank_as
from dq_fast.select.partition.ids import id_array
from dq_fast.select.quantizer.classes import changed_classes
from dq_fast.select.quantizer.fits import Fit
from dq_fast.select.quantizer.parameters import ALGORITHMS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Changing:
    """`add`, `remove` and `refit` of a `SampleQuantizer`; docs/INCREMENTAL.md says what stays exact."""

    method: Any
    compat: Any
    max_memory: Any
    ranking_: Ints
    bin_of_: Ints
    gains_: Floats
    groups_: Ints
    group_names_: NDArray[Any] | None
    labels_: Ints | None
    classes_: NDArray[Any] | None
    ids_: NDArray[Any]
    partition_: Partition | None

    def add(
        self,
        embedding: Any,
        labels: Any = None,
        ids: Any = None,
        *,
        groups: Any = None,
        mode: str = "append",
        old: Any = None,
        progress: Progress | None = None,
    ) -> Change:
        """Add rows; learned attributes then are those of old and new rows, the new ones last.

        Args:
            embedding: the new rows, as wide as the old ones.
            labels: class of each new row, where `fit` had labels.
            groups: group of each new row, where `fit` had `groups` that are not the classes (and not "all"). Where it
                had no labels, `labels` may give them as well.
            ids: what the new rows are called; None goes on numbering where the rows are numbered.
            mode: "append" puts new rows into the bins by their gain there (needs a fit with ``incremental=True``);
                "refit" ranks the groups that got rows again, and gives what a fit from scratch gives.
            old: for "refit": the embedding of the rows so far, in their order.
            progress: called as ``progress("add", rows placed, rows to place)``.

        Returns:
            What was done, for people by ``str()``; row numbers of the new rows in ``rows``.

        Raises:
            InputError: see `dq_fast.select.partition.incremental.add`.
        """
        now = self._now()
        change = incremental.add(
            now,
            embedding,
            self._groups_of_new(now, labels, groups),
            ids,
            mode=mode,
            old=old,
            rank=self._rank(),
            progress=progress,
        )
        return self._changed(change, labels)

    def remove(
        self,
        ids: Any = None,
        *,
        rows: Any = None,
        embedding: Any = None,
        mode: str = "keep",
        old: Any = None,
        progress: Progress | None = None,
    ) -> Change:
        """Take rows out, by their ids or row numbers; the others keep their order and are numbered anew.

        Args:
            ids: which; or
            rows: their numbers.
            embedding: of the removed rows, where the fit was ``incremental=True`` and `old` is not given.
            mode: "keep" (the others keep their bins) or "refit" (groups that lost rows are ranked again).
            old: for "refit": the embedding of all rows before, in their order.
            progress: called as ``progress("remove", rows ranked, rows to rank)``.

        Raises:
            InputError: see `dq_fast.select.partition.incremental.remove`.
        """
        change = incremental.remove(
            self._now(), ids, rows=rows, embedding=embedding, mode=mode, old=old, rank=self._rank(), progress=progress
        )
        return self._changed(change)

    def refit(self, old: Any, *, progress: Progress | None = None) -> Change:
        """Rank all groups again that got or lost rows since they were ranked: the result of a fit from scratch.

        Args:
            old: embedding of the rows as they are now, in their order.
            progress: as in `add`.
        """
        return self._changed(incremental.refit(self._now(), old, rank=self._rank(), progress=progress))

    def _now(self) -> Partition:
        """The partition as it is: the one kept, or one without sums, for refitting only."""
        if not hasattr(self, "bin_of_"):
            raise InputError("SampleQuantizer must be fitted before rows are added or removed: call fit first")
        if self.method not in ALGORITHMS or self.compat is not None:
            raise InputError(
                f"rows can be added to and removed from this paper's bins, got method {self.method!r}, compat "
                f"{self.compat!r}"
            )
        if self.partition_ is None:
            self.partition_ = self._partition((), Groups.of(self.groups_, len(self.groups_)), None)
        return self.partition_

    def _partition(self, factors: tuple[Tensor, ...], groups: Groups, fitted: Fit | None) -> Partition:
        """The partition of a fit, with the sums that appending needs; without them where there is no fit at hand."""
        numbered = np.array_equal(self.ids_, np.arange(len(self.ids_)))
        if fitted is not None:
            return Partition.of(
                factors,
                groups,
                fitted.ranking,
                fitted.bin_of,
                fitted.gains,
                self._settings(),
                ids=None if numbered else self.ids_,
            )
        count = len(groups) if self.group_names_ is None else len(self.group_names_)
        made = Partition(
            self._settings(),
            np.arange(len(self.ids_)) if numbered else id_array(self.ids_, len(self.ids_)),
            self.groups_,
            self.group_names_,
            self.ranking_,
            self.bin_of_,
            self.gains_,
            np.zeros((count, 2), np.int64),
            len(self.ids_) if numbered else 0,
        )
        made.check()
        return made

    def _rank(self) -> Rank:
        """How changed groups are ranked: as `fit` does."""
        return rank_as(self._settings(), algorithm=ALGORITHMS[self.method], max_memory=self.max_memory)

    def _in_classes(self, now: Partition) -> bool:
        """Whether the groups are the classes."""
        if self.labels_ is None or now.names is None or not np.array_equal(self.labels_, self.groups_):
            return False
        return self.classes_ is None or np.array_equal(self.classes_, now.names)

    def _groups_of_new(self, now: Partition, labels: Any, groups: Any) -> Any:
        """The groups of new rows, from what `add` is given."""
        if self.labels_ is None or self._in_classes(now):
            if labels is not None and groups is not None and labels is not groups:
                raise InputError(
                    "labels or groups must be given, one of them: the rows so far have one column, got both"
                )
            return labels if groups is None else groups
        if now.names is not None and groups is None:
            raise InputError(
                "groups must be given beside labels: the rows so far have classes and other groups, got none"
            )
        return groups

    def _changed(self, change: Change, labels: Any = None) -> Change:
        """Take over what a change left; `labels`: of the added rows."""
        now = change.partition
        classes: tuple[Ints | None, NDArray[Any] | None] = (None, None)
        if self.labels_ is not None and self._in_classes(self._now()):
            classes = now.of_row, now.names
        elif self.labels_ is not None:
            classes = changed_classes(self.labels_, self.classes_, change.origin, labels)
        self._take(Fit(now.ranking, now.bin_of, now.gains, report=change.as_dict()), now.of_row, now.names)
        self.partition_, self.ids_ = now, now.ids
        self.labels_, self.classes_ = classes
        return change

    def _settings(self) -> Settings:
        raise NotImplementedError

    def _take(self, fitted: Fit, groups: Ints, names: NDArray[Any] | None) -> None:
        raise NotImplementedError
