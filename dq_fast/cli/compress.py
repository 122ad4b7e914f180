"""`dq-fast compress`: the main job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dq_fast.cli import arguments, keys
from dq_fast.cli.console import (
    HelpFormatter,
    add_output_options,
    emit,
    human_bytes,
    human_seconds,
    positive,
    progress_bars,
    show_plan,
    table,
)

if TYPE_CHECKING:
    from dq_fast.pipeline import Options

_DESCRIPTION = """\
Compresses a data set of images: trains or loads a classifier, splits the samples into bins of diverse samples, draws
from every bin, scores the patches of the drawn images, and writes the informative ones to a store.

  dq-fast compress photos/ photos.dq --holdout 0.2 --train
  dq-fast compress cifar-10-batches-py cifar.dq --model resnet20_cifar --weights resnet20.th --keep 0.3
  dq-fast compress photos.parquet photos.dq --model efficientnet_lite0 --pretrained --keep 0.6 --drop 0.2
  dq-fast compress photos/ photos.dq --method graph-cut --center --embedding features --keep 10% --dry-run

OUT appears when everything is done. What the stages found out is kept in OUT.work (it may be deleted); an interrupted
run is continued at its last finished stage by the same command with --resume, and ends with the same bytes.
"""


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "compress",
        help="the main job: choose samples, cut patches, write a store",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
    )
    arguments.add_source(verb)
    verb.add_argument("out", metavar="OUT", help="folder of the store; must not exist yet")
    arguments.add_preset(verb)
    arguments.add_sample(verb)
    arguments.add_bins(verb)
    arguments.add_model(verb)
    arguments.add_embedding(verb)
    arguments.add_pack(verb)
    arguments.add_run(verb)
    group = verb.add_argument_group("this verb")
    group.add_argument("--resume", action="store_true", help="continue an interrupted run at the last finished stage")
    group.add_argument("--work", metavar="DIR", help="folder for the stages' results (default: OUT.work)")
    group.add_argument(
        "--train",
        action="store_true",
        help="then train classifiers on the full data, the store, and a random subset of the same size, and compare",
    )
    group.add_argument(
        "--epochs", type=positive, metavar="N", help="of that training (default: 5; dq-fast train has the paper's 200)"
    )
    group.add_argument("--test", metavar="SOURCE", help="test images for --train (default: the source's own test part)")
    add_output_options(verb)
    verb.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Compress, then train and compare if asked; exit status 1 if a certificate finds a pick that is not exact."""
    from dq_fast.pipeline import Options, compare_training, compress_run, find_test_source

    options = Options.of(**arguments.given(parsed))
    if parsed.dry_run:
        _dry_run(parsed, options)
        return 0
    # Before hours of work, not after: is there something to test on?
    test = find_test_source(parsed.source, options.source, parsed.test) if parsed.train else None
    with progress_bars(parsed.quiet) as progress:
        done = compress_run(
            parsed.source,
            parsed.out,
            options,
            resume=parsed.resume,
            work=parsed.work,
            device=parsed.device,
            batch_size=parsed.batch_size,
            workers=parsed.workers,
            max_memory=parsed.max_memory,
            certify=parsed.certify,
            on_plan=show_plan(parsed),
            keys=keys.to_write(parsed),
            progress=progress,
        )
        comparison = None
        if test is not None:
            comparison = compare_training(
                done, test, epochs=parsed.epochs, seed=parsed.seed, device=parsed.device, progress=progress
            )
    result = done.summary()
    if comparison is not None:
        result["training"] = comparison

    def show(console: Console) -> None:
        made = table(f"{parsed.source} → {parsed.out}", "what", "before", "after", "kept")
        made.add_row(
            "samples", f"{result['source_images']:,}", f"{result['images']:,}", f"{result['kept_samples']:.1%}"
        )
        made.add_row("patches of the kept images", "", f"{result['patches']:,}", f"{result['kept_pixels']:.1%}")
        made.add_row("samples × pixels", "", "", f"{result['samples_times_pixels']:.1%}")
        made.add_row(
            "bytes",
            human_bytes(result["source_bytes"]),
            human_bytes(result["store_bytes"]),
            f"{result['bytes_ratio']:.1%}",
        )
        console.print(made)
        times = table("time", "stage", "took")
        for stage, seconds in result["seconds"].items():
            times.add_row(
                stage, "taken over from the earlier run" if stage in result["reused"] else human_seconds(seconds)
            )
        console.print(times)
        if comparison is not None:
            trained = table(
                f"{comparison['model']}, {comparison['epochs']} epochs, {comparison['test_images']:,} test images",
                "trained on",
                "images",
                "accuracy, last epoch",
                "best epoch",
                "time",
            )
            for row in comparison["rows"]:
                trained.add_row(
                    row["data"],
                    f"{row['images']:,}",
                    f"{row['last']:.2%}",
                    f"{row['best']:.2%}",
                    human_seconds(row["seconds"]),
                )
            console.print(trained)
        if done.certificate is not None:
            console.print(str(done.certificate), highlight=False, markup=False)
        for bad in result["bad"][:5]:
            console.print(f"skipped {bad['id']}: {bad['reason']}", highlight=False, markup=False)
        if len(result["bad"]) > 5:
            console.print(f"… and {len(result['bad']) - 5} more; --json lists all", highlight=False)
        scoring = result["parameters"].get("scoring")
        if scoring is not None:
            console.print(
                f"patches scored in {scoring['precision']}, {scoring['memory_format']}: {scoring['why']}",
                highlight=False,
                markup=False,
            )
        console.print(
            f"The stages' results are in {result['work']}, for other ratios; it may be deleted.",
            highlight=False,
            markup=False,
        )

    emit(parsed, result, show)
    return 1 if done.certificate is not None and not done.certificate.holds else 0


def _dry_run(parsed: argparse.Namespace, options: Options) -> None:
    """The plan, and nothing else."""
    from dq_fast.pipeline import plan_compress

    facts, plan = plan_compress(parsed.source, parsed.out, options, work=parsed.work, max_memory=parsed.max_memory)

    def show(console: Console) -> None:
        console.print(
            f"{parsed.source}: {facts['images']:,} images in {facts['classes']} classes, {facts['kept']:,} to keep\n"
            f"plan of the bins: {plan}",
            highlight=False,
            markup=False,
        )

    emit(parsed, {**facts, "plan": plan.as_dict()}, show)
