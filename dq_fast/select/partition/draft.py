"""The rows of a partition while it changes: who stays, who comes, and the bins as they become known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.ops.embedding import Group
from dq_fast.select.groups import Groups, label_array
from dq_fast.select.partition.partition import Partition, Settings
from dq_fast.select.plan import plan_bins
from dq_fast.select.ranking import rank_bins
from dq_fast.select.rows import Factors

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Rank = Callable[[tuple[Tensor, ...], Groups], tuple[Ints, Ints, Floats]]
"""Ranks rows by groups: (factors, groups) to ranking, bin_of (by row) and gains (by row), as `rank_bins` has them."""


class Draft:
    """A partition between two states. Rows that stay come first, in their order, then the added ones.

    Args:
        before: the partition that changes; it is not written to.
        gone: its rows that are taken out.
        new_ids: ids of the added rows. labels: their groups' labels.

    Attributes:
        origin: the row every row was before, -1 for added ones. stayed: how many were there before.
        added: numbers of the added rows.
        names, of_row: the groups as they will be. Groups without rows vanish (but for the one of everything).
        group_before: old number of every group, -1 for a new one. group_now: new number of every old one, or -1.
        changed: rows appended and removed since the groups were ranked, this change included; 1 at least for new ones.
        sums: a copy, in the new order of groups.
        touched: groups that get or lose rows, the vanishing ones included.
    """

    def __init__(self, before: Partition, gone: Ints, new_ids: NDArray[Any], labels: Any) -> None:
        self.before, self.new_ids = before, new_ids
        m = len(new_ids)
        stay = np.ones(len(before), bool)
        stay[gone] = False
        kept = np.flatnonzero(stay)
        self.origin = np.concatenate([kept, np.full(m, -1)]).astype(np.int64)
        self.stayed, self.added = len(kept), np.arange(len(kept), len(kept) + m)
        self._join(kept, labels, m)
        place = np.empty(len(before), np.int64)
        place[before.ranking] = np.arange(len(before))
        self.sequence = np.concatenate([place[kept], np.full(m, -1)])
        self.bin_of = np.concatenate([before.bin_of[kept], np.full(m, -1)])
        self.gains = np.concatenate([before.gains[kept], np.full(m, np.nan)])
        self._next = len(before)
        self.changed = np.zeros((len(self.group_before), 2), np.int64)
        old = self.group_before >= 0
        self.changed[old] = before.changed[self.group_before[old]]
        lost = self.group_now[before.of_row[gone]]
        np.add.at(self.changed[:, 0], self.of_row[self.added], 1)
        np.add.at(self.changed[:, 1], lost[lost >= 0], 1)
        vanished = len(np.unique(before.of_row[gone][lost < 0]))
        self.touched = len(np.unique(np.concatenate([self.of_row[self.added], lost[lost >= 0]]))) + vanished
        self.sums = None if before.sums is None else before.sums.regrouped(self.group_before, before.settings.center)

    def _join(self, kept: Ints, labels: Any, m: int) -> None:
        """Groups of rows that stay and of those that come."""
        before = self.before
        if before.names is None:
            if labels is not None:
                raise checks.bad("labels", "None, for the partition is one group", "labels")
            self.names = None
            self.of_row = np.zeros(len(kept) + m, np.int64)
            self.group_before = self.group_now = np.array([0 if len(kept) else -1])
            return
        if labels is None and m:
            raise checks.bad("labels", "given, for the partition has groups", "None")
        given = Groups.of(label_array([] if labels is None else labels, m), m)
        new_names = before.names[:0] if not m or given.names is None else given.names
        if len(before.names) and len(new_names) and (before.names.dtype.kind in "US") != (new_names.dtype.kind in "US"):
            raise checks.bad("labels", f"of one kind with those before, {before.names.dtype}", str(new_names.dtype))
        staying = np.unique(before.of_row[kept])
        self.names = np.unique(np.concatenate([before.names[staying], new_names]))
        self.group_now = np.full(len(before.names), -1)
        self.group_now[staying] = np.searchsorted(self.names, before.names[staying])
        # A group that loses all its rows is not there any more, and a new one where its label comes again.
        self.group_before = np.full(len(self.names), -1)
        self.group_before[self.group_now[staying]] = staying
        of_new = np.searchsorted(self.names, new_names)[given.of_row] if m else np.zeros(0, np.int64)
        self.of_row = np.concatenate([self.group_now[before.of_row[kept]], of_new]).astype(np.int64)

    def counts(self, g: int) -> Ints:
        """Rows in each bin of a group so far, [bins]."""
        mine = self.bin_of[self.of_row == g]
        return np.bincount(mine[mine >= 0], minlength=self.before.settings.n_bins)

    def put(self, rows: Ints, bins: Ints, gains: Floats) -> None:
        """Give rows their bins, in this order behind the rows that those hold."""
        self.bin_of[rows], self.gains[rows] = bins, gains
        self.sequence[rows] = np.arange(self._next, self._next + len(rows))
        self._next += len(rows)

    def count(self, g: int, rows: Group, bins: Ints, sign: int) -> None:
        """Add rows of group `g`, not centred, to the sums of their bins, or take them out (sign -1)."""
        if self.sums is None:
            return
        if self.sums.center:
            self.sums.total[g] += sign * rows.total().numpy()
        centred = self.sums.centred(g, rows, self.before.settings.similarity == "dot")
        for k in np.unique(bins).tolist():
            part = centred.take(torch.from_numpy(np.flatnonzero(bins == k)))
            self.sums.of_bin[g, k] += sign * part.total().numpy()

    def groups_of(self, rows: Ints) -> Groups:
        """Groups of some whole groups' rows, numbered from 0."""
        return Groups.of(None if self.names is None else self.of_row[rows], len(rows))

    def finish(self) -> Partition:
        """The partition, all rows having bins."""
        before = self.before
        ids = before.ids[self.origin[: self.stayed]]
        if len(self.new_ids):
            ids = np.concatenate([ids, self.new_ids]) if len(ids) else self.new_ids
        next_id = before.next_id
        if ids.dtype.kind == "i":
            next_id = max(next_id, int(ids.max(initial=-1)) + 1)
        ranking = np.lexsort((self.sequence, self.bin_of, self.of_row)).astype(np.int64)
        made = Partition(
            before.settings, ids, self.of_row, self.names, ranking, self.bin_of, self.gains, self.changed, next_id,
            self.sums,
        )  # fmt: skip
        made.check()
        return made


def rank_as(settings: Settings, *, algorithm: str = "auto", max_memory: int | str | None = None) -> Rank:
    """Ranks groups as `SampleQuantizer` does; see `plan_bins`."""

    def rank(tensors: tuple[Tensor, ...], groups: Groups) -> tuple[Ints, Ints, Floats]:
        factors = Factors(tensors)
        plan = plan_bins(factors, groups, settings, algorithm=algorithm, max_memory=max_memory)
        found = rank_bins(factors, groups, settings, plan)
        return found.ranking, found.bin_of, found.gains

    return rank
