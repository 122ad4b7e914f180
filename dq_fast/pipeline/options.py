"""The parameters of a run, stage by stage, with the defaults that the command line and `dq.compress` share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dq_fast.errors import InputError


@dataclass(frozen=True)
class SourceOptions:
    """Which images are compressed.

    Attributes:
        split: the part of a source that has parts ("train", "test", …).
        holdout: fraction of the source set aside for testing and not compressed (for sources without a test part).
        image_column, label_column: of a parquet source, when they are not found by themselves.
        max_bad: fraction of unreadable images above which the run stops.
        seed: of the hold-out draw.
    """

    split: str | None = "train"
    holdout: float = 0.0
    image_column: str | None = None
    label_column: str | None = None
    max_bad: float = 0.01
    seed: int = 0


@dataclass(frozen=True)
class ModelOptions:
    """The classifier whose features, logits and class activations everything rests on.

    Attributes:
        model: a built-in or timm model name, or "package.module:factory"; None takes resnet20_cifar for images up to
            64 px and timm's resnet18 for larger ones.
        weights: a local safetensors or torch file; None trains here unless `pretrained`.
        pretrained: take the weights that the model's package offers.
        train_epochs: epochs of training on the source; None is 10 without weights (as in the paper) and 0 with them.
        input_size, mean, std: how images enter the model; None takes the model's own, or the images' own size.
        seed: of initialisation and training.
    """

    model: str | None = None
    weights: str | None = None
    pretrained: bool = False
    train_epochs: int | None = None
    input_size: tuple[int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    seed: int = 0


@dataclass(frozen=True)
class BinOptions:
    """How samples are split into bins; see `dq_fast.SampleQuantizer`.

    Attributes:
        n_bins, lam, shifted, center, method: as there.
        by_class: bins within every class (default) or over the whole set.
        embedding: "gradient" (of the loss with respect to the last layer, as in the paper) or "features".
        loss: "ce", or "double_softmax" as the official code ran.
    """

    n_bins: int = 10
    lam: float = 1.0
    shifted: bool = True
    center: bool = False
    method: str = "auto"
    by_class: bool = True
    embedding: str = "gradient"
    loss: str = "ce"


@dataclass(frozen=True)
class SampleOptions:
    """Which samples are drawn from the bins: the fraction to keep, and the draw's seed."""

    keep: float = 0.6
    seed: int = 0


@dataclass(frozen=True)
class PackOptions:
    """How images are cut and stored.

    Attributes:
        drop: θ, the fraction of patches dropped from each image.
        patch: side of a patch in pixels; None is 4 for images up to 64 px and 16 for larger ones.
        variant: of GradCAM++, see `dq_fast.ops.patch_scores`.
        codec: "png", "webp-lossless", "jpeg" or "webp"; None is lossless for images up to 64 px and JPEG for larger.
        quality: of the lossy codecs, 1 to 100; None is the codec's default here.
        seed: of the shuffling.
        secret: shuffle by random numbers that only the position keys hold, instead of by `seed`; bytes then differ
            from run to run.
    """

    drop: float = 0.2
    patch: int | None = None
    variant: str = "paper"
    codec: str | None = None
    quality: int | None = None
    seed: int = 0
    secret: bool = False


@dataclass(frozen=True)
class Options:
    """All of a run."""

    source: SourceOptions = field(default_factory=SourceOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    bins: BinOptions = field(default_factory=BinOptions)
    sample: SampleOptions = field(default_factory=SampleOptions)
    pack: PackOptions = field(default_factory=PackOptions)

    @classmethod
    def of(cls, **values: Any) -> Options:
        """Options from flat names (``keep=0.3, n_bins=5``); ``seed`` goes to every stage; unknown ones are errors."""
        parts: dict[str, Any] = {}
        known: set[str] = set()
        for part in fields(cls):
            kind = part.default_factory  # type: ignore[union-attr]
            names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
            known.update(names)
            parts[part.name] = kind(**{name: values[name] for name in names if name in values})  # type: ignore[operator]
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"compress has no parameter {unknown[0]!r}; it takes {', '.join(sorted(known))}")
        options = cls(**parts)
        options.check()
        return options

    def check(self) -> None:
        """Refuse values out of range before any work starts."""
        _fraction("keep", self.sample.keep, low_open=True)
        _fraction("drop", self.pack.drop, high_open=True)
        _fraction("holdout", self.source.holdout, high_open=True)
        _fraction("max_bad", self.source.max_bad)
        _choice("embedding", self.bins.embedding, ("gradient", "features"))
        _choice("loss", self.bins.loss, ("ce", "double_softmax"))
        _choice("method", self.bins.method, ("auto", "naive", "gram", "lazy"))
        _choice("variant", self.pack.variant, ("paper", "torchcam", "grad-cam"))
        _choice("codec", self.pack.codec, (None, "png", "webp-lossless", "jpeg", "webp"))
        _whole("n_bins", self.bins.n_bins, 1)
        if self.pack.patch is not None:
            _whole("patch", self.pack.patch, 1)
        if self.pack.quality is not None:
            _whole("quality", self.pack.quality, 1, 100)
        if self.model.train_epochs is not None:
            _whole("train_epochs", self.model.train_epochs, 0)
        if self.model.weights is not None and self.model.pretrained:
            raise InputError("weights and pretrained exclude each other: give one of them")

    def plain(self) -> dict[str, Any]:
        """As nested dicts, for JSON."""
        return asdict(self)


def _fraction(name: str, value: float, *, low_open: bool = False, high_open: bool = False) -> None:
    inside = isinstance(value, (int, float)) and 0 <= value <= 1
    if not inside or (low_open and value == 0) or (high_open and value == 1):
        raise InputError(
            f"{name} must be a fraction in {'(' if low_open else '['}0, 1{')' if high_open else ']'}, got {value!r}"
        )


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(repr(c) for c in choices if c is not None)}, got {value!r}")


def _whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{name} must be a whole number {bounds}, got {value!r}")


def option_names() -> set[str]:
    """The flat names that `Options.of` takes."""
    parts = (SourceOptions, ModelOptions, BinOptions, SampleOptions, PackOptions)
    return {f.name for part in parts for f in fields(part)}
