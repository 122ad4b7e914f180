"""`dq-fast report`: everything a run or a store tells, gathered for one page."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.embed import Embedding
from dq_fast.errors import BadImageError, InputError
from dq_fast.files import read_json
from dq_fast.pipeline.choose import load_bins
from dq_fast.pipeline.pack import recorded_keys
from dq_fast.pipeline.report_images import Fills, load_autoencoder, originals, patch_scores, spread_over_classes
from dq_fast.pipeline.report_tables import bin_bars, byte_bars, class_bars, second_bars, store_facts, text
from dq_fast.pipeline.run import STAGES, RunFolder
from dq_fast.pipeline.stages import load_embedding
from dq_fast.pipeline.summary import store_summary
from dq_fast.pipeline.times import stage_seconds
from dq_fast.progress import Progress, silent
from dq_fast.report import Report, check_path, write_page
from dq_fast.report.images import picture, sheet
from dq_fast.report.maps import require_matplotlib
from dq_fast.report.plane import check_projection
from dq_fast.report.views import bin_maps
from dq_fast.restore import open as open_store
from dq_fast.select import SampleQuantizer
from dq_fast.store import Keys, PackedStore
from dq_fast.store.manifest import package_versions

POINTS = 2000  # t-SNE of so many takes about ten seconds on one core
IMAGES = 8
_MOSAIC_SIDE = 512  # px of the picture of a mosaic
_MOSAIC_PATCHES = 32  # a side of it

Flags = NDArray[np.bool_]


@dataclass
class _Found:
    """What there is at the given path."""

    store: PackedStore | None = None
    run: RunFolder | None = None
    embedding: Embedding | None = None
    quantizer: SampleQuantizer | None = None
    class_names: tuple[str, ...] = ()
    kept: Flags | None = None  # of the embedding's rows


def write_report(
    path: str | os.PathLike[str],
    file: str | os.PathLike[str] | None = None,
    *,
    work: str | os.PathLike[str] | None = None,
    keys: str | os.PathLike[str] | Keys | None = None,
    fill: str = "mean",
    mae: str | os.PathLike[str] | None = None,
    images: int = IMAGES,
    points: int = POINTS,
    projection: str = "tsne",
    class_name: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write one HTML file about a store or a run folder.

    Args:
        path: a store, or the run folder of stages (``OUT.work``), however far they got.
        file: where to; None is ``<path>.html``. An earlier report is replaced, anything else is not.
        work: the run folder of a store; None is ``<path>.work``, if that is there.
        keys: folder of the position keys, if they are not in the store; None is where the run folder remembers that
            they were put.
        fill: what dropped patches become.
        mae: checkpoint of a masked autoencoder whose restoration is shown beside the fill's; "auto" is the one that
            comes with the package, for stores of small images in patches of 4 px.
        images: rows of the contact sheet.
        points: samples laid out in the plane, at most.
        projection: "tsne", "umap" or "pca".
        class_name: the class that is shown on its own; None is the largest.
        seed: of the images, the points and the layout.
        device: where the classifier runs.
        progress: called as ``progress("report", parts done, parts)``.

    Returns:
        report (the file), bytes, sections, left_out.

    Raises:
        InputError: there is neither, an option is wrong, a package is missing, or `file` is something else.
    """
    require_matplotlib()
    check_projection(projection)
    for name, value in (("images", images), ("points", points)):
        if value < 0:
            raise InputError(f"{name} must be at least 0, got {value}")
    path = Path(path)
    target = path.with_name(path.name + ".html") if file is None else Path(file)
    check_path(target)
    report = Report(str(path.name or path))
    found = _find(path, work, report)
    if class_name is not None and class_name not in found.class_names:
        known = ", ".join(map(repr, found.class_names[:20]))
        raise InputError(f"class must be one of the data set's ({known}), got {class_name!r}")
    if keys is None:
        keys = recorded_keys(path, work)
    fills = Fills(fill)
    if mae is not None and found.store is not None:
        fills = Fills(fill, *load_autoencoder(found.store, mae, device))
    parts: list[Callable[[], None]] = [
        lambda: _facts(report, found),
        lambda: _tables(report, found),
        lambda: _pictures(report, found, keys, fills, images, seed, device),
        lambda: _maps(report, found, points, projection, class_name, seed),
    ]
    for done, part in enumerate(parts):
        progress("report", done, len(parts))
        part()
    size = write_page(report, target)
    progress("report", len(parts), len(parts))
    return {"report": str(target), "bytes": size, "sections": report.sections(), "left_out": report.left_out}


def _find(path: Path, work: str | os.PathLike[str] | None, report: Report) -> _Found:
    found = _Found()
    if (path / "manifest.json").is_file():
        found.store = PackedStore(path)
        found.class_names = tuple(found.store.class_names)
        folder = path.with_name(path.name + ".work") if work is None else Path(work)
        if (folder / "run.json").is_file():
            found.run = RunFolder(folder, create=False)
        elif work is not None:
            raise InputError(f"work must be a run folder, got {folder}, which is none")
        else:
            report.left_out.append(f"Bins and times: there is no run folder {folder} any more.")
    elif (path / "run.json").is_file():
        found.run = RunFolder(path, create=False)
        report.left_out.append("Images and bytes: this is a run folder; give the store for them.")
    else:
        raise InputError(f"OUT must be a store or a run folder, got {path}, which is neither")
    if found.run is not None:
        _find_stages(found, found.run, report)
    return found


def _find_stages(found: _Found, run: RunFolder, report: Report) -> None:
    source = run.record("source")
    if source is None:
        report.left_out.append(f"Bins: the run {run.path} has no finished stage yet.")
        found.run = None if found.store is not None else run
        return
    if (
        found.store is not None
        and found.store.manifest["source"].get("fingerprint") != source["results"]["fingerprint"]
    ):
        report.left_out.append(f"Bins and times: the run folder {run.path} is of another source than the store.")
        found.run = None
        return
    found.class_names = tuple(source["results"]["class_names"])
    if run.record("embed") is None:
        report.left_out.append("Bins: the images were not embedded yet.")
        return
    found.embedding = load_embedding(run)
    if run.record("bins") is None:
        report.left_out.append("Bins: they were not made yet.")
    else:
        found.quantizer = load_bins(run)
    ids: set[str] | None = None
    if found.store is not None:
        ids = set(found.store.ids)
    elif run.record("sample") is not None:
        ids = set(read_json(run.folder("sample") / "sample.json")["ids"])
    else:
        report.left_out.append("Kept samples: none were drawn yet.")
    if ids is not None:
        found.kept = np.array([id in ids for id in found.embedding.ids], bool)


def _facts(report: Report, found: _Found) -> None:
    if found.store is not None:
        summary = store_summary(found.store.path)
        report.summary = store_facts(summary)
        report.bytes = byte_bars(summary)
        report.versions = {name: str(version) for name, version in summary["versions"].items()}
        report.parameters["store"] = {name: text(value) for name, value in summary["parameters"].items()}
    else:
        report.versions = package_versions()
    if found.run is None:
        return
    source = found.run.record("source")
    if found.store is None and source is not None:
        results = source["results"]
        report.summary = [("source", source["parameters"]["spec"]), ("images", f"{results['images']:,}")]
        report.summary.append(("classes", f"{len(results['class_names']):,}"))
        if found.kept is not None:
            report.summary.append(("kept", f"{int(found.kept.sum()):,}"))
    for stage in STAGES:
        record = found.run.record(stage)
        if record is not None:
            report.parameters[stage] = {name: text(value) for name, value in record["parameters"].items()}
    seconds = stage_seconds(found.run.path)
    report.seconds = second_bars({stage: seconds[stage] for stage in (*STAGES, "pack") if stage in seconds})
    if not report.seconds:
        report.left_out.append("Times: the run folder has none.")


def _tables(report: Report, found: _Found) -> None:
    names = found.class_names
    if found.embedding is not None:
        labels = found.embedding.labels
        report.classes = class_bars(names, labels, None if found.kept is None else labels[found.kept])
    elif found.store is not None:
        report.classes = class_bars(names, None, found.store.labels)
    if found.quantizer is not None:
        report.bins = bin_bars(found.quantizer, found.kept)


def _pictures(
    report: Report,
    found: _Found,
    keys: str | os.PathLike[str] | Keys | None,
    fills: Fills,
    count: int,
    seed: int,
    device: str,
) -> None:
    if found.store is None or not len(found.store):
        return
    side = min(_MOSAIC_SIDE, _MOSAIC_PATCHES * found.store.patch)
    corner = found.store.mosaic(0)[:side, :side]
    report.mosaic = picture(corner, "kept patches of many images, shuffled", side=_MOSAIC_SIDE, photo=side > 256)
    if not count:
        return
    try:
        store = open_store(found.store.path, keys=keys, fill=fills.fill)
        store.patches(0)
    except InputError as error:
        report.left_out.append(f"Images: {error}.")
        return
    original = originals(store)
    if original is None:
        report.left_out.append("Original images and attention: the source is not where it was, or has changed.")
    scores = None if found.run is None or original is None else patch_scores(found.run, store, device)
    if original is not None and scores is None:
        report.left_out.append("Attention: it takes the run's classifier, which is not there.")
    chosen = spread_over_classes(store.labels, count, seed)
    report.fills = fills.words()
    try:
        report.sheets = [sheet(store, i, original=original, scores=scores, mae=fills.mae) for i in chosen]
    except BadImageError as error:
        report.left_out.append(f"Original images and attention: {error}.")
        report.sheets = [sheet(store, i, original=None, scores=None, mae=fills.mae) for i in chosen]


def _maps(report: Report, found: _Found, points: int, projection: str, class_name: str | None, seed: int) -> None:
    if found.embedding is None or found.quantizer is None or not points:
        return
    number = None if class_name is None else found.class_names.index(class_name)
    report.maps = bin_maps(
        found.embedding.features,
        found.embedding.labels,
        found.class_names,
        found.quantizer.bin_of_,
        len(found.quantizer.bins_),
        found.kept,
        points=points,
        projection=projection,
        shown_class=number,
        seed=seed,
    )
    if not report.maps:
        report.left_out.append("Bins in the plane: too few samples, or their features are all alike.")
