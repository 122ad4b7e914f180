"""The options that several verbs share, and how they become `dq_fast.pipeline.Options`."""

from __future__ import annotations

import argparse
from typing import Any

from dq_fast.cli import keys
from dq_fast.cli.console import fraction, natural, positive

_SOURCE_HELP = (
    "folder of class folders, CIFAR-10/100 python batches, parquet file or folder, WebDataset tar shards, npz with x "
    "and y, or the built-in mnist5k; 'kind:path' forces a reader (e.g. parquet:data)"
)


SAMPLERS = ("uniform", "first", "gain", "early", "adq", "difficulty")  # of dq_fast.select, which is slow to import


def size(text: str) -> tuple[int, int]:
    """An argparse type: "224" or "224x192" (height x width)."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 2) or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise argparse.ArgumentTypeError(f"must be a size like 224 or 224x192 (height x width), got {text!r}")
    return int(parts[0]), int(parts[-1])


def channels(text: str) -> tuple[float, float, float]:
    """An argparse type: one number, or three separated by commas."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(f"must be one number or three separated by commas, got {text!r}")
    return (values * 3)[0], (values * 3)[1], (values * 3)[2]


def add_source(verb: argparse.ArgumentParser) -> None:
    """SOURCE and how it is read."""
    verb.add_argument("source", metavar="SOURCE", help=_SOURCE_HELP)
    group = verb.add_argument_group("source")
    group.add_argument("--split", default="train", help="part of a source that has parts")
    group.add_argument(
        "--holdout",
        type=fraction,
        default=0.0,
        metavar="F",
        help="set this fraction of every class aside for testing, uncompressed (for sources without a test part)",
    )
    group.add_argument("--image-column", metavar="NAME", help="parquet column with the images, if not found by itself")
    group.add_argument("--label-column", metavar="NAME", help="parquet column with the labels, if not found by itself")
    group.add_argument(
        "--max-bad",
        type=fraction,
        default=0.01,
        metavar="F",
        help="unreadable images are skipped and listed; more than this fraction stops the run",
    )


def add_model(verb: argparse.ArgumentParser) -> None:
    """The classifier behind embeddings and patch scores."""
    group = verb.add_argument_group("model (its features choose the samples, its class activations the patches)")
    group.add_argument(
        "--model",
        metavar="NAME",
        help="resnet20_cifar, resnet18_cifar, efficientnet_lite0, any timm model, or package.module:factory "
        "(default: resnet20_cifar for images up to 64 px, timm's resnet18 for larger ones)",
    )
    group.add_argument("--weights", metavar="FILE", help="safetensors or torch file with the model's weights")
    group.add_argument("--pretrained", action="store_true", help="take the weights that the model's package offers")
    group.add_argument(
        "--train-epochs",
        type=natural,
        metavar="N",
        help="train the model on SOURCE first (default: 10 where no weights are given, as in the paper, else 0)",
    )
    group.add_argument(
        "--input-size", type=size, metavar="HxW", help="size images enter the model with (default: its own)"
    )
    group.add_argument("--mean", type=channels, metavar="M", help="normalisation, in [0, 1] (default: the model's own)")
    group.add_argument("--std", type=channels, metavar="S", help="normalisation, in [0, 1] (default: the model's own)")


def add_embedding(verb: argparse.ArgumentParser) -> None:
    """How images are embedded."""
    verb.add_argument_group("embedding").add_argument(
        "--embed-precision",
        default="float32",
        choices=("float32", "bfloat16", "float16"),
        help="of the model when it embeds images; never chosen by itself, because bins are rankings that hang on it",
    )


def add_preset(verb: argparse.ArgumentParser) -> None:
    """A preset; it changes defaults of the options, see `dq_fast.cli.main`."""
    verb.add_argument(
        "--preset",
        metavar="NAME",
        help="parameters by name (docs/SELECT.md), paper is the default; options go before them",
    )
    verb.set_defaults(verb_parser=verb)


def add_bins(verb: argparse.ArgumentParser, *, images: bool = True) -> None:
    """How samples are split into bins, or ranked."""
    group = verb.add_argument_group("bins")
    group.add_argument("--bins", dest="n_bins", type=positive, default=10, metavar="N", help="number of bins")
    group.add_argument(
        "--method",
        default="dq",
        metavar="NAME",
        help="dq (this paper's bins), or another selection method: random, graph-cut, facility-location, k-center, "
        "herding, craig, grad-match, least-confidence, entropy, margin, grand, el2n, forgetting, cal, deepfool, "
        "contextual-diversity, glister; they rank samples, and sample takes the first",
    )
    group.add_argument(
        "--algorithm",
        default="auto",
        choices=("auto", "naive", "gram", "lazy"),
        help="that computes this paper's bins; all give the same, auto is fastest",
    )
    group.add_argument(
        "--global", dest="by_class", action="store_false", help="choose over the whole set, not within classes"
    )
    group.add_argument(
        "--group-by",
        metavar="COLUMN",
        help="choose within equal values of this column instead of classes: FILE (npy, npz:KEY, parquet:COLUMN, "
        "csv:COLUMN, txt), or the name of a column beside the embeddings",
    )
    group.add_argument(
        "--kmeans", type=positive, metavar="K", help="choose within K clusters of the features (extra sklearn)"
    )
    group.add_argument(
        "--lam", type=float, default=1.0, metavar="L", help="λ, weight of the gain's representation term"
    )
    group.add_argument(
        "--plain-cosine", dest="shifted", action="store_false", help="similarity cos instead of ½ + ½ cos"
    )
    group.add_argument(
        "--similarity", default="cosine", choices=("cosine", "dot"), help="dot: raw dot products of the rows"
    )
    group.add_argument("--center", action="store_true", help="compare what tells samples from the mean of their class")
    group.add_argument(
        "--max-keep",
        type=fraction,
        metavar="F",
        help="other methods: rank this fraction of each group only (default: all; compress: what --keep needs)",
    )
    group.add_argument(
        "--set",
        dest="options",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of another method, e.g. --set normalised=false; may be repeated",
    )
    group.add_argument(
        "--compat",
        choices=("official",),
        help="official: the published code's bins and draws, rounding and seeding too",
    )
    group.add_argument(
        "--certify", type=natural, default=0, metavar="K", help="look at K random picks again, exhaustively"
    )
    group.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="that may be taken beyond the input, e.g. 2GiB (default: half of what is free)",
    )
    group.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    if images:
        group.add_argument(
            "--embedding",
            default="gradient",
            choices=("gradient", "features"),
            help="what similarities are taken between",
        )
        group.add_argument(
            "--loss",
            default="ce",
            choices=("ce", "double_softmax"),
            help="of the gradients; the official code ran double_softmax",
        )


def setting(text: str) -> tuple[str, Any]:
    """An argparse type: NAME=VALUE, the value a number, true, false, or text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    if value.lower() in ("true", "false"):
        return name, value.lower() == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def weights(text: str) -> tuple[float, ...]:
    """An argparse type: numbers >= 0 separated by commas."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (-1.0,)
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"must be numbers of at least 0 separated by commas, got {text!r}")
    return found


def class_weights(text: str) -> dict[str, float]:
    """An argparse type: CLASS=NUMBER pairs separated by commas."""
    found = {}
    for part in text.split(","):
        name, _, value = part.rpartition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            found[""] = -1.0
    if "" in found or min(found.values()) < 0:
        raise argparse.ArgumentTypeError(f"must be CLASS=NUMBER pairs separated by commas, got {text!r}")
    return found


def class_fractions(text: str) -> dict[str, float]:
    """An argparse type: CLASS=FRACTION pairs separated by commas."""
    try:
        return {name.strip(): fraction(str(ratio)) for name, ratio in class_weights(text).items()}
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"must be CLASS=FRACTION pairs separated by commas, got {text!r}") from None


def real(text: str) -> float:
    """An argparse type: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")
    return value


def add_sample(verb: argparse.ArgumentParser) -> None:
    """How many samples are drawn, and which."""
    group = verb.add_argument_group("samples")
    group.add_argument("--keep", type=fraction, default=0.6, metavar="F", help="fraction of the samples to keep")
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        help="uniform: at random from every bin; first: the first picks; gain: larger gains likelier; early: early "
        "bins more at small keeps; adq: bins by importance; difficulty: classes by how hard they are (default uniform; "
        "first for other methods than dq)",
    )
    group.add_argument(
        "--nested", action="store_true", help="a smaller keep is a subset of a larger one, for the same seed"
    )
    group.add_argument("--floor", type=natural, default=0, metavar="N", help="at least N of every class")
    group.add_argument("--bin-weights", type=weights, metavar="W,W,…", help="relative rates of the bins")
    group.add_argument(
        "--class-weights", type=class_weights, metavar="C=W,…", help="relative rates of classes, e.g. cat=2"
    )
    group.add_argument(
        "--temperature", type=real, default=1.0, metavar="T", help="of sampler gain: 0.1 greedy, 10 uniform"
    )
    group.add_argument(
        "--early", type=real, default=1.0, metavar="E", help="of sampler early: how strongly, 0 is uniform"
    )
    group.add_argument("--alpha", type=real, default=0.5, metavar="A", help="of sampler adq: importance against size")
    group.add_argument("--strength", type=real, default=1.0, metavar="S", help="of sampler difficulty, 0 to 1")


def add_pack(verb: argparse.ArgumentParser) -> None:
    """How images are cut and stored."""
    group = verb.add_argument_group("patches and store")
    group.add_argument(
        "--drop", type=fraction, default=0.2, metavar="F", help="θ, fraction of patches dropped per image"
    )
    group.add_argument("--drop-classes", type=class_fractions, metavar="CLASS=F,...", help="θ of these classes instead")
    group.add_argument("--patch", type=positive, metavar="PX", help="side of a patch (default: 4 up to 64 px, else 16)")
    group.add_argument(
        "--score",
        default="gradcam++",
        choices=("gradcam++", "energy", "random"),
        help="what ranks the patches: the paper's GradCAM++; energy, the map's mean square (no label); or chance",
    )
    group.add_argument(
        "--target",
        default="label",
        choices=("label", "prediction"),
        help="whose score GradCAM++ explains: the image's label, or what the model takes it for",
    )
    group.add_argument(
        "--layer", metavar="NAME", help="module whose output is the map, e.g. layer3 (default: the last map there is)"
    )
    group.add_argument(
        "--variant",
        default="paper",
        choices=("paper", "torchcam", "grad-cam"),
        help="GradCAM++ by the paper's Eq. 4, as the official code ran, or as the grad-cam package computes it",
    )
    group.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fastest", "float32", "bfloat16", "float16"),
        help="of the model when it scores patches. auto: bfloat16 where the processor has instructions for it, else "
        "float32; fastest: what one timed batch says, so that another run may get other bytes. Either is chosen once "
        "a run, kept for --resume and told in the store. bfloat16 changes about 0.4%% of the kept patches; float16 "
        "needs CUDA",
    )
    group.add_argument(
        "--format",
        dest="codec",
        choices=("png", "webp-lossless", "jpeg", "webp", "avif"),
        help="of the mosaics (default: lossless up to 64 px, else JPEG)",
    )
    group.add_argument(
        "--secret",
        action="store_true",
        help="shuffle by random numbers that only the position keys hold, so that no seed undoes it without them",
    )
    group.add_argument("--quality", type=positive, metavar="Q", help="of the lossy ones, 1 to 100")
    keys.add_writing(group)


def add_run(verb: argparse.ArgumentParser, *, seed: bool = True) -> None:
    """Device, batch, threads, seed."""
    group = verb.add_argument_group("run")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, …; auto takes a GPU where there is one")
    group.add_argument("--batch-size", type=positive, default=128, metavar="N", help="images per forward pass")
    group.add_argument("--workers", type=positive, metavar="N", help="threads that decode images (default: one a core)")
    if seed:
        group.add_argument("--seed", type=natural, default=0, help="the same seed gives the same bytes")


def given(parsed: argparse.Namespace) -> dict[str, Any]:
    """The parsed options as flat names for `Options.of`, leaving out what belongs to the command line alone."""
    from dq_fast.pipeline import option_names

    found = {name: value for name, value in vars(parsed).items() if name in option_names()}
    if "options" in found:
        found["options"] = dict(found["options"])
    if found.get("method") == "dq":
        found["method"] = "auto"  # one name in records, so that either way of writing it is the same
    return found
