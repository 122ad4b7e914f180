"""Bins of bare embeddings, from files to a bins file: no images, no run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError
from dq_fast.files import atomic_write
from dq_fast.pipeline.bins_file import BinsFile, fingerprint, is_bins_file
from dq_fast.pipeline.choose import OnPlan
from dq_fast.pipeline.columns import read_column, split_spec
from dq_fast.pipeline.options import BinOptions, SampleOptions
from dq_fast.progress import Progress, silent
from dq_fast.select import Groups, SampleQuantizer, kmeans_groups
from dq_fast.select.plan import Plan
from dq_fast.select.quantizer import MethodPlan, check_parameters
from dq_fast.select.rows import Factors, as_factors
from dq_fast.select.samplers import bin_importance

Ints = NDArray[np.int64]

SAMPLE_SUFFIXES = (".json", ".npy", ".txt")


@dataclass(frozen=True)
class EmbeddingFiles:
    """Where bare embeddings are, and what is known of their rows; specs are files, or "file:name".

    Attributes:
        rows: embeddings: one, or several factors.
        labels: one value a row; or the name of a column beside the (first) embedding.
        ids: what the rows are called, likewise.
        features, logits: for methods that need them.
    """

    rows: tuple[str, ...]
    labels: str | None = None
    ids: str | None = None
    features: str | None = None
    logits: str | None = None

    def read(self) -> Factors:
        """The rows, in place where the files allow it."""
        return as_factors(self.rows[0] if len(self.rows) == 1 else self.rows)

    def column(self, spec: str | None, what: str) -> NDArray[Any] | None:
        """One value a row: from a file, or from a column of the embeddings' own file."""
        if spec is None:
            return None
        path, _ = split_spec(spec)
        own, _ = split_spec(self.rows[0])
        if not path.exists() and "/" not in spec and own.suffix.lower() in (".parquet", ".pq", ".npz", ""):
            return read_column(f"{own}:{spec}", what)
        return read_column(spec, what)

    def fingerprints(self) -> dict[str, Any]:
        """Every file with what it holds, to tell whether a bins file is of these."""
        found: dict[str, Any] = {"rows": [fingerprint(spec) for spec in self.rows]}
        for name in ("labels", "ids", "features", "logits"):
            spec = getattr(self, name)
            if spec is not None:
                found[name] = fingerprint(spec) if split_spec(spec)[0].exists() else f"column {spec}"
        return found


@dataclass
class FileBins:
    """What `bins_of_files` did: the file, whether it was there already, and the plan (None then)."""

    file: BinsFile
    path: Path
    reused: bool
    plan: Plan | MethodPlan | None = None


def bins_of_files(
    files: EmbeddingFiles,
    out: str | Path | None,
    options: BinOptions,
    *,
    max_memory: int | str | None = None,
    certify: int = 0,
    dry_run: bool = False,
    on_plan: OnPlan | None = None,
    progress: Progress = silent,
) -> FileBins:
    """Split the rows of embedding files into bins, and write a bins file.

    Args:
        files: the rows.
        out: the bins file; None is beside the embeddings. One that is there with the same parameters and data is taken
            over; any other is in the way.
        options: how; `embedding` and `loss` do not matter.
        max_memory: see `SampleQuantizer`.
        certify: how many picks to look at again, also of bins that were there already.
        dry_run: only plan; nothing is written.
        on_plan: called with the plan before the work starts.
        progress: called as ``progress("bins", rows ranked, n)``.

    Raises:
        InputError: files that cannot be read, lengths that differ, or another file in the way.
    """
    quantizer = options.quantizer(max_memory=max_memory)
    check_parameters(**{**quantizer.get_params(), "certify": certify})
    path = Path(out) if out is not None else default_bins_path(files.rows[0], options.compat)
    factors = files.read()
    labels = files.column(files.labels, "labels")
    ids = files.column(files.ids, "ids")
    group_column = files.column(options.group_by, "group_by")
    marks = files.fingerprints()
    parameters = {"by_class": options.by_class, "kmeans": options.kmeans, "group_by": options.group_by}
    if group_column is not None and options.group_by is not None and split_spec(options.group_by)[0].exists():
        marks["group_by"] = fingerprint(options.group_by)
    data = {"specs": asdict(files), "fingerprints": marks, "rows": len(factors)}
    found = None if dry_run else _found(path, quantizer, data, parameters)
    if found is None:
        groups = _groups(files, factors, group_column, options)
        plan = quantizer.plan(factors, labels, groups=groups)
        if on_plan is not None:
            on_plan(plan)
        if dry_run:
            return FileBins(BinsFile(quantizer, {}), path, False, plan)
        quantizer.fit(
            factors,
            labels,
            groups=groups,
            ids=ids,
            features=files.features,
            logits=files.logits,
            plan=plan,
            progress=progress,
        )
        quantizer.max_memory = None  # does not change the result: not a parameter of it
        found = BinsFile(
            quantizer,
            {"data": data, "grouping": parameters, "report": quantizer.report_, "plan": plan.as_dict()},
        )
        found.save(path)
        result = FileBins(found, path, False, plan)
    else:
        result = FileBins(found, path, True)
    if certify:
        found.quantizer.certificate_ = found.quantizer.certificate(factors, certify, progress=progress)
    return result


def default_bins_path(spec: str, compat: str | None = None) -> Path:
    """Beside the embeddings: "x.npy" has "x.bins.npz", and "x.official.bins.npz" with compat."""
    path, name = split_spec(spec)
    parts = [path.stem, name if name and name.isidentifier() else None, compat, "bins.npz"]
    return path.with_name(".".join(part for part in parts if part))


def _found(path: Path, quantizer: SampleQuantizer, data: dict[str, Any], grouping: dict[str, Any]) -> BinsFile | None:
    """The bins file that is there already, if it is of the same rows with the same parameters."""
    if not path.exists():
        return None
    if not is_bins_file(path):
        raise InputError(f"out must be a bins file or not exist yet, got {path}, which is something else")
    there = BinsFile.load(path)
    mine = {**quantizer.get_params(), "max_memory": None, "certify": 0}
    theirs = {**there.quantizer.get_params(), "max_memory": None, "certify": 0}
    same = (
        mine == theirs
        and there.about.get("grouping") == grouping
        and there.about.get("data", {}).get("fingerprints") == data["fingerprints"]
        and not there.about.get("changes")
    )
    if not same:
        raise InputError(
            f"out must not exist yet, or be of the same rows and parameters, got {path}, which is of others: give "
            "another --out, or delete it"
        )
    return there


def _groups(files: EmbeddingFiles, factors: Factors, column: Any, options: BinOptions) -> Any:
    if column is not None:
        return column
    if options.kmeans is None:
        return None if options.by_class else "all"
    rows = factors.tensors[0]
    if files.features is not None:
        rows = as_factors(files.features).tensors[0]
    elif len(factors.tensors) > 1:
        raise InputError("features must be given to make clusters of an embedding of several factors, got none")
    return Groups.of(kmeans_groups(rows, options.kmeans, seed=options.seed), len(factors))


def sample_of_file(
    path: str | Path, out: str | Path | None, options: SampleOptions
) -> tuple[Ints, NDArray[Any], Path, BinsFile]:
    """Draw from a bins file, and write rows and ids.

    Args:
        path: the bins file.
        out: ".json" (rows, ids, weights where there are some), ".npy" (rows), or ".txt" (an id a line); None is a json
            beside the bins file.
        options: of the draw.

    Returns:
        Rows, ids, where they were written, and the bins file.
    """
    file = BinsFile.load(path)
    target = Path(out) if out is not None else _sample_path(Path(path))
    check_rows_path(target)
    q = file.quantizer
    more = options.draw_arguments()
    if "class_weights" in more:
        more["class_weights"] = _by_name(more["class_weights"], q)
    if options.sampler == "adq":
        sources = EmbeddingFiles(**{**file.about["data"]["specs"], "rows": tuple(file.about["data"]["specs"]["rows"])})
        strata = q.groups_ if q.labels_ is None else q.labels_
        more["importance"] = bin_importance(sources.read().tensors, q.bin_of_, strata, n_bins=len(q.bins_))
    if options.sampler == "difficulty":
        raise InputError("sampler 'difficulty' needs the logits of a run folder: got a bins file")
    drawn = q.sample(options.keep, seed=options.seed, **more)
    ids = q.ids_[drawn]
    weights = None if q.weights_ is None else q.weights_[drawn].tolist()
    write_rows(target, drawn.tolist(), ids.tolist(), weights)
    return drawn, ids, target, file


def write_rows(target: Path, rows: list[int], ids: list[Any], weights: list[float] | None) -> None:
    """Write drawn rows as the file's name says: json (rows, ids, weights), npy (rows) or txt (ids, one a line)."""
    with atomic_write(target) as stream:
        if target.suffix.lower() == ".npy":
            np.save(stream, np.array(rows, np.int64), allow_pickle=False)
        elif target.suffix.lower() == ".txt":
            stream.write("".join(f"{i}\n" for i in ids).encode())
        else:
            content: dict[str, Any] = {"rows": rows, "ids": ids}
            if weights is not None:
                content["weights"] = weights
            stream.write(json.dumps(content, ensure_ascii=False, indent=0).encode())


def check_rows_path(target: Path) -> None:
    """Raise where a file's name does not say how drawn rows are written; before the draw, not after."""
    if target.suffix.lower() not in SAMPLE_SUFFIXES:
        raise InputError(f"out must be a file of one of the kinds {', '.join(SAMPLE_SUFFIXES)}, got {target}")


def _sample_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".npz").removesuffix(".bins") + ".sample.json")


def _by_name(weights: dict[str, float], q: SampleQuantizer) -> dict[int, float]:
    """Weights by the classes' numbers, from weights by their names."""
    names = q.group_names_ if q.labels_ is None else q.classes_
    known = [] if names is None else [str(name) for name in names.tolist()]
    for name in weights:
        if name not in known:
            raise InputError(
                f"class_weights must name classes ({', '.join(known[:20]) or 'there are none'}), got {name!r}"
            )
    return {known.index(name): weight for name, weight in weights.items()}
