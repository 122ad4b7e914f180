"""The stages that choose: bins (or another method's ranking) from an embedding, and a draw from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dq_fast.embed import Embedding
from dq_fast.errors import InputError
from dq_fast.files import atomic_write, read_json
from dq_fast.pipeline.columns import read_column
from dq_fast.pipeline.options import BinOptions, SampleOptions, numbered
from dq_fast.pipeline.run import RunFolder
from dq_fast.progress import Progress, silent
from dq_fast.select import METHODS, Groups, SampleQuantizer, kmeans_groups
from dq_fast.select.certificate import Certificate
from dq_fast.select.official import write_official
from dq_fast.select.plan import Plan
from dq_fast.select.quantizer import MethodPlan, check_parameters
from dq_fast.select.rows import Factors
from dq_fast.select.samplers import bin_importance, class_difficulty

Ints = NDArray[np.int64]
OnPlan = Callable[["Plan | MethodPlan"], None]


def bins_stage(
    run: RunFolder,
    embedding: Embedding,
    options: BinOptions,
    *,
    device: str = "cpu",
    max_memory: int | str | None = None,
    certify: int = 0,
    on_plan: OnPlan | None = None,
    progress: Progress = silent,
) -> SampleQuantizer:
    """Split the embedded samples into bins, or rank them by another method.

    Args:
        run: where the embedding is, and the bins go.
        embedding: of the samples.
        options: how.
        device: where the kernels run.
        max_memory: see `SampleQuantizer`; does not change the result.
        certify: how many picks to look at again, also of bins that were there already.
        on_plan: called with the plan before the work starts; not where the bins are taken over from an earlier run.
        progress: called as ``progress("bins", rows ranked, n)``.
    """
    check_parameters(**{**options.quantizer().get_params(), "certify": certify})
    groups, digest = _groups(run, embedding, options)
    parameters = bins_parameters(options, digest)
    rows = rows_of(embedding, options, device)
    if run.is_current("bins", parameters):
        quantizer = load_bins(run)
    else:
        quantizer = options.quantizer(max_memory=max_memory)
        grouped = _grouped(groups, embedding, options)
        plan = quantizer.plan(rows, embedding.labels, groups=grouped)
        if on_plan is not None:
            on_plan(plan)
        features, logits = torch.as_tensor(embedding.features), torch.as_tensor(embedding.logits)
        quantizer.fit(
            rows, embedding.labels, groups=grouped, features=features, logits=logits, plan=plan, progress=progress
        )
        with run.writing("bins", parameters) as (folder, results):  # not before: a mistake leaves the bins of before
            save_bins(folder, quantizer, embedding)
            results.update(bins=[len(b) for b in quantizer.bins_], report=quantizer.report_, plan=plan.as_dict())
    if certify:
        quantizer.certificate_ = _certificate(quantizer, rows, certify, bool(bins_changes(run)), progress)
    return quantizer


def bins_parameters(options: BinOptions, digest: dict[str, str]) -> dict[str, Any]:
    """What the record of the bins stage has as its parameters."""
    parameters = {**asdict(options), **digest}
    if options.ours and options.kmeans is None:
        parameters["seed"] = 0  # nothing is drawn
    return parameters


def bins_changes(run: RunFolder) -> list[dict[str, Any]]:
    """What was appended to and taken out of the bins since they were ranked as a whole (`change_run`)."""
    record = run.record("bins")
    return [] if record is None else list(record["results"].get("changes", []))


def _certificate(
    quantizer: SampleQuantizer, rows: tuple[Tensor, ...], k: int, changed: bool, progress: Progress
) -> Certificate:
    """A certificate; gains of rows that were picked among others than there are now are not compared."""
    if not changed:
        return quantizer.certificate(rows, k, progress=progress)
    picked = quantizer.gains_
    quantizer.gains_ = np.full_like(picked, np.nan)
    try:
        return quantizer.certificate(rows, k, progress=progress)
    finally:
        quantizer.gains_ = picked


def plan_bins_stage(
    run: RunFolder, embedding: Embedding, options: BinOptions, *, max_memory: int | str | None = None
) -> Plan | MethodPlan:
    """What `bins_stage` would do; nothing is written."""
    groups, _ = _groups(run, embedding, options)
    quantizer = options.quantizer(max_memory=max_memory)
    return quantizer.plan(
        rows_of(embedding, options, "cpu"), embedding.labels, groups=_grouped(groups, embedding, options)
    )


def plan_unread(labels: Ints, width: int, options: BinOptions, max_memory: int | str | None) -> Plan | MethodPlan:
    """What `bins_stage` would do with rows that are not there yet: planned by their number and widths alone.

    Args:
        labels: of the images.
        width: of the features.
        options: of the bins.
        max_memory: see `SampleQuantizer`.
    """
    n = len(labels)
    widths = (int(labels.max(initial=0)) + 1, width + 1) if options.embedding == "gradient" else (width,)
    rows = Factors(tuple(torch.empty((n, w)) for w in widths))  # never read, so that they take no memory
    groups = labels if options.by_class and options.kmeans is None else np.zeros(n, np.int64)
    if options.group_by is not None:
        groups = read_column(options.group_by, "group_by")
    return options.quantizer(max_memory=max_memory).plan(rows, groups, probe=False)


def rows_of(embedding: Embedding, options: BinOptions, device: str) -> tuple[Tensor, ...]:
    """The factors that similarities are taken between."""
    gradient = options.embedding == "gradient"
    factors = embedding.factors(options.loss) if gradient else (torch.as_tensor(embedding.features),)
    return tuple(f.to(device) for f in factors)


def _groups(run: RunFolder, embedding: Embedding, options: BinOptions) -> tuple[Any, dict[str, str]]:
    """What the rows are grouped by, as far as it is known before clustering; and what it adds to the parameters."""
    if options.group_by is None:
        return (None if options.by_class else "all"), {}
    column = read_column(options.group_by, "group_by")
    record = run.record("source")
    images = len(embedding) if record is None else int(record["results"]["images"])
    if len(column) == images:
        column = column[embedding.index]  # a value an image; unreadable ones left out
    elif len(column) != len(embedding):
        raise InputError(
            f"group_by must have one value for each of the {images} images, got {len(column)} in {options.group_by}"
        )
    groups = Groups.of(column, len(embedding))
    return groups, {"groups_crc": format(_crc(groups), "08x")}


def _crc(groups: Groups) -> int:
    import zlib

    return zlib.crc32(groups.of_row.tobytes())


def _grouped(groups: Any, embedding: Embedding, options: BinOptions) -> Any:
    """The groups themselves; clusters are made here, once for plan and fit."""
    if options.kmeans is None:
        return groups
    features = torch.as_tensor(embedding.features)
    return Groups.of(kmeans_groups(features, options.kmeans, seed=options.seed), len(embedding))


def save_bins(folder: Path, quantizer: SampleQuantizer, embedding: Embedding) -> None:
    """Leave the bins in the bins stage's folder."""
    arrays: dict[str, NDArray[Any]] = {
        "ranking": quantizer.ranking_,
        "bin_of": quantizer.bin_of_,
        "gains": quantizer.gains_,
        "groups": quantizer.groups_,
        "labels": embedding.labels,
    }
    if quantizer.weights_ is not None:
        arrays["weights"] = quantizer.weights_
    with atomic_write(folder / "bins.npz") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_bins(run: RunFolder) -> SampleQuantizer:
    """What `bins_stage` left, as a fitted quantizer."""
    record = run.require("bins", f"dq-fast bins {run.path}")
    known = set(BinOptions.__dataclass_fields__)
    options = BinOptions(**{name: value for name, value in record["parameters"].items() if name in known})
    with np.load(run.folder("bins") / "bins.npz", allow_pickle=False) as found:
        return options.quantizer().restore(
            found["ranking"],
            found["bin_of"],
            found["gains"],
            found["groups"],
            weights=found["weights"] if "weights" in found.files else None,
            labels=found["labels"],
            report=record["results"].get("report"),
        )


def sample_stage(run: RunFolder, quantizer: SampleQuantizer, embedding: Embedding, options: SampleOptions) -> Ints:
    """Draw from the bins; classes keep their shares also where the bins run over the whole set."""
    parameters = asdict(options)
    if run.is_current("sample", parameters):
        return load_sample(run)
    more = options.draw_arguments()
    sampler = options.sampler or quantizer.sampler
    if sampler == "adq":
        record = run.require("bins", f"dq-fast bins {run.path}")["parameters"]
        rows = embedding.factors(record["loss"]) if record["embedding"] == "gradient" else embedding.features
        more["importance"] = bin_importance(rows, quantizer.bin_of_, embedding.labels, n_bins=len(quantizer.bins_))
    if sampler == "difficulty":
        more["difficulty"] = class_difficulty(embedding.logits, embedding.labels)
    if "class_weights" in more:
        more["class_weights"] = numbered(
            "class_weights", more["class_weights"], list(run.require("source", "")["results"]["class_names"])
        )
    drawn = quantizer.sample(options.keep, seed=options.seed, **more)
    if not len(drawn):
        raise InputError(f"keep must be large enough to keep a sample of {len(embedding.ids)}, got {options.keep}")
    with run.writing("sample", parameters) as (folder, results):
        rows = np.sort(drawn)
        content: dict[str, Any] = {"rows": rows.tolist(), "ids": [embedding.ids[i] for i in rows]}
        if quantizer.weights_ is not None:
            content["weights"] = quantizer.weights_[rows].tolist()
        if quantizer.compat == "official":
            content["drawn"] = drawn.tolist()  # in the order that the official code draws them
        with atomic_write(folder / "sample.json") as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=0).encode())
        results.update(kept=len(rows))
    return rows


def load_sample(run: RunFolder) -> Ints:
    """What `sample_stage` left: rows of the embedding, ascending."""
    run.require("sample", f"dq-fast sample {run.path}")
    return np.array(read_json(run.folder("sample") / "sample.json")["rows"], np.int64)


def write_official_bins(run: RunFolder, quantizer: SampleQuantizer, folder: str, dataset: str) -> list[Path]:
    """The bins under the official code's file names, as positions in the source."""
    index = _positions(run)
    return write_official(folder, dataset, [index[rows] for rows in quantizer.bins_])


def write_official_sample(run: RunFolder, keep: float, folder: str, dataset: str) -> list[Path]:
    """The draw under the official code's file name, as positions in the source."""
    found = read_json(run.folder("sample") / "sample.json")
    rows = np.array(found.get("drawn", found["rows"]), np.int64)
    return write_official(folder, dataset, samples={keep: _positions(run)[rows]})


def _positions(run: RunFolder) -> Ints:
    run.require("embed", f"dq-fast embed SOURCE {run.path}")
    return np.load(run.folder("embed") / "index.npy", allow_pickle=False).astype(np.int64)


def at_depth(options: BinOptions, keep: float | None) -> BinOptions:
    """The options with `max_keep` set where the method's choice depends on how many are chosen.

    Raises:
        InputError: it does, and neither `max_keep` nor `keep` says how many.
    """
    if options.max_keep is not None or not needs_depth(options):
        return options
    if keep is None:
        raise InputError(
            f"max_keep must be given for method {options.method!r}, whose choice depends on how many are chosen, got "
            "none; give --max-keep F, and sample with --keep F"
        )
    return replace(options, max_keep=keep)


def needs_depth(options: BinOptions) -> bool:
    """Whether the method's choice depends on how many are chosen, so that `max_keep` has to be told."""
    return not options.ours and not METHODS[options.method].nested
