"""`dq-fast train`: what a model trained on the data reaches."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from dq_fast.cli import arguments, keys
from dq_fast.cli.console import (
    HelpFormatter,
    add_output_options,
    emit,
    fraction,
    human_seconds,
    natural,
    positive,
    progress_bars,
    table,
)
from dq_fast.cli.mae import add_mae, fill_of

_DESCRIPTION = """\
Trains a classifier on the restored images of a store, or on a source, and tests it on images that are in neither.

  dq-fast train photos.dq                            on the store; tested on the source's own test part
  dq-fast train photos.dq --baseline random          on a random subset of the source, as many images as the store has
  dq-fast train photos.dq --baseline full            on the whole source the store was made from
  dq-fast train photos/ --test photos-test/          on any source

The recipe is the paper's for small images: SGD 0.1, momentum 0.9, weight decay 5e-4, cosine, crop and flip, 200 epochs.
The accuracy after the last epoch is the honest figure; the best epoch's, which papers often report, is shown beside it.
"""


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "train",
        help="train on a store or a source, and test",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
    )
    verb.add_argument("data", metavar="DATA", help="folder of a store, or a source")
    verb.add_argument("--test", metavar="SOURCE", help="test images (default: the test part of the source)")
    verb.add_argument(
        "--baseline",
        choices=("random", "full"),
        help="train on the source the store was made from instead: a random subset of the same size, or all of it",
    )
    verb.add_argument(
        "--keep", type=fraction, metavar="F", help="with --baseline random on a plain source: fraction of its images"
    )
    verb.add_argument(
        "--model", metavar="NAME", help="default: resnet18_cifar up to 64 px, timm's resnet18 for larger images"
    )
    verb.add_argument(
        "--input-size", type=arguments.size, metavar="HxW", help="default: the model's own, or the images' size"
    )
    verb.add_argument("--epochs", type=positive, default=200, metavar="N", help="passes over the training images")
    verb.add_argument(
        "--match-steps",
        action="store_true",
        help="train as many steps as the whole source takes in --epochs, so that small sets are not also trained less",
    )
    verb.add_argument("--batch-size", type=positive, metavar="N", help="default: 128, down to 16 for small sets")
    verb.add_argument("--lr", type=float, metavar="R", help="peak learning rate (default 0.1 at batches of 128)")
    verb.add_argument(
        "--seeds", type=positive, default=1, metavar="K", help="repeat with K seeds and report mean and spread"
    )
    verb.add_argument("--seed", type=natural, default=0, help="the first seed")
    keys.add_reading(verb)
    verb.add_argument(
        "--fill", default="mean", choices=("mean", "nearest", "inpaint"), help="what dropped patches become"
    )
    add_mae(verb)
    verb.add_argument("--device", default="auto", help="cpu, cuda, …; auto takes a GPU where there is one")
    verb.add_argument("--workers", type=positive, metavar="N", help="threads that decode images (default: one a core)")
    add_output_options(verb)
    verb.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Train and report."""
    from dq_fast.pipeline import train_on

    with progress_bars(parsed.quiet) as progress:
        result = train_on(
            parsed.data,
            test=parsed.test,
            baseline=parsed.baseline,
            keep=parsed.keep,
            model=parsed.model,
            input_size=parsed.input_size,
            epochs=parsed.epochs,
            match_steps=parsed.match_steps,
            batch_size=parsed.batch_size,
            lr=parsed.lr,
            seeds=range(parsed.seed, parsed.seed + parsed.seeds),
            keys=keys.to_read(parsed, parsed.data),
            fill=fill_of(parsed),
            device=parsed.device,
            workers=parsed.workers,
            progress=progress,
        )

    def show(console: Console) -> None:
        made = table(
            f"{result['model']} on {result['data']}: {result['images']:,} images, tested on {result['test_images']:,}",
            "seed",
            "accuracy, last epoch",
            "best epoch",
            "time",
        )
        for row in result["runs"]:
            made.add_row(str(row["seed"]), f"{row['last']:.2%}", f"{row['best']:.2%}", human_seconds(row["seconds"]))
        if len(result["runs"]) > 1:
            made.add_row("mean ± sd", f"{result['mean']:.2%} ± {result['sd']:.2%}", "", "")
        console.print(made)

    emit(parsed, result, show)
