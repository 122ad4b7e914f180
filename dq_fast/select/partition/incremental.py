"""New rows for a partition, and rows taken out of it, without starting over.

Two ways. "refit": groups that were touched are ranked again from all their rows; all others keep their results bit for
bit, and the whole is what a fit from scratch gives. "append" (for removals "keep"): old rows keep their bins and their
order, new ones go into the bins by their gain there (`partition/append.py`), which needs no old embedding but only sums
(`Partition.sums`). docs/INCREMENTAL.md tells what stays exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from dq_fast.ops import checks
from dq_fast.progress import Progress
from dq_fast.select.partition.change import Change
from dq_fast.select.partition.draft import Draft, Rank, rank_as
from dq_fast.select.partition.ids import new_ids, row_numbers
from dq_fast.select.partition.partition import Partition
from dq_fast.select.partition.sums import sums_shape
from dq_fast.select.partition.work import Work, removed_factors
from dq_fast.select.rows import as_factors

_NO_ROWS = np.zeros(0, np.int64)


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
    called = new_ids(ids, len(factors[0]), partition.ids, partition.next_id)
    if partition.sums is not None and sums_shape(factors) != partition.sums.width:
        expected, got = partition.sums.width, sums_shape(factors)
        raise checks.bad(
            "embedding", f"as wide as the rows before, {expected[0]} x {expected[1]}", f"{got[0]} x {got[1]}"
        )
    draft = Draft(partition, _NO_ROWS, called, labels)
    return _work(draft, factors, old, rank, progress).run(mode == "refit")


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
    gone = partition.rows_of(ids) if rows is None else row_numbers(rows, len(partition))
    draft = Draft(partition, gone, partition.ids[:0], None)
    work = _work(draft, None, old, rank, progress)
    if mode == "keep" and partition.sums is not None and len(gone):
        work.forget(gone, removed_factors(partition, gone, embedding, old))
    return work.run(mode == "refit")


def refit(partition: Partition, old: Any, *, rank: Rank | None = None, progress: Progress | None = None) -> Change:
    """Rank all groups again that were appended to or removed from since they were ranked.

    Args:
        partition: as changed before.
        old: embedding of its rows, in its order.
        rank: as in `add`.
        progress: as in `add`.
    """
    draft = Draft(partition, _NO_ROWS, partition.ids[:0], None)
    return _work(draft, None, old, rank, progress).run(True)


def _work(draft: Draft, new: tuple[Tensor, ...] | None, old: Any, rank: Rank | None, progress: Progress | None) -> Work:
    """The work of a change; groups are ranked as the partition was unless told otherwise."""
    return Work(draft, new, old, rank or rank_as(draft.before.settings), progress)
