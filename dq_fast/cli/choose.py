"""`dq-fast bins` and `dq-fast sample`: choosing samples, from a run of images or from bare embeddings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dq_fast.cli import arguments, change
from dq_fast.cli.console import HelpFormatter, add_output_options, print_result, progress_bars, show_plan
from dq_fast.errors import InputError

if TYPE_CHECKING:
    from dq_fast.pipeline import Options, RunFolder
    from dq_fast.select.certificate import Certificate

EXIT_INEXACT = 1

_BINS = """\
Splits samples into bins of diverse samples, or ranks them by another selection method. The plan (algorithm, reads,
memory, time) is printed before the work starts; --dry-run prints it and does nothing else.

Of images, after dq-fast embed SOURCE RUN:
  dq-fast bins run                                   ten bins within classes, of the loss gradients (the paper)
  dq-fast bins run --method herding --embedding features
  dq-fast bins run --certify 100                     and look at 100 picks again; exit status 1 if one is wrong

Of bare embeddings (text, anything): npy, npz:KEY, safetensors:NAME, parquet:COLUMN; larger than memory is fine:
  dq-fast bins vectors.npy --dry-run                 how it would be done
  dq-fast bins vectors.npy --labels labels.npy       writes vectors.bins.npz
  dq-fast bins data.parquet:embedding --label-column topic --id-column url --max-memory 2GiB --out topics.bins.npz
  dq-fast bins vectors.npy --kmeans 100              no labels: within 100 clusters
  dq-fast bins vectors.npy --similarity dot --bins 5 raw dot products

New images for a run, images out of it, without starting over (docs/INCREMENTAL.md); nothing is embedded twice:
  dq-fast bins photos/ --add run                     photos/ has got more images; the sample is drawn again, too
  dq-fast bins run --remove ids.txt                  ids, one a line; they stay out of the run
  dq-fast bins photos/ --add run --remove missing    some came, some are gone from photos/
  dq-fast bins photos/ --add run --refit             changed classes are ranked again: the bins that starting over gives
  dq-fast bins photos/ --add run --dry-run           what would be done

New rows for a bins file, or rows out of it, likewise:
  dq-fast bins old.npy --labels old.txt --incremental
  dq-fast bins new.npy --labels new.txt --add old.bins.npz
  dq-fast bins new.npy --labels new.txt --add old.bins.npz --refit --old old.npy
  dq-fast bins old.bins.npz --remove ids.txt --old old.npy
"""

_SAMPLE = """\
Draws samples from the bins of a RUN (into RUN/sample/sample.json, for dq-fast pack) or of a bins file (into --out).
Totals are exact, and bins and classes keep their shares.

  dq-fast sample run --keep 0.3
  dq-fast sample run --keep 10% --sampler early --floor 5
  dq-fast sample vectors.bins.npz --keep 0.1 --nested --out chosen.txt       ids, one a line
  dq-fast sample vectors.bins.npz --keep 0.1 --class-weights rare=3,common=1 --out rows.npy
  dq-fast sample run --keep 0.125 --official-name CIFAR10 --out selected/    bins made with --compat official
"""


def register(verbs: Any) -> None:
    """Add the verbs."""
    bins = verbs.add_parser(
        "bins",
        help="stage 2: split the samples into bins of diverse samples, or rank them by another method",
        description=_BINS,
        formatter_class=HelpFormatter,
    )
    bins.add_argument(
        "folder",
        metavar="RUN|EMBEDDINGS|SOURCE",
        help="run folder of dq-fast embed; or rows [n, d] in FILE.npy, FILE.npz:KEY, FILE.safetensors:NAME, "
        "FILE.parquet:COLUMN; with --add RUN the images, old and new",
    )
    arguments.add_preset(bins)
    arguments.add_bins(bins)
    group = bins.add_argument_group("embeddings files")
    group.add_argument("--out", metavar="FILE", help="bins file (default: beside the embeddings, NAME.bins.npz)")
    group.add_argument(
        "--factor", action="append", default=[], metavar="FILE", help="a further factor: rows are outer products"
    )
    group.add_argument(
        "--labels", metavar="FILE", help="class of each row: npy, npz:KEY, parquet:COLUMN, csv:COLUMN, txt"
    )
    group.add_argument(
        "--label-column", metavar="NAME", help="column of the embeddings' parquet or npz with the labels"
    )
    group.add_argument(
        "--ids",
        metavar="FILE",
        help="what the rows are called, likewise (default: row numbers); with --add RUN: images to add (default: all)",
    )
    group.add_argument("--id-column", metavar="NAME", help="column of the embeddings' parquet or npz with the ids")
    group.add_argument("--features", metavar="FILE", help="[n, D], for methods that need them")
    group.add_argument("--logits", metavar="FILE", help="[n, C], for methods that need them")
    change.add_options(bins)
    group = bins.add_argument_group("run")
    group.add_argument(
        "--official-name", metavar="DATASET", help="also write select_indices_DATASET_exp*.npy into --out"
    )
    group.add_argument("--device", default="auto", help="cpu, cuda, …; auto takes a GPU where there is one")
    group.add_argument(
        "--batch-size", type=arguments.positive, default=128, metavar="N", help="of --add: images per forward pass"
    )
    group.add_argument(
        "--workers",
        type=arguments.positive,
        metavar="N",
        help="of --add: threads that decode images (default: one a core)",
    )
    group.add_argument("--seed", type=arguments.natural, default=0, help="of methods that draw, and of k-means")
    bins.set_defaults(run=run_bins)

    sample = verbs.add_parser(
        "sample",
        help="stage 3: draw samples from the bins",
        description=_SAMPLE,
        formatter_class=HelpFormatter,
    )
    sample.add_argument("folder", metavar="RUN|BINS", help="run folder of dq-fast bins, or a bins file")
    arguments.add_preset(sample)
    arguments.add_sample(sample)
    group = sample.add_argument_group("output files")
    group.add_argument(
        "--out", metavar="FILE", help=".json (rows and ids), .npy (rows) or .txt (ids); with --official-name a folder"
    )
    group.add_argument("--official-name", metavar="DATASET", help="write select_indices_DATASET_KEEP.npy into --out")
    group.add_argument("--seed", type=arguments.natural, default=0, help="the same seed draws the same samples")
    sample.set_defaults(run=run_sample)
    for verb in (bins, sample):
        add_output_options(verb)


def _is_run(text: str) -> bool:
    """Whether a folder is meant rather than a file with rows; a folder of parquet files holds rows."""
    path = Path(text)
    if (path / "run.json").is_file():
        return True
    if path.is_dir():
        return not any(path.glob("*.parquet"))
    return not path.exists() and ":" not in text and path.suffix.lower() not in (
        ".npy", ".npz", ".safetensors", ".parquet", ".pq",
    )  # fmt: skip


_FILE_ONLY = ("factor", "labels", "label_column", "ids", "id_column", "features", "logits", "old")


def run_bins(parsed: argparse.Namespace) -> int:
    """Bins from a run's embedding, or from files; exit status 1 if a certificate finds a pick that is not exact."""
    from dq_fast import pipeline

    if change.is_change(parsed):
        change.change(parsed)
        return 0
    options = pipeline.Options.of(**arguments.given(parsed))
    if not parsed.dry_run:
        options = pipeline.Options(**{**vars(options), "bins": pipeline.at_depth(options.bins, None)})
    if _is_run(parsed.folder):
        given = [name for name in _FILE_ONLY if getattr(parsed, name)]
        if given:
            option = "--" + given[0].replace("_", "-")
            raise InputError(f"{option} must go with an embeddings file, got the run folder {parsed.folder}")
        certificate = _bins_of_run(parsed, options)
    else:
        certificate = _bins_of_files(parsed, options)
    return EXIT_INEXACT if certificate is not None and not certificate.holds else 0


def _bins_of_run(parsed: argparse.Namespace, options: Options) -> Certificate | None:
    from dq_fast import pipeline

    run = pipeline.RunFolder(parsed.folder, create=False)
    embedding = pipeline.load_embedding(run)
    if parsed.dry_run:
        _print_plan(parsed, pipeline.plan_bins_stage(run, embedding, options.bins, max_memory=parsed.max_memory))
        return None
    _check_official_out(parsed, options.bins.compat == "official")
    with progress_bars(parsed.quiet) as progress:
        quantizer = pipeline.bins_stage(
            run,
            embedding,
            options.bins,
            device=pipeline.pick_device(parsed.device),
            max_memory=parsed.max_memory,
            certify=parsed.certify,
            on_plan=show_plan(parsed),
            progress=progress,
        )
    result = change.facts(quantizer, "images", None if "bins" in run.written else _earlier(run))
    if parsed.official_name is not None:
        paths = pipeline.write_official_bins(run, quantizer, parsed.out, parsed.official_name)
        result["files"] = [str(path) for path in paths]
    print_result(parsed, f"bins of {parsed.folder}", result, quantizer.certificate_)
    return quantizer.certificate_


def _earlier(run: RunFolder) -> str:
    from dq_fast.pipeline import bins_changes

    changes = bins_changes(run)
    text = "from an earlier run"
    if changes:
        added, removed = (sum(c[name] for c in changes) for name in ("added", "removed"))
        text += f"; {added} images added and {removed} removed since; --refit ranks again"
    return text


def _check_official_out(parsed: argparse.Namespace, official: bool) -> None:
    """--official-name needs official bins and a folder; before the work, not after."""
    if parsed.official_name is None:
        if parsed.out is not None and official:
            raise InputError(f"--official-name must name the data set of the files in --out, got none for {parsed.out}")
        return
    if not official:
        raise InputError("--official-name must go with --compat official, got other bins")
    if parsed.out is None:
        raise InputError(
            f"--out must name the folder for the files of --official-name {parsed.official_name}, got none"
        )


def _bins_of_files(parsed: argparse.Namespace, options: Options) -> Certificate | None:
    from dq_fast import pipeline

    out = parsed.out
    if parsed.official_name is not None:
        _check_official_out(parsed, options.bins.compat == "official")
        out = None
    with progress_bars(parsed.quiet or parsed.dry_run) as progress:
        made = pipeline.bins_of_files(
            change.files(parsed),
            out,
            options.bins,
            max_memory=parsed.max_memory,
            certify=parsed.certify,
            dry_run=parsed.dry_run,
            on_plan=None if parsed.dry_run else show_plan(parsed),
            progress=progress,
        )
    if parsed.dry_run:
        _print_plan(parsed, made.plan)
        return None
    quantizer = made.file.quantizer
    taken_over = "from an earlier run" if made.reused else None
    result = {**change.facts(quantizer, "rows", taken_over), "file": str(made.path)}
    if parsed.official_name is not None:
        from dq_fast.select.official import write_official

        paths = write_official(parsed.out, parsed.official_name, quantizer.bins_)
        result["files"] = [str(path) for path in paths]
    print_result(parsed, f"bins of {parsed.folder}", result, quantizer.certificate_)
    return quantizer.certificate_


def _print_plan(parsed: argparse.Namespace, plan: Any) -> None:
    from dq_fast.cli.console import emit

    emit(
        parsed,
        {"plan": plan.as_dict()},
        lambda console: console.print(f"plan: {plan}", highlight=False, markup=False),
    )


def run_sample(parsed: argparse.Namespace) -> None:
    """A draw from the bins of a run, or of a bins file."""
    from dq_fast import pipeline
    from dq_fast.pipeline.embeddings import check_rows_path

    options = pipeline.Options.of(**arguments.given(parsed))
    if pipeline.is_bins_file(parsed.folder):
        _sample_of_file(parsed, options)
        return
    if Path(parsed.folder).is_file():
        raise InputError(f"{parsed.folder} must be a run folder or a bins file, got something else; make one with: "
                         f"dq-fast bins {parsed.folder}")  # fmt: skip
    run = pipeline.RunFolder(parsed.folder, create=False)
    embedding = pipeline.load_embedding(run)
    quantizer = pipeline.load_bins(run)
    _check_official_out(parsed, quantizer.compat == "official" and parsed.official_name is not None)
    if parsed.out is not None and parsed.official_name is None:
        check_rows_path(Path(parsed.out))
    rows = pipeline.sample_stage(run, quantizer, embedding, options.sample)
    result: dict[str, Any] = {"images": len(embedding.ids), "kept": len(rows), "ratio": len(rows) / len(embedding.ids)}
    if parsed.official_name is not None:
        (path,) = pipeline.write_official_sample(run, parsed.keep, parsed.out, parsed.official_name)
        result["file"] = str(path)
    elif parsed.out is not None:
        result["file"] = _copy(run, parsed.out)
    print_result(parsed, f"sample of {parsed.folder}", result)


def _copy(run: RunFolder, out: str) -> str:
    """The drawn ids (or rows, for npy) of a run, in another file."""
    from dq_fast.files import read_json
    from dq_fast.pipeline.embeddings import write_rows

    found = read_json(run.folder("sample") / "sample.json")
    write_rows(Path(out), found["rows"], found["ids"], found.get("weights"))
    return out


def _sample_of_file(parsed: argparse.Namespace, options: Options) -> None:
    from dq_fast import pipeline

    if parsed.official_name is not None:
        from dq_fast.select.official import write_official

        file = pipeline.BinsFile.load(parsed.folder)
        _check_official_out(parsed, file.quantizer.compat == "official")
        rows = file.quantizer.sample(options.sample.keep, seed=options.sample.seed, **options.sample.draw_arguments())
        (path,) = write_official(parsed.out, parsed.official_name, samples={options.sample.keep: rows})
    else:
        rows, _, path, file = pipeline.sample_of_file(parsed.folder, parsed.out, options.sample)
    n = len(file.quantizer.bin_of_)
    print_result(
        parsed,
        f"sample of {parsed.folder}",
        {"rows": n, "kept": len(rows), "ratio": len(rows) / n, "file": str(path)},
    )
