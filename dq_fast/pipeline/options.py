"""The parameters of a run, stage by stage, with the defaults that the command line and `dq.compress` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dq_fast.embed.extract import check_embed_precision
from dq_fast.embed.precision import check_precision
from dq_fast.errors import InputError
from dq_fast.patches.quantizer import TARGETS
from dq_fast.patches.scores import SCORES
from dq_fast.select import SAMPLERS, SampleQuantizer
from dq_fast.select.presets import preset as preset_named
from dq_fast.select.quantizer import ALGORITHMS, check_parameters


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
        embed_precision: of the embedding's forward pass, "float32", "bfloat16" or (CUDA) "float16"; see `embed`.
        seed: of initialisation and training.
    """

    model: str | None = None
    weights: str | None = None
    pretrained: bool = False
    train_epochs: int | None = None
    input_size: tuple[int, int] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    embed_precision: str = "float32"
    seed: int = 0

    def plain(self) -> dict[str, Any]:
        """What the model itself depends on, for its stage's record."""
        return {name: value for name, value in asdict(self).items() if name != "embed_precision"}


@dataclass(frozen=True)
class BinOptions:
    """How samples are split into bins; see `dq_fast.SampleQuantizer`.

    Attributes:
        n_bins, lam, shifted, center, method, similarity, compat: as there.
        max_keep: as there; None ranks everything, or as deep as `compress` keeps.
        options: of other methods than this paper's, as there.
        by_class: bins within every class (default) or over the whole set.
        group_by: a file with one value a row, to choose within equal ones instead of classes.
        kmeans: a number of clusters, to choose within these instead of classes.
        embedding: "gradient" (of the loss with respect to the last layer, as in the paper) or "features".
        loss: "ce", or "double_softmax" as the official code ran.
        incremental: keep what adding rows needs (`dq-fast bins --add`).
        seed: of methods that draw, and of k-means.
    """

    n_bins: int = 10
    lam: float = 1.0
    shifted: bool = True
    center: bool = False
    method: str = "auto"
    similarity: str = "cosine"
    compat: str | None = None
    max_keep: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    by_class: bool = True
    group_by: str | None = None
    kmeans: int | None = None
    embedding: str = "gradient"
    loss: str = "ce"
    incremental: bool = False
    seed: int = 0

    @property
    def ours(self) -> bool:
        """Whether this is the paper's own method."""
        return self.method in ALGORITHMS

    def quantizer(self, **more: Any) -> SampleQuantizer:
        """The quantizer with these parameters."""
        names = ("n_bins", "lam", "shifted", "center", "method", "similarity", "compat", "incremental", "seed")
        return SampleQuantizer(
            **{name: getattr(self, name) for name in names},
            max_keep=1.0 if self.max_keep is None else self.max_keep,
            options=self.options or None,
            **more,
        )

    def check(self) -> None:
        """Refuse values out of range, or that do not go together."""
        check_parameters(**self.quantizer().get_params())
        _choice("embedding", self.embedding, ("gradient", "features"))
        _choice("loss", self.loss, ("ce", "double_softmax"))
        if self.kmeans is not None:
            _whole("kmeans", self.kmeans, 1)
        given = [name for name, value in (("group_by", self.group_by), ("kmeans", self.kmeans)) if value is not None]
        if not self.by_class:
            given.append("by_class=False")
        if len(given) > 1:
            raise InputError(f"groups must be made in one way, got {' and '.join(given)}")


@dataclass(frozen=True)
class SampleOptions:
    """Which samples are drawn from the bins; see `dq_fast.select.draw`.

    Attributes:
        keep: fraction of the samples.
        sampler: None is "uniform" for bins, and "first" for other methods' rankings.
        nested, floor, bin_weights, class_weights, temperature, early, alpha, strength: as there.
        seed: of the draw.
    """

    keep: float = 0.6
    sampler: str | None = None
    nested: bool = False
    floor: int = 0
    bin_weights: tuple[float, ...] | None = None
    class_weights: dict[str, float] | None = None
    temperature: float = 1.0
    early: float = 1.0
    alpha: float = 0.5
    strength: float = 1.0
    seed: int = 0

    def draw_arguments(self) -> dict[str, Any]:
        """What differs from the defaults, for `SampleQuantizer.sample`, without `keep` and `seed`."""
        left_out = ("keep", "seed")
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in left_out and getattr(self, f.name) != f.default
        }


@dataclass(frozen=True)
class PackOptions:
    """How images are cut and stored.

    Attributes:
        drop: θ, the fraction of patches dropped from each image.
        drop_classes: θ of the classes of these names, instead.
        patch: side of a patch in pixels; None is 4 for images up to 64 px and 16 for larger ones.
        score: what ranks the patches, see `dq_fast.PixelQuantizer`: "gradcam++", "energy" or "random".
        target: whose logit GradCAM++ explains: "label" or "prediction".
        layer: dotted name of the module whose output is the map; None is found by itself.
        variant: of GradCAM++, see `dq_fast.ops.patch_scores`.
        precision: of the classifier's forward pass: "float32", "bfloat16", "float16" (CUDA); "auto" by what the
            processor can do, "fastest" by timing a batch (docs/SCORING.md).
        codec: one of `dq_fast.store.CODECS`; None is lossless for images up to 64 px and JPEG for larger.
        quality: of the lossy codecs, 1 to 100; None is the codec's default here.
        seed: of the shuffling, and of random scores.
        secret: shuffle by random numbers that only the position keys hold, instead of by `seed`; bytes then differ
            from run to run.
    """

    drop: float = 0.2
    drop_classes: dict[str, float] | None = None
    patch: int | None = None
    score: str = "gradcam++"
    target: str = "label"
    layer: str | None = None
    variant: str = "paper"
    precision: str = "auto"
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
    def of(cls, *, preset: str | None = None, algorithm: str | None = None, **values: Any) -> Options:
        """Options from flat names (``keep=0.3, n_bins=5``); ``seed`` goes to every stage; unknown ones are errors.

        `preset` gives what `values` do not; `algorithm` is the one that computes this paper's bins.
        """
        if preset is not None:
            values = {**preset_named(preset), **values}
        if algorithm not in (None, "auto"):
            if values.get("method", "auto") not in ("auto", "dq"):
                raise InputError(f"algorithm must go with method 'dq', got {algorithm!r} and {values['method']!r}")
            values["method"] = algorithm
        parts: dict[str, Any] = {}
        known: set[str] = set()
        for part in fields(cls):
            kind = part.default_factory  # type: ignore[union-attr]
            names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
            known.update(names)
            parts[part.name] = kind(**{name: values[name] for name in names if name in values})  # type: ignore[operator]
        unknown = sorted(set(values) - known)
        if unknown:
            takes = ", ".join(sorted(known | {"preset", "algorithm"}))
            raise InputError(f"compress has no parameter {unknown[0]!r}; it takes {takes}")
        options = cls(**parts)
        options.check()
        return options

    def check(self) -> None:
        """Refuse values out of range before any work starts."""
        _fraction("keep", self.sample.keep, low_open=True)
        _fraction("drop", self.pack.drop, high_open=True)
        _fraction("holdout", self.source.holdout, high_open=True)
        _fraction("max_bad", self.source.max_bad)
        self.bins.check()
        _choice("sampler", self.sample.sampler, (None, *SAMPLERS))
        for name, ratio in (self.pack.drop_classes or {}).items():
            _fraction(f"drop_classes[{name!r}]", ratio, high_open=True)
        _choice("score", self.pack.score, SCORES)
        _choice("target", self.pack.target, TARGETS)
        check_precision("precision", self.pack.precision)
        check_embed_precision("embed_precision", self.model.embed_precision)
        _choice("variant", self.pack.variant, ("paper", "torchcam", "grad-cam"))
        _choice("codec", self.pack.codec, (None, "png", "webp-lossless", "jpeg", "webp", "avif"))
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


def numbered(name: str, given: Mapping[str, float], class_names: Sequence[str]) -> dict[int, float]:
    """By the classes' numbers what was given by their names (or numbers as text)."""
    found = {}
    for key, value in given.items():
        if key not in class_names and not (key.isdigit() and int(key) < len(class_names)):
            raise InputError(f"{name} must name classes ({', '.join(class_names[:20])}), got {key!r}")
        found[list(class_names).index(key) if key in class_names else int(key)] = value
    return found


def option_names() -> set[str]:
    """The flat names that `Options.of` takes."""
    more = {"preset", "algorithm"}
    parts = (SourceOptions, ModelOptions, BinOptions, SampleOptions, PackOptions)
    return more | {f.name for part in parts for f in fields(part)}
