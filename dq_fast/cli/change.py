"""`dq-fast bins` with --add, --remove or --refit: bins that change without starting over, of a run or in a file."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dq_fast.cli.console import print_result, progress_bars
from dq_fast.errors import InputError

if TYPE_CHECKING:
    from dq_fast.pipeline import EmbeddingFiles, RunChange, RunFolder

_FILES_ONLY = ("factor", "labels", "label_column", "id_column", "features", "logits", "old", "out", "official_name")


def add_options(bins: argparse.ArgumentParser) -> None:
    """What changes bins that are there."""
    group = bins.add_argument_group("bins that are there")
    group.add_argument(
        "--incremental", action="store_true", help="of a bins file: keep what --add needs (a run needs none)"
    )
    group.add_argument(
        "--add",
        metavar="RUN|BINS",
        help="take over what SOURCE has more than this run; or add the rows of EMBEDDINGS to this bins file",
    )
    group.add_argument(
        "--remove",
        metavar="FILE",
        help="take the ids in this file out of the run or bins file; of a run also 'missing': those that its source "
        "does not have any more",
    )
    group.add_argument(
        "--refit", action="store_true", help="rank groups again that got or lost rows, now or before: exactly"
    )
    group.add_argument(
        "--old",
        action="append",
        default=[],
        metavar="FILE",
        help="with --refit of a bins file: embeddings of the rows so far",
    )


def is_change(parsed: argparse.Namespace) -> bool:
    """Whether bins that are there shall change."""
    return parsed.add is not None or parsed.remove is not None or parsed.refit


def change(parsed: argparse.Namespace) -> None:
    """Change a run or a bins file."""
    bins = parsed.folder if parsed.add is None else parsed.add
    if (Path(bins) / "run.json").is_file():
        _change_run(parsed, bins)
    elif Path(bins).is_dir():
        raise InputError(f"{bins} must be a run folder of dq-fast bins, or a bins file, got a folder of something else")
    else:
        _change_file(parsed, bins)


def _change_run(parsed: argparse.Namespace, folder: str) -> None:
    from dq_fast import pipeline

    for name in _FILES_ONLY:
        if getattr(parsed, name):
            raise InputError(f"--{name.replace('_', '-')} must be left out where a run changes, got it for {folder}")
    if parsed.ids is not None and parsed.add is None:
        raise InputError("--ids must go with --add, to say which images to add, got none")
    if parsed.certify and not parsed.dry_run:
        raise InputError(f"--certify must be given afterwards, got it with a change: dq-fast bins {folder} --certify K")
    run = pipeline.RunFolder(folder, create=False)
    with progress_bars(parsed.quiet or parsed.dry_run) as progress:
        done = pipeline.change_run(
            run,
            parsed.folder if parsed.add is not None else None,
            remove=parsed.remove,
            only=parsed.ids,
            refit=parsed.refit,
            group_by=parsed.group_by,
            device=pipeline.pick_device(parsed.device),
            batch_size=parsed.batch_size,
            workers=parsed.workers,
            max_memory=parsed.max_memory,
            dry_run=parsed.dry_run,
            progress=progress,
        )
    result: dict[str, Any] = {**done.as_dict(), "notes": _notes(run, done, parsed.dry_run)}
    title = f"{folder}, {'as it would be' if parsed.dry_run else 'changed' if done.written else 'as it was'}"
    print_result(parsed, title, result if parsed.json else _worth_showing(result), *done.steps, *result["notes"])


def _worth_showing(result: dict[str, Any]) -> dict[str, Any]:
    """For people: no zeros, and not what the notes tell."""
    told = ("exact", "written", "kept_before", "notes", "ranked", "groups_ranked", "imbalance", "since", "mean_shift")
    return {name: value for name, value in result.items() if value and name not in told}


def _notes(run: RunFolder, done: RunChange, dry_run: bool) -> list[str]:
    """What is exact, what is not, and what to do next."""
    if not (done.written or dry_run):
        return ["Nothing to do: the run has what its source has."]
    notes = []
    if done.held_out:
        notes.append(
            f"Hold-out: drawn by id from the source as it is now; {done.held_out} images of the run are test images "
            "now, which the model was trained with."
        )
    if done.added or done.changed:
        notes.append("Model: as it was; new images were embedded with it, not trained on.")
    if done.exact:
        notes.append("Bins: what ranking all images of the run from scratch gives.")
    else:
        notes.append(
            "Bins: images of before keep their bins, new ones are in the bins where their gain is largest; not what "
            f"ranking all from scratch gives. dq-fast bins {run.path} --refit ranks changed groups again, exactly."
        )
    if done.kept is None:
        notes.append(f"Sample: none yet; next: dq-fast sample {run.path}")
    elif not dry_run:
        notes.append(
            f"Sample: drawn again with the same parameters, {done.kept} images, {done.kept_before} of them as before."
        )
    if done.stale:
        names = ", ".join(packed["out"] for packed in done.stale)
        notes.append(
            f"Stale: packed from the run before, and of the images of before: {names}. Next: dq-fast pack {run.path} "
            f"NEW_OUT{_flags(done.stale[-1]['options'])}"
        )
    return notes


def _flags(options: dict[str, Any]) -> str:
    """The options of `dq-fast pack` that give the same patches, where they are not the defaults."""
    from dq_fast.pipeline import PackOptions

    flags = {"codec": "format"}
    text = ""
    for name, value in vars(PackOptions()).items():
        given = options.get(name, value)
        if name == "drop_classes":
            pairs = ",".join(f"{key}={ratio}" for key, ratio in (given or {}).items())
            text += f" --drop-classes {shlex.quote(pairs)}" if pairs else ""
        elif given != value:
            text += f" --{flags.get(name, name).replace('_', '-')}" + ("" if given is True else f" {given}")
    return text


def files(parsed: argparse.Namespace) -> EmbeddingFiles:
    """The embedding files on the command line."""
    from dq_fast.pipeline import EmbeddingFiles

    for one, other in (("labels", "label_column"), ("ids", "id_column")):
        if getattr(parsed, one) and getattr(parsed, other):
            raise InputError(f"--{one} must be given without --{other.replace('_', '-')}, got both")
    return EmbeddingFiles(
        (parsed.folder, *parsed.factor),
        labels=parsed.labels or parsed.label_column,
        ids=parsed.ids or parsed.id_column,
        features=parsed.features,
        logits=parsed.logits,
    )


def _change_file(parsed: argparse.Namespace, bins: str) -> None:
    from dq_fast import pipeline

    if parsed.group_by is not None and parsed.add is None:
        raise InputError("--group-by must go with --add, to say the groups of the new rows, got none")
    if parsed.add is not None and parsed.remove is not None:
        raise InputError("--add and --remove must be given one at a time for a bins file, got both")
    with progress_bars(parsed.quiet or parsed.dry_run) as progress:
        file, done = pipeline.change_bins_file(
            bins,
            add=files(parsed) if parsed.add is not None else None,
            group_by=parsed.group_by,
            remove=parsed.remove,
            old=tuple(parsed.old),
            refit=parsed.refit,
            out=parsed.out,
            dry_run=parsed.dry_run,
            progress=progress,
        )
    result = {**facts(file.quantizer, "rows", None), **done.as_dict()}
    if not parsed.dry_run:
        result["file"] = str(parsed.out or bins)
    print_result(parsed, f"{bins}, {'as it would be' if parsed.dry_run else 'changed'}", result, done)


def facts(quantizer: Any, what: str, taken_over: str | None) -> dict[str, Any]:
    """Of bins, for a result; `taken_over`: from where, if nothing was done."""
    sizes = [len(b) for b in quantizer.bins_]
    result: dict[str, Any] = {
        what: len(quantizer.bin_of_),
        "groups": len(set(quantizer.groups_.tolist())),
        "method": "dq" if quantizer.method == "auto" else quantizer.method,
        "bins": len(sizes),
        "smallest_bin": min(sizes),
        "largest_bin": max(sizes),
        "taken_over": taken_over,
        "report": quantizer.report_,
    }
    for name in ("seconds", "passes"):
        if isinstance(quantizer.report_.get(name), (int, float)):
            result[name] = quantizer.report_[name]
    if quantizer.certificate_ is not None:
        result["certificate"] = quantizer.certificate_.as_dict()
    return result
