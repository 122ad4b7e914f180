"""Rows that come to a bins file of bare embeddings, and rows that go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.pipeline.bins_file import BinsFile
from dq_fast.pipeline.columns import read_column, split_spec
from dq_fast.pipeline.embeddings import EmbeddingFiles
from dq_fast.progress import Progress, silent
from dq_fast.select.partition import Change
from dq_fast.select.rows import as_factors


def change_bins_file(
    path: str | Path,
    *,
    add: EmbeddingFiles | None = None,
    group_by: str | None = None,
    remove: str | None = None,
    old: tuple[str, ...] = (),
    refit: bool = False,
    out: str | Path | None = None,
    dry_run: bool = False,
    progress: Progress = silent,
) -> tuple[BinsFile, Change]:
    """Add rows to a bins file, or remove rows from it, without starting over; with neither, rank changed groups again.

    Args:
        path: the bins file.
        add: the new rows, with labels where those in the file have some.
        group_by: with `add`: the groups of the new rows where the bins are not of classes, a file or a column as for
            `bins_of_files`; None is the column of the same name, where the groups so far came from one.
        remove: a file with the ids to remove.
        old: the embedding files of the rows that are in it, in their order.
        refit: rank the groups again that got or lost rows (needs `old`).
        out: where to write the changed file; None replaces `path`.
        dry_run: do it in memory, to see what it comes to, and write nothing.
        progress: called as ``progress("add", rows placed, rows to place)``.

    Raises:
        InputError: as `SampleQuantizer.add` and `remove`; the file then stays as it was.
    """
    there = BinsFile.load(path)
    q = there.quantizer
    before = (as_factors(old[0] if len(old) == 1 else old)) if old else None
    if refit and before is None:
        raise InputError("old must be given to rank groups again, got none: give --old, the embeddings that are in it")
    if add is not None:
        change = q.add(
            add.read(),
            add.column(add.labels, "labels"),
            add.column(add.ids, "ids"),
            groups=_groups_of_new(there, add, group_by),
            mode="refit" if refit else "append",
            old=before,
            progress=progress,
        )
        what: dict[str, Any] = {"add": asdict(add) if group_by is None else {**asdict(add), "group_by": group_by}}
    elif remove is None:
        change, what = q.refit(before, progress=progress), {}
    else:
        ids = _ids_like(read_column(remove, "remove"), q.ids_)
        change = q.remove(ids, mode="refit" if refit else "keep", old=before, progress=progress)
        what = {"remove": remove}
    did = {name: value for name, value in change.as_dict().items() if name != "seconds"}  # the same bytes when redone
    changes = [*there.about.get("changes", []), {**what, **did}]
    changed = BinsFile(q, {**there.about, "changes": changes, "report": did})
    if not dry_run:
        changed.save(out if out is not None else path)
    return changed, change


def _groups_of_new(there: BinsFile, add: EmbeddingFiles, group_by: str | None) -> NDArray[Any] | None:
    """The groups of rows that come to a bins file of other groups than classes; None where nothing tells them."""
    before = there.about.get("grouping", {})
    named = before.get("group_by")
    labelled = there.quantizer.labels_ is not None  # otherwise labels may tell the groups
    a_column = named is not None and not split_spec(named)[0].suffix and "/" not in named
    if group_by is None and a_column and (labelled or add.labels is None):
        group_by = named
    if group_by is None:
        if labelled and (named is not None or before.get("kmeans") is not None):
            raise InputError(
                "group_by must be given, got none: the rows of the bins file have labels, and groups from "
                f"{'clusters' if named is None else named}; give --group-by with the groups of the new rows"
            )
        return None
    if named is None and before.get("kmeans") is None:
        raise InputError(f"group_by must go with bins that were made with it, got {group_by!r}")
    return add.column(group_by, "group_by")


def _ids_like(given: NDArray[Any], ids: NDArray[Any]) -> NDArray[Any]:
    """Ids from a text file as the numbers that they are in the bins file."""
    if ids.dtype.kind in "iu" and given.dtype.kind == "U":
        try:
            return given.astype(np.int64)
        except ValueError:
            raise InputError(f"remove must hold row numbers like the bins file's ids, got {given[0]!r}") from None
    return given
