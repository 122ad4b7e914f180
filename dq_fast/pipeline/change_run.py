"""Images that came to the source of a run, and images taken out of a run, without starting over.

Embedding, bins and sample are made anew in a draft inside the run folder, from what is there and from the new images
alone; then the draft's stages take the place of the run's, all at once (`RunFolder.replace`). A process that is killed
before that leaves the run as it was, and images that were embedded are taken over by the same command.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from dq_fast.data import Subset
from dq_fast.embed import Embedding, embed
from dq_fast.errors import InputError
from dq_fast.files import read_json, write_json
from dq_fast.pipeline.change_bins import RowChange, as_a_whole, bin_options, change_bins
from dq_fast.pipeline.change_plan import Planned, RunChange, plan_change
from dq_fast.pipeline.choose import bins_changes, load_bins, load_sample, sample_stage
from dq_fast.pipeline.options import SampleOptions
from dq_fast.pipeline.pack import packed_stores
from dq_fast.pipeline.run import RunFolder
from dq_fast.pipeline.stages import HEAD_FILE, describe_source, load_model
from dq_fast.progress import Progress, silent


def change_run(
    run: RunFolder,
    source: str | None = None,
    *,
    remove: str | None = None,
    only: str | None = None,
    refit: bool = False,
    group_by: str | None = None,
    device: str = "cpu",
    batch_size: int = 128,
    workers: int | None = None,
    max_memory: int | str | None = None,
    dry_run: bool = False,
    progress: Progress = silent,
) -> RunChange:
    """Add the images of a source to a run that does not have them all, or take images out, or rank bins again.

    The classifier stays as it is. Rows that stay come first in the embedding, in their order, then those that came.

    Args:
        run: with finished bins; a sample that is there is drawn again with its parameters.
        source: add what this source has more than the run; it holds the images so far, too. None adds nothing.
        remove: a file with ids to take out, or "missing": those that the source does not have any more.
        only: a file with ids: add these, also if they were removed before, and leave other new ones out.
        refit: rank groups again that got or lost images (see docs/INCREMENTAL.md), now or before.
        group_by: of bins that were made with it: the column of the source as it is now.
        device: where the classifier runs.
        batch_size: images a forward pass.
        workers: reading threads.
        max_memory: for ranking, see `SampleQuantizer`.
        dry_run: only look what would be done.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: stages that are missing or not whole, a source that does not have the images of the run any more,
            other classes, ids that are not there, too many unreadable images. The run then stays as it was.
    """
    begin = time.monotonic()
    _check(run)
    options = bin_options(run, group_by)
    whole = as_a_whole(options)
    plan = plan_change(run, source, remove, only)
    result = plan.now
    result.exact = refit or whole is not None or not (plan.gone or plan.coming or bins_changes(run))
    nothing = not plan.gone and not plan.coming and not (refit and bins_changes(run))
    if nothing and _is_as_recorded(run, plan):
        result.seconds = time.monotonic() - begin
        return result
    if whole is not None and not refit and (plan.gone or plan.coming):
        raise InputError(f"refit must be given for {run.path}, for {whole}: give --refit to rank all images again")
    if result.images == 0:
        raise InputError(f"remove must leave images in the run, got all {len(plan.embedding)} of them")
    result.stale = packed_stores(run) if run.record("sample") is not None else []
    if dry_run:
        if run.record("sample") is not None:
            result.kept = round(run.require("sample", "")["parameters"]["keep"] * result.images)
        result.seconds = time.monotonic() - begin
        return result
    new = _embed_new(run, plan, device=device, batch_size=batch_size, workers=workers, progress=progress)
    rows = _rows(plan, new)
    _check_bad(run, plan, rows.after)
    draft = run.draft()
    _write_images(run, draft, plan, rows.after)
    result.steps = change_bins(run, draft, rows, options, refit=refit, max_memory=max_memory, progress=progress)
    if run.record("sample") is not None:
        _draw_again(run, draft, rows, result)
    run.replace(draft)
    result.images, result.unreadable = len(rows.after), len(rows.after.bad)
    result.stale = [p for p in result.stale if p["after"] != run.digest("sample")]
    result.written = True
    result.seconds = time.monotonic() - begin
    return result


def _check(run: RunFolder) -> None:
    """Every stage must be whole and built on the one before: parts that disagree would be made to look alike."""
    run.require("bins", f"dq-fast bins {run.path}")
    stages = ["source", "model", "embed", "bins"]
    if run.record("sample") is not None:
        stages.append("sample")
    for stage in stages:
        if not run.is_whole(stage):
            command = {"bins": f"dq-fast bins {run.path}", "sample": f"dq-fast sample {run.path}"}.get(
                stage, f"dq-fast embed SOURCE {run.path}"
            )
            raise InputError(
                f"{run.path} must be whole, but its stage {stage!r} is damaged or not of the stages before it; run "
                f"again: {command}"
            )


def _is_as_recorded(run: RunFolder, plan: Planned) -> bool:
    """Whether the record of the source needs no change."""
    record = run.require("source", "")
    return (
        record["parameters"]["spec"] == plan.spec
        and record["results"]["fingerprint"] == plan.source.fingerprint()
        and record["results"].get("left_out", []) == plan.left_out
    )


def _embed_new(
    run: RunFolder, plan: Planned, *, device: str, batch_size: int, workers: int | None, progress: Progress
) -> Embedding | None:
    """The images that come through the run's classifier, index as in the source; or taken over from the workshop."""
    if not plan.coming:
        return None
    folder = run.workshop / "embedded"
    digest = hashlib.sha256("\0".join(plan.coming).encode()).hexdigest()
    key = {"embed": run.digest("embed"), "fingerprint": plan.source.fingerprint(), "ids": digest}
    place = {id: i for i, id in enumerate(plan.source.ids)}
    at = np.array([place[id] for id in plan.coming], np.int64)
    mark = run.workshop / "key.json"
    if mark.is_file() and read_json(mark) == key and (folder / "embedding.json").is_file():
        plan.now.taken_over, plan.now.embedded = plan.now.embedded, 0
        return Embedding.load(folder)
    if run.workshop.exists():
        shutil.rmtree(run.workshop)
    new = embed(
        Subset(plan.source, at),
        load_model(run, device),
        batch_size=batch_size,
        device=device,
        max_bad=1.0,  # judged with those of before
        precision=run.require("embed", "")["parameters"].get("precision", "float32"),
        workers=workers,
        progress=progress,
    )
    new.index = at[new.index]
    write_json(mark, key)
    new.save(folder)
    return new


def _rows(plan: Planned, new: Embedding | None) -> RowChange:
    before, gone = plan.embedding, set(plan.gone)
    stay = np.array([id not in gone for id in before.ids], bool)
    place = {id: i for i, id in enumerate(plan.source.ids)}
    ids = [id for id in before.ids if id not in gone]
    index = np.array([place[id] for id in ids], np.int64)
    arrays = {name: getattr(before, name)[stay] for name in ("labels", "features", "logits")}
    bad = plan.bad
    if new is not None:
        ids, index, bad = ids + new.ids, np.concatenate([index, new.index]), bad + new.bad
        arrays = {name: np.concatenate([x, getattr(new, name)]) for name, x in arrays.items()}
    bad = sorted(bad, key=lambda b: place[b["id"]])
    return RowChange(before, np.flatnonzero(~stay), Embedding(ids=ids, index=index, bad=bad, **arrays))


def _check_bad(run: RunFolder, plan: Planned, after: Embedding) -> None:
    allowed = run.require("embed", "")["parameters"]["max_bad"]
    of = len(after) + len(after.bad)
    if len(after.bad) > allowed * of:
        named = "; ".join(f"{b['id']} ({b['reason']})" for b in after.bad[:5])
        raise InputError(
            f"{len(after.bad)} of {of} images cannot be read, more than max_bad {allowed:g} allows: {named}. Repair or "
            f"remove them from {plan.spec}"
        )


def _write_images(run: RunFolder, draft: RunFolder, plan: Planned, after: Embedding) -> None:
    """Source, model and embedding of a draft; the model is the run's."""
    source, model, embedded = (run.require(stage, "") for stage in ("source", "model", "embed"))
    with draft.writing("source", {**source["parameters"], "spec": plan.spec}) as (folder, results):
        results.update(
            describe_source(folder, plan.source, plan.source.fingerprint(), plan.marks, plan.left_out),
            typical_size=model["parameters"]["typical_size"],
        )
    with draft.writing("model", model["parameters"]) as (folder, results):
        for name in model["files"]:
            _link(run.folder("model") / name, folder / name)
        results.update(model["results"])
    with draft.writing("embed", embedded["parameters"]) as (folder, results):
        after.save(folder)
        if HEAD_FILE in embedded["files"]:
            _link(run.folder("embed") / HEAD_FILE, folder / HEAD_FILE)
        results.update(images=len(after), bad=after.bad)


def _link(file: Path, target: Path) -> None:
    """The same file under another name, or a copy where the file system has no links; files are never written to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _draw_again(run: RunFolder, draft: RunFolder, rows: RowChange, result: RunChange) -> None:
    parameters = run.require("sample", "")["parameters"]
    options = SampleOptions(**{name: _tupled(value) for name, value in parameters.items()})
    drawn = sample_stage(draft, load_bins(draft), rows.after, options)
    before = {rows.before.ids[i] for i in load_sample(run).tolist()}
    result.kept = len(drawn)
    result.kept_before = sum(rows.after.ids[i] in before for i in drawn.tolist())


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
