"""New rows for a partition, and rows taken out of it, without starting over.

Two ways. "refit": groups that were touched are ranked again from all their rows; all others keep their results bit for
bit, and the whole is what a fit from scratch gives. "append" (for removals "keep"): old rows keep their bins and their
order, new ones go into the bins by their gain there (`dq_fast.select.append`), which needs no old embedding but only
sums (`Partition.sums`). docs/INCREMENTAL.md tells what stays exact.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.errors import InputError
from dq_fast.ops import checks
from dq_fast.progress import Progress, silent
from dq_fast.select.append import place
from dq_fast.select.draft import Draft, Rank, rank_as
from dq_fast.select.kept_rows import Rows, sums_shape
from dq_fast.select.partition import Partition, id_array, same_kind
from dq_fast.select.rows import as_factors

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Change:
    """What an addition, a removal or a refit did.

    Attributes:
        partition: as it is now. Rows that stayed come first, in their order; added ones follow in theirs.
        origin: int64 [n], the row that every row was before, -1 for an added one.
        removed: how many rows were taken out.
        touched: groups that got or lost rows. new_groups: those of them that had no rows before.
        ranked: rows that were ranked again, or for the first time. groups_ranked: their groups.
        imbalance: the largest difference of two bins' sizes in one group.
        since: rows appended and removed since their groups were ranked, as a part of all rows.
        mean_shift: with center and sums: how far the mean of a group is by now from the one it was ranked with, at
            most, as a part of the root mean square distance of its rows from that; otherwise 0.
        seconds: time it took.
    """

    partition: Partition
    origin: Ints
    removed: int
    touched: int
    new_groups: int
    ranked: int
    groups_ranked: int
    imbalance: int
    since: float
    mean_shift: float
    seconds: float

    @property
    def rows(self) -> Ints:
        """Row numbers of the added rows, in the order they were given."""
        return np.flatnonzero(self.origin < 0)

    def __str__(self) -> str:
        lines = [
            f"{len(self.rows)} rows added, {self.removed} removed, in {self.touched} groups ({self.new_groups} new); "
            f"{self.ranked} rows ranked in {self.groups_ranked} groups; {self.seconds:.1f} s",
            f"  {len(self.partition)} rows, {100 * self.since:.1f} % changed since ranked; bins of a group differ by "
            f"{self.imbalance} at most",
        ]
        if self.mean_shift > 0:
            lines.append(f"  means have moved by up to {100 * self.mean_shift:.2g} % of the spread of their rows")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the numbers."""
        names = ("removed", "touched", "new_groups", "ranked", "groups_ranked", "imbalance", "since", "mean_shift")
        numbers = {name: getattr(self, name) for name in (*names, "seconds")}
        return {"n": len(self.partition), "added": len(self.rows), **numbers}


def add(
    partition: Partition,
    embedding: Any,
    labels: Any = None,
    ids: Any = None,
    *,
    mode: str = "append",
    old: Any = None,
    rank: Rank | None = None,
    progress: Progress | None = None,
) -> Change:
    """Add rows to a partition.

    Args:
        partition: as fitted, loaded, or changed before.
        embedding: the new rows: [m, d], or factors [m, d_k] as wide as those before; anything `as_factors` takes.
        labels: [m], the group of each new row. New labels make new groups, which are ranked from scratch. None where
            the partition is one group.
        ids: [m], ids that the partition does not have. None where its rows are numbered: the numbers go on.
        mode: "append", or "refit", which also ranks groups again that were appended to or removed from before.
        old: for "refit": the embedding of the partition's rows, in its order. Only rows of groups that are ranked again
            are read (and copied).
        rank: how groups are ranked; None: as `SampleQuantizer` does with method "auto".
        progress: called as ``progress("add", rows placed, rows to place)``.

    Returns:
        What was done; the partition that was given stays as it is.

    Raises:
        InputError: an id that is there already, or is given twice (it is named); other widths; values that are not
            finite; no sums to append with.
    """
    checks.one_of("mode", mode, ("append", "refit"))
    factors = as_factors(embedding).tensors
    new_ids = _new_ids(partition, ids, len(factors[0]))
    if partition.sums is not None and sums_shape(factors) != partition.sums.width:
        expected, got = partition.sums.width, sums_shape(factors)
        raise checks.bad(
            "embedding", f"as wide as the rows before, {expected[0]} x {expected[1]}", f"{got[0]} x {got[1]}"
        )
    draft = Draft(partition, np.zeros(0, np.int64), new_ids, labels)
    return _Work(draft, factors, old, rank or rank_as(partition.settings), progress).run(mode == "refit")


def remove(
    partition: Partition,
    ids: Any = None,
    *,
    rows: Any = None,
    embedding: Any = None,
    mode: str = "keep",
    old: Any = None,
    rank: Rank | None = None,
    progress: Progress | None = None,
) -> Change:
    """Take rows out of a partition.

    Args:
        partition: as fitted, loaded, or changed before.
        ids: of the rows to remove; or
        rows: their row numbers.
        embedding: the removed rows, in the order of `ids` or `rows`: sums are corrected by them. Not needed where the
            partition holds no sums, or `old` is given.
        mode: "keep": the other rows keep their bins and their order; bins that lost rows are filled first when rows are
            added. "refit": groups that lost rows (now or before), or were appended to, are ranked again.
        old: the embedding of all rows before the removal, in the partition's order.
        rank: as in `add`.
        progress: called as ``progress("remove", rows ranked, rows to rank)``.

    Raises:
        InputError: an id that is not there, or given twice (it is named); rows out of range; no embedding of them.
    """
    checks.one_of("mode", mode, ("keep", "refit"))
    if (ids is None) == (rows is None):
        raise checks.bad("ids or rows", "given, one of them", "both" if ids is not None else "neither")
    gone = partition.rows_of(ids) if rows is None else _row_numbers(rows, len(partition))
    draft = Draft(partition, gone, partition.ids[:0], None)
    work = _Work(draft, None, old, rank or rank_as(partition.settings), progress)
    if mode == "keep" and partition.sums is not None and len(gone):
        work.forget(gone, _removed_factors(partition, gone, embedding, old))
    return work.run(mode == "refit")


def refit(partition: Partition, old: Any, *, rank: Rank | None = None, progress: Progress | None = None) -> Change:
    """Rank all groups again that were appended to or removed from since they were ranked.

    Args:
        partition: as changed before.
        old: embedding of its rows, in its order.
        rank: as in `add`.
        progress: as in `add`.
    """
    draft = Draft(partition, np.zeros(0, np.int64), partition.ids[:0], None)
    return _Work(draft, None, old, rank or rank_as(partition.settings), progress).run(True)


def _new_ids(partition: Partition, ids: Any, m: int) -> NDArray[Any]:
    if ids is None:
        if partition.ids.dtype.kind != "i":
            raise checks.bad("ids", "given, for the partition has ids that are text", "None")
        return np.arange(partition.next_id, partition.next_id + m)
    found = id_array(ids, m)
    same_kind(found, partition.ids)
    there = np.flatnonzero(np.isin(found, partition.ids))
    if len(there):
        raise checks.bad("ids", "ids that the partition does not have", f"{found[there[0]].item()!r}; remove it first")
    return found


def _row_numbers(rows: Any, n: int) -> Ints:
    found = np.asarray(rows)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise checks.bad("rows", "row numbers, 1-D", f"{found.dtype} {found.shape}")
    found = found.astype(np.int64)
    outside = np.flatnonzero((found < 0) | (found >= n))
    if len(outside):
        raise checks.bad("rows", f"row numbers below {n}", str(found[outside[0]]))
    return id_array(found, None)


def _removed_factors(partition: Partition, gone: Ints, embedding: Any, old: Any) -> tuple[Tensor, ...]:
    if embedding is None and old is None:
        raise InputError(
            "embedding must be that of the removed rows, by which the partition's sums are corrected, got None; give "
            "embedding= or old="
        )
    if embedding is None:
        return _whole(old, len(partition), take=gone)
    factors = as_factors(embedding).tensors
    if len(factors[0]) != len(gone):
        raise checks.bad("embedding", f"that of the {len(gone)} removed rows", f"{len(factors[0])} rows")
    return factors


def _whole(old: Any, n: int, take: Ints | None = None) -> tuple[Tensor, ...]:
    if old is None:
        raise InputError("old must be the embedding of the partition's rows to rank groups again, got None")
    factors = as_factors(old).tensors
    if len(factors[0]) != n:
        raise checks.bad("old", f"the embedding of the partition's {n} rows", f"{len(factors[0])} rows")
    return factors if take is None else tuple(f[torch.from_numpy(take)] for f in factors)


class _Work:
    """Carries out a change that a draft describes."""

    def __init__(
        self, draft: Draft, new: tuple[Tensor, ...] | None, old: Any, rank: Rank, progress: Progress | None
    ) -> None:
        self.begin = time.monotonic()
        self.draft, self.new, self.old, self.rank = draft, new, old, rank
        self.stage, self.report = "remove" if new is None else "add", progress or silent
        self.similarity = draft.before.settings.similarity

    def forget(self, gone: Ints, factors: tuple[Tensor, ...]) -> None:
        """Take removed rows out of the sums of their bins."""
        draft, bin_of = self.draft, self.draft.before.bin_of[gone]
        group_of = draft.group_now[draft.before.of_row[gone]]
        for g in np.unique(group_of[group_of >= 0]).tolist():
            mine = np.flatnonzero(group_of == g)
            draft.count(g, Rows(factors, self.similarity).take(mine), bin_of[mine], -1)

    def run(self, again: bool) -> Change:
        """Append or rank, and put the result together. `again`: rank every group that is not as it was ranked."""
        draft = self.draft
        fresh = np.flatnonzero(draft.group_before < 0)
        ranked = np.flatnonzero(draft.changed.sum(1) > 0) if again else fresh
        appended = np.setdiff1d(np.unique(draft.of_row[draft.added]), ranked)
        to_do = int(np.isin(draft.of_row, ranked).sum() + np.isin(draft.of_row[draft.added], appended).sum())
        done = 0
        for g in appended.tolist():
            done += self._append(g)
            self.report(self.stage, done, to_do)
        self._rank(ranked)
        self.report(self.stage, to_do, to_do)
        return self._change(ranked, int(np.isin(fresh, draft.of_row).sum()))

    def _append(self, g: int) -> int:
        draft, s = self.draft, self.draft.before.settings
        if draft.sums is None or self.new is None:
            raise InputError("partition must hold sums to append with, got none; use mode='refit' and give old=")
        mine = draft.added[draft.of_row[draft.added] == g]
        rows = Rows(self.new, self.similarity).take(mine - draft.stayed)
        dot = s.similarity == "dot"
        group = draft.sums.centred(g, rows, dot)
        if dot:
            draft.sums.largest[g] = max(draft.sums.largest[g], draft.sums.largest_own(g, rows))
        order, bins, gains = place(
            group, draft.counts(g), torch.from_numpy(draft.sums.of_bin[g]), lam=s.lam,
            shifted=s.shifted and not dot, largest=float(draft.sums.largest[g]),
        )  # fmt: skip
        draft.put(mine[order], bins, gains)
        draft.count(g, rows, draft.bin_of[mine], 1)
        return len(mine)

    def _rank(self, groups: Ints) -> None:
        """Rank groups from all their rows, and measure their sums again."""
        draft = self.draft
        rows = np.flatnonzero(np.isin(draft.of_row, groups))
        if not len(rows):
            return
        factors = self._gather(rows)
        parts = draft.groups_of(rows)
        ranking, bin_of, gains = self.rank(factors, parts)
        draft.put(rows[ranking], bin_of[ranking], gains[ranking])
        for i, g in enumerate(groups.tolist()):
            draft.changed[g] = 0
            if draft.sums is not None:
                draft.sums.measure(g, Rows(factors, self.similarity), parts.rows(i), bin_of)

    def _gather(self, rows: Ints) -> tuple[Tensor, ...]:
        """The embedding of some of the rows after the change."""
        draft = self.draft
        stayed, added = rows[rows < draft.stayed], rows[rows >= draft.stayed] - draft.stayed
        parts: list[tuple[Tensor, ...]] = []
        if len(stayed):
            parts.append(_whole(self.old, len(draft.before), take=draft.origin[stayed]))
        if len(added) and self.new is not None:
            parts.append(tuple(f[torch.from_numpy(added)] for f in self.new))
        widths = [tuple(f.shape[1] for f in part) for part in parts]
        if widths[0] != widths[-1]:
            raise checks.bad("embedding", f"as wide as the rows before, {widths[0]}", f"{widths[-1]}")
        return tuple(torch.cat(factor) for factor in zip(*parts, strict=True))

    def _change(self, ranked: Ints, fresh: int) -> Change:
        draft = self.draft
        made = draft.finish()
        sizes = made.groups.sizes
        return Change(
            partition=made,
            origin=draft.origin,
            removed=len(draft.before) - draft.stayed,
            touched=draft.touched,
            new_groups=fresh,
            ranked=int(sizes[ranked].sum()),
            groups_ranked=len(ranked),
            imbalance=made.imbalance,
            since=float(made.changed.sum()) / max(1, len(made)),
            mean_shift=0.0 if made.sums is None else made.sums.mean_shift(sizes),
            seconds=time.monotonic() - self.begin,
        )
