"""The main job: a source of images in, a store out."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dq_fast.data import Source
from dq_fast.embed.precision import check_precision
from dq_fast.errors import InputError
from dq_fast.pipeline import stages
from dq_fast.pipeline.choose import OnPlan, at_depth, bins_stage, plan_bins_stage, plan_unread, sample_stage
from dq_fast.pipeline.columns import read_column
from dq_fast.pipeline.options import BinOptions, Options, numbered
from dq_fast.pipeline.pack import pack_stage
from dq_fast.pipeline.run import RunFolder
from dq_fast.pipeline.summary import store_summary
from dq_fast.progress import Progress, silent
from dq_fast.restore import Store
from dq_fast.restore import open as open_store
from dq_fast.select.certificate import Certificate
from dq_fast.select.plan import Plan, parse_bytes
from dq_fast.select.quantizer import MethodPlan, check_parameters
from dq_fast.store import Keys


@dataclass
class CompressResult:
    """What `compress_run` did.

    Attributes:
        source: the images it was made from.
        store: the finished store.
        run: the folder with the stages' results (model, embedding, bins, sample), for other keep or drop ratios.
        seconds: time per stage; a stage that an earlier run had finished took next to none.
        reused: stages taken over from an earlier run.
        bad: unreadable images, each with id and reason.
        certificate: of the bins, where one was asked for.
    """

    source: Source
    store: Store
    run: RunFolder
    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)
    certificate: Certificate | None = None

    def summary(self) -> dict[str, Any]:
        """The store's facts (see `store_summary`) with the run's own, JSON-able."""
        return {
            **store_summary(self.store.path),
            "work": str(self.run.path),
            "seconds": self.seconds,
            "reused": self.reused,
            "bad": self.bad,
            **({} if self.certificate is None else {"certificate": self.certificate.as_dict()}),
        }


@dataclass
class _Timer:
    """Times the stages, and notes those that an earlier run had finished."""

    run: RunFolder
    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun
        if name not in self.run.written:
            self.reused.append(name)


def compress(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    keep: float = 0.6,
    n_bins: int = 10,
    drop: float = 0.2,
    resume: bool = False,
    work: str | os.PathLike[str] | None = None,
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    max_memory: int | str | None = None,
    certify: int = 0,
    keys: str | os.PathLike[str] | Keys | None = None,
    progress: Progress = silent,
    **more: Any,
) -> Store:
    """Compress a data set of images: choose samples, keep informative patches, write a store.

    Args:
        source: an ImageFolder, CIFAR-10/100 python batches, a parquet file or folder, WebDataset shards, an npz, or
            "mnist5k".
        out: the store's folder; it appears when everything is done. It must not exist yet.
        keep: fraction of the samples to keep, in (0, 1].
        n_bins: number of bins N.
        drop: θ, the fraction of patches dropped from every kept image, in [0, 1).
        resume: continue an interrupted run at the last finished stage; a finished one is returned as it is.
        work: folder for the stages' results; ``<out>.work`` by default. It may be deleted afterwards.
        device: "cpu", "cuda", "cuda:1", …; "auto" takes a GPU where there is one.
        batch_size: images per forward pass.
        workers: threads that decode images; None is one a core.
        max_memory: bytes, or text like "2GiB", that the bins may take beyond the embedding; None: what is free.
        certify: how many picks of the bins to look at again exhaustively.
        keys: folder for the position keys, to keep them apart from the store; or `dq_fast.Keys` with a passphrase, to
            encrypt them.
        progress: called as ``progress(stage, done, total)``.
        **more: any field of `dq_fast.pipeline.Options`' parts, e.g. ``model=``, ``weights=``, ``method="herding"``,
            ``by_class=False``, ``codec=``; or ``preset=``, by a name of `dq_fast.select.PRESETS`.

    Returns:
        The store: ``len(store)``, ``store[i] -> (image, label)``, ``store.ids``.

    Raises:
        InputError: a parameter is out of range, the source cannot be read, too many images are bad, or `out` exists.
    """
    if more.get("preset") is not None and n_bins == BinOptions.n_bins:
        options = Options.of(keep=keep, drop=drop, **more)  # the preset's number of bins, if it has one
    else:
        options = Options.of(keep=keep, n_bins=n_bins, drop=drop, **more)
    return compress_run(
        source,
        out,
        options,
        resume=resume,
        work=work,
        device=device,
        batch_size=batch_size,
        workers=workers,
        max_memory=max_memory,
        certify=certify,
        keys=keys,
        progress=progress,
    ).store


def compress_run(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options,
    *,
    resume: bool = False,
    work: str | os.PathLike[str] | None = None,
    device: str = "auto",
    batch_size: int = 128,
    workers: int | None = None,
    max_memory: int | str | None = None,
    certify: int = 0,
    on_plan: OnPlan | None = None,
    keys: str | os.PathLike[str] | Keys | None = None,
    progress: Progress = silent,
) -> CompressResult:
    """`compress`, with what it did and how long each stage took; `on_plan` is called with the plan of the bins."""
    parse_bytes(max_memory)
    check_parameters(**{**at_depth(options.bins, options.sample.keep).quantizer().get_params(), "certify": certify})
    if options.bins.group_by is not None:
        read_column(options.bins.group_by, "group_by")  # before hours of work, not after
    out = Path(out)
    work = Path(work) if work is not None else out.with_name(out.name + ".work")
    if out.exists() and not resume:
        raise InputError(
            f"{out} exists already: choose another folder, delete it, or give --resume to take it as it is"
        )
    if work.exists() and not resume and not out.exists():
        raise InputError(
            f"{work} exists already, from an earlier run: give --resume to continue it, or delete it to start over"
        )
    mine = not work.exists()
    run = RunFolder(work)
    timer = _Timer(run)
    try:
        device = stages.pick_device(device)
        check_precision("embed_precision", options.model.embed_precision, device)
        check_precision("precision", options.pack.precision, device)
        with timer.stage("source"):
            images = stages.source_stage(run, str(source), options.source)
        for name, given in (
            ("class_weights", options.sample.class_weights),
            ("drop_classes", options.pack.drop_classes),
        ):
            numbered(name, given or {}, images.class_names)  # before hours of work, not after
        with timer.stage("model"):
            classifier = stages.model_stage(
                run,
                images,
                options.model,
                device=device,
                max_bad=options.source.max_bad,
                workers=workers,
                progress=progress,
            )
    except InputError:
        if mine:  # nothing in it is worth keeping, and it would be in the way of the corrected call
            run.remove()
        raise
    with timer.stage("embed"):
        embedding = stages.embed_stage(
            run,
            images,
            classifier,
            max_bad=options.source.max_bad,
            device=device,
            batch_size=batch_size,
            workers=workers,
            precision=options.model.embed_precision,
            progress=progress,
        )
    with timer.stage("bins"):
        quantizer = bins_stage(
            run,
            embedding,
            at_depth(options.bins, options.sample.keep),
            device=device,
            max_memory=max_memory,
            certify=certify,
            on_plan=on_plan,
            progress=progress,
        )
    with timer.stage("sample"):
        rows = sample_stage(run, quantizer, embedding, options.sample)
    with timer.stage("pack"):
        pack_stage(
            run,
            images,
            classifier,
            embedding,
            rows,
            out,
            options.pack,
            keys=keys,
            device=device,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
    return CompressResult(
        images, open_store(out, keys=keys), run, timer.seconds, timer.reused, embedding.bad, quantizer.certificate_
    )


def plan_compress(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options,
    *,
    work: str | os.PathLike[str] | None = None,
    max_memory: int | str | None = None,
) -> tuple[dict[str, Any], Plan | MethodPlan]:
    """What `compress_run` would do: facts of the source and the plan of the bins; nothing is written or trained.

    The plan is from the number of images and the widths alone, without looking at rows, unless the work folder holds
    the embedding of an earlier run.
    """
    options = replace(options, bins=at_depth(options.bins, options.sample.keep))
    folder = Path(work) if work is not None else Path(out).with_name(Path(out).name + ".work")
    images = stages.open_part(str(source), options.source)
    facts: dict[str, Any] = {
        "images": len(images),
        "classes": len(images.class_names),
        "kept": round(options.sample.keep * len(images)),
    }
    if (folder / "embed" / "record.json").is_file():
        run = RunFolder(folder, create=False)
        return facts, plan_bins_stage(run, stages.load_embedding(run), options.bins, max_memory=max_memory)
    return facts, plan_unread(images.labels, stages.feature_width(images, options.model), options.bins, max_memory)
