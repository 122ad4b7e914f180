"""The bins of a run after images came or went: by the partition's own additions and removals, or ranked again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.embed import Embedding
from dq_fast.errors import InputError
from dq_fast.pipeline.choose import (
    bins_changes,
    bins_parameters,
    bins_stage,
    load_bins,
    rows_of,
    save_bins,
)
from dq_fast.pipeline.options import BinOptions
from dq_fast.pipeline.run import RunFolder
from dq_fast.progress import Progress
from dq_fast.select import Groups, SampleQuantizer
from dq_fast.select.partition import Change, Partition, Settings

Ints = NDArray[np.int64]

_STATE = "partition.npz"  # sums and means of the bins as they are; beside bins.npz once they were changed


@dataclass(frozen=True)
class RowChange:
    """Rows of an embedding that go, and rows that come.

    Attributes:
        before: the embedding so far.
        gone: its rows that go, ascending.
        after: the rows that stay, in their order, and then those that come.
    """

    before: Embedding
    gone: Ints
    after: Embedding

    @property
    def stayed(self) -> int:
        """How many rows stay."""
        return len(self.before) - len(self.gone)


def bin_options(run: RunFolder, group_by: str | None = None) -> BinOptions:
    """The options that the bins of a run were made with; `group_by`: the column's file as it is now."""
    record = run.require("bins", f"dq-fast bins {run.path}")
    known = set(BinOptions.__dataclass_fields__)
    options = BinOptions(**{name: value for name, value in record["parameters"].items() if name in known})
    if group_by is not None and options.group_by is None:
        raise InputError(f"group_by must go with bins that were made with it, got {group_by!r} for {run.path}")
    return options if group_by is None else replace(options, group_by=group_by)


def as_a_whole(options: BinOptions) -> str | None:
    """Why bins with these options can only be made again from all rows; None where rows can come and go."""
    if not options.ours:
        return f"method {options.method!r} ranks all images together"
    if options.compat is not None:
        return f"compat {options.compat!r} ranks all images together"
    if options.kmeans is not None:
        return "clusters are made from all images"
    return None if options.group_by is None else "groups come from a column"


def change_bins(
    run: RunFolder,
    draft: RunFolder,
    rows: RowChange,
    options: BinOptions,
    *,
    refit: bool,
    max_memory: int | str | None,
    progress: Progress,
) -> list[Change]:
    """Write the bins stage of a draft: the bins of `run` with the rows that came and without those that went.

    Args:
        run: with the bins so far.
        draft: with source, model and embedding as they are now.
        rows: what came and went.
        options: of the bins.
        refit: rank groups again that are not as they were ranked; else old rows keep their bins.
        max_memory: for ranking, see `SampleQuantizer`.
        progress: called as ``progress("add", …)`` and ``progress("remove", …)``, or "bins" where all is ranked.

    Returns:
        What was done, step by step; nothing where all rows were ranked as a whole.
    """
    if as_a_whole(options) is not None:
        bins_stage(draft, rows.after, options, max_memory=max_memory, progress=progress)
        return []
    quantizer = load_bins(run)
    quantizer.max_memory = max_memory
    coming = len(rows.after) > rows.stayed
    _give_state(run, quantizer, rows.before, options, sums=not refit and (coming or options.center))
    steps = _steps(quantizer, rows, options, refit, progress)
    report = steps[-1].as_dict() if steps else dict(quantizer.report_)
    report.pop("seconds", None)  # the same bytes when it is done again
    done: dict[str, Any] = {"added": len(rows.after) - rows.stayed, "removed": len(rows.gone)}
    with draft.writing("bins", bins_parameters(options, {})) as (folder, results):
        save_bins(folder, quantizer, rows.after)
        _save_state(folder, quantizer)
        results.update(
            bins=[len(b) for b in quantizer.bins_],
            report=report,
            changes=[] if refit else [*bins_changes(run), done],
        )
    return steps


def _steps(
    quantizer: SampleQuantizer, rows: RowChange, options: BinOptions, refit: bool, progress: Progress
) -> list[Change]:
    before, after = rows_of(rows.before, options, "cpu"), rows_of(rows.after, options, "cpu")
    new = tuple(f[rows.stayed :] for f in after)
    steps = []
    if len(rows.gone):
        gone = tuple(f[rows.gone] for f in before)
        steps.append(quantizer.remove(rows=rows.gone, embedding=gone, progress=progress))
    if len(new[0]):
        labels = rows.after.labels[rows.stayed :]
        groups = labels if options.by_class else None
        mode = "refit" if refit else "append"
        kept = tuple(f[: rows.stayed] for f in after) if refit else None
        ids = np.array(rows.after.ids[rows.stayed :])
        steps.append(quantizer.add(new, labels, ids, groups=groups, mode=mode, old=kept, progress=progress))
    elif refit:
        steps.append(quantizer.refit(after, progress=progress))
    return steps


def _give_state(
    run: RunFolder, quantizer: SampleQuantizer, embedding: Embedding, options: BinOptions, *, sums: bool
) -> None:
    """The partition behind the bins of a run, with sums where they are needed and can be had."""
    saved = run.folder("bins") / _STATE
    kept = Partition.load(saved) if saved.is_file() else None
    if kept is not None and (not sums or kept.sums is not None):
        made = kept
    elif kept is not None and options.center and kept.changed.any():
        raise InputError(f"refit must be given for {run.path}, whose groups lost the means they were ranked with")
    else:
        factors = rows_of(embedding, options, "cpu")
        groups = Groups.of(embedding.labels if options.by_class else None, len(embedding))
        settings = Settings(options.n_bins, options.lam, options.shifted, options.center, options.similarity)
        try:
            made = Partition.of(
                factors, groups, quantizer.ranking_, quantizer.bin_of_, quantizer.gains_, settings,
                ids=np.array(embedding.ids), sums=sums,
            )  # fmt: skip
        except InputError as error:
            if "sums must fit" not in str(error):
                raise
            raise InputError(
                f"{str(error).split(';')[0]}; give --refit, which needs none, to rank the changed groups again"
            ) from None
        if kept is not None:
            made = replace(made, changed=kept.changed)
    quantizer.partition_, quantizer.ids_ = made, made.ids
    quantizer.group_names_ = made.names


def _save_state(folder: Path, quantizer: SampleQuantizer) -> None:
    """Keep what the next change needs; sums only of centred rows, for all others are measured again."""
    made = quantizer.partition_
    assert made is not None
    if not quantizer.center or not made.changed.any():
        made = replace(made, sums=None)
    made.save(folder / _STATE)
