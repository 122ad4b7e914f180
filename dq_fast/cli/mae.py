"""`dq-fast mae-train`: a masked autoencoder that restores dropped patches; and --mae of the verbs that restore."""

from __future__ import annotations

import argparse
from typing import Any

from dq_fast.cli import arguments
from dq_fast.cli.console import (
    HelpFormatter,
    add_output_options,
    fraction,
    natural,
    positive,
    print_result,
    progress_bars,
)

_DESCRIPTION = """\
Trains a masked autoencoder (MAE) on a source: it learns to predict dropped patches from the kept ones. Restore with it:

  dq-fast mae-train photos/ photos.mae                              a small one; minutes on one core
  dq-fast restore photos.dq look/ --mae photos.mae                  look at what it does
  dq-fast export photos.dq restored/ --mae photos.mae               all images

It is trained on kept patterns like those of a store: the best patches by GradCAM++ scores of a classifier (--model,
--weights, as for `compress`; trained first where it has no weights), mixed with random ones, at drop ratios drawn from
--drops. The loss is the squared error of the dropped pixels, so that PSNR counts.

OUT gets mae.safetensors (weights, configuration, recipe, log) and log.csv. While it trains, OUT holds its state: the
same command continues an interrupted training, and ends with the same weights. The same seed gives the same weights on
the same machine with as many threads. docs/MAE.md has the recipe of the checkpoint that comes with the package
(--mae cifar10), and what it reaches.

How long it takes: an update of 32 images of 64 patches is about 0.1 s on one core with the default shape; time grows in
proportion to steps, batch size and patches, and with the square of the dims. More steps and wider networks restore
better.
"""


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "mae-train",
        help="train a masked autoencoder that restores dropped patches",
        description=_DESCRIPTION,
        formatter_class=HelpFormatter,
    )
    arguments.add_source(verb)
    verb.add_argument("out", metavar="OUT", help="folder for the checkpoint; continued where it was interrupted")
    group = verb.add_argument_group("autoencoder")
    group.add_argument("--patch", type=positive, metavar="PX", help="side of a patch (default: 4 up to 64 px, else 16)")
    group.add_argument(
        "--grid",
        type=arguments.size,
        metavar="RxC",
        help="rows and columns of patches it sees at once; larger images are restored window by window, smaller "
        "ones left out of training (default: what fits into the source's images, at most 16x16)",
    )
    group.add_argument("--dim", type=positive, default=64, metavar="N", help="width of the encoder")
    group.add_argument("--depth", type=natural, default=2, metavar="N", help="blocks of the encoder")
    group.add_argument("--heads", type=positive, default=4, metavar="N", help="attention heads of the encoder")
    group.add_argument("--decoder-dim", type=positive, default=64, metavar="N", help="width of the decoder")
    group.add_argument("--decoder-depth", type=natural, default=2, metavar="N", help="blocks of the decoder")
    group.add_argument("--decoder-heads", type=positive, default=4, metavar="N", help="attention heads of the decoder")
    group.add_argument(
        "--base",
        default="smooth",
        choices=("smooth", "none"),
        help="smooth: predict what the pixels differ by from a smooth fill, which needs far less training; none: as "
        "published",
    )
    arguments.add_model(verb)
    group = verb.add_argument_group("training")
    group.add_argument("--steps", type=positive, default=2500, metavar="N", help="updates")
    group.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images an update")
    group.add_argument("--lr", type=arguments.real, default=2e-3, metavar="R", help="peak learning rate of AdamW")
    group.add_argument("--weight-decay", type=arguments.real, default=0.01, metavar="W", help="of AdamW, on matrices")
    group.add_argument(
        "--ema", type=fraction, default=0.999, metavar="D", help="decay of the weights' running mean, which is saved"
    )
    group.add_argument(
        "--drops",
        type=drops,
        default=(0.2, 0.5),
        metavar="A,B",
        help="range of drop ratios θ; an update draws one",
    )
    group.add_argument(
        "--real-share",
        type=fraction,
        default=0.7,
        metavar="F",
        help="share of kept patterns from patch scores, the others are random; 0 needs no classifier",
    )
    group.add_argument(
        "--variant", default="paper", choices=("paper", "torchcam", "grad-cam"), help="of GradCAM++, as for compress"
    )
    group.add_argument(
        "--stop-after",
        type=positive,
        metavar="N",
        help="write the checkpoint after N of the --steps updates; the same command with a larger N, or none, goes on",
    )
    group.add_argument("--half", action="store_true", help="write the weights as float16, half as large")
    group = verb.add_argument_group("run")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, …; auto takes a GPU where there is one")
    group.add_argument("--workers", type=positive, metavar="N", help="threads that decode images (default: one a core)")
    group.add_argument("--seed", type=natural, default=0, help="of weights, order and patterns")
    add_output_options(verb)
    verb.set_defaults(run=run)


def drops(text: str) -> tuple[float, float]:
    """An argparse type: one drop ratio, or the lowest and the highest."""
    values = [fraction(part) for part in text.split(",")]
    if len(values) > 2 or values[0] > values[-1]:
        raise argparse.ArgumentTypeError(f"must be one drop ratio, or the lowest and the highest, got {text!r}")
    return values[0], values[-1]


def run(parsed: argparse.Namespace) -> None:
    """Train and report."""
    from dq_fast.pipeline import Options, pick_device
    from dq_fast.pipeline.mae import train_mae_on

    options = Options.of(**arguments.given(parsed))
    shape = ("dim", "depth", "heads", "decoder_dim", "decoder_depth", "decoder_heads", "base")
    recipe = ("steps", "batch_size", "lr", "weight_decay", "ema", "drops", "real_share", "seed")
    with progress_bars(parsed.quiet) as progress:
        result = train_mae_on(
            parsed.source,
            parsed.out,
            source_options=options.source,
            model_options=options.model,
            patch=parsed.patch,
            grid=parsed.grid,
            shape={name: getattr(parsed, name) for name in shape},
            recipe={name: getattr(parsed, name) for name in recipe},
            variant=parsed.variant,
            stop_after=parsed.stop_after,
            half=parsed.half,
            device=pick_device(parsed.device),
            workers=parsed.workers,
            progress=progress,
        )
    print_result(parsed, f"masked autoencoder of {parsed.source}", result)


def add_mae(verb: argparse.ArgumentParser) -> None:
    """--mae, for verbs that have --fill."""
    verb.add_argument(
        "--mae",
        metavar="CHECKPOINT",
        help="predict the dropped patches by a masked autoencoder instead: what mae-train wrote, 'cifar10' (comes with "
        "the package), Meta's mae_visualize_vit_*.pth, or a folder of a Hugging Face ViTMAE",
    )


def fill_of(parsed: argparse.Namespace) -> Any:
    """The fill that --fill and --mae ask for; on a GPU where there is one."""
    if parsed.mae is None:
        return parsed.fill
    from dq_fast.pipeline import pick_device
    from dq_fast.restore.mae import MAEFill

    return MAEFill(parsed.mae, device=pick_device("auto"))
