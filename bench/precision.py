"""What bfloat16, and the other memory format, change on real images: kept patches; and bfloat16, bins of an embedding.

`python bench/precision.py --help`. Compared with float32 in channels-last. Each pair of kept sets is of one image, and
the share is of its kept patches; bins are ten, within classes, or over all where classes have few images.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dq_fast import PixelQuantizer, SampleQuantizer, open_source
from dq_fast.data import Source, Subset
from dq_fast.embed import Classifier, embed, load_classifier
from dq_fast.embed.precision import FORMATS
from dq_fast.patches import default_patch, keep_top, kept_count, patch_grid

WAYS = (("float32", "contiguous"), ("bfloat16", "channels_last"))
DROPS = (0.2, 0.5)
LEAST = 20  # images a class, for bins within classes


@dataclass(frozen=True)
class Line:
    """One line of the CSV.

    Attributes:
        what: "patches θ=…" or "first bin" or "first 50 %".
        images: how many.
        compared: patches or picks that float32 in channels-last keeps.
        changed: how many of them the other way does not.
        images_changed: with at least one; 0 for bins.
        deviation: largest difference of a score from float32's, by the image's largest score; of features likewise.
        typical: the median over images.
    """

    source: str
    model: str
    precision: str
    memory_format: str
    what: str
    images: int
    compared: int
    changed: int
    share: float
    images_changed: int
    deviation: float
    typical: float


def scores_of(source: Source, classifier: Classifier, precision: str, memory: str) -> list[Tensor]:
    """Scores of every image's patches."""
    classifier.module.to(memory_format=FORMATS[memory])  # type: ignore[call-overload]
    quantizer = PixelQuantizer(classifier.module, precision=precision)
    size = classifier.forward_size(128)
    found: list[Tensor] = []
    for begin in range(0, len(source), size):
        images = [source.read(i) for i in range(begin, min(begin + size, len(source)))]
        x = classifier.normalize(torch.from_numpy(np.stack([classifier.resize(image) for image in images])))
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        grids = [patch_grid(height, width, default_patch(height, width)) for height, width in sizes]
        labels = np.asarray(source.labels)[begin : begin + len(images)]
        found += quantizer.scores(x.contiguous(memory_format=FORMATS[memory]), labels, grids)
        if sys.stderr.isatty():
            print(f"\r{precision} {memory} {len(found)}/{len(source)}", end="", file=sys.stderr)
    return found


def compare_patches(exact: list[Tensor], other: list[Tensor], drop: float) -> tuple[int, int, int]:
    """(kept patches, how many of them the other scores drop, images with such)."""
    compared = changed = images = 0
    for a, b in zip(exact, other, strict=True):
        count = kept_count(len(a), drop)
        mine, theirs = (set(keep_top(scores[None], count)[0].tolist()) for scores in (a, b))
        compared, changed, images = compared + count, changed + len(mine - theirs), images + (mine != theirs)
    return compared, changed, images


def ranking_of(source: Source, classifier: Classifier, precision: str) -> tuple[SampleQuantizer, Tensor]:
    """Ten bins of an embedding, and its features."""
    classifier.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    embedding = embed(source, classifier, precision=precision)
    by_class = np.bincount(embedding.labels).min() >= LEAST
    quantizer = SampleQuantizer(n_bins=10).fit(
        embedding.factors(), embedding.labels, groups=None if by_class else "all"
    )
    return quantizer, torch.from_numpy(embedding.features)


def spread(exact: list[Tensor], other: list[Tensor]) -> tuple[float, float]:
    """Largest and median deviation of rows, each by the row's own largest number."""
    found = [float((a - b).abs().max() / a.abs().max().clamp(min=1e-30)) for a, b in zip(exact, other, strict=True)]
    return max(found), float(np.median(found))


def measure(spec: str, classifier: Classifier, count: int) -> list[Line]:
    """All lines of a source and a model."""
    source = open_source(spec, split="train" if spec.endswith(".npz") else None)
    chosen = np.random.default_rng(0).permutation(len(source))[:count]
    source = Subset(source, np.sort(chosen))
    name = Path(spec).name
    exact = scores_of(source, classifier, "float32", "channels_last")
    ranked, features = ranking_of(source, classifier, "float32")
    lines = []
    for precision, memory in WAYS:
        other = scores_of(source, classifier, precision, memory)
        largest, typical = spread(exact, other)
        for drop in DROPS:
            compared, changed, images = compare_patches(exact, other, drop)
            head = (name, classifier.name, precision, memory, f"patches θ={drop}", len(source), compared, changed)
            lines.append(Line(*head, changed / compared, images, largest, typical))
        if precision == "float32":
            continue  # images are embedded in channels-last
        again, rows = ranking_of(source, classifier, precision)
        largest, typical = spread(list(features), list(rows))
        for what, depth in (("first bin", 1), ("first 50 %", 5)):
            mine, theirs = (set(np.concatenate(q.bins_[:depth]).tolist()) for q in (ranked, again))
            changed = len(mine - theirs)
            head = (name, classifier.name, precision, memory, what, len(source), len(mine), changed)
            lines.append(Line(*head, changed / len(mine), 0, largest, typical))
    return lines


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="as for dq-fast compress")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights", metavar="FILE", help="left out: those of the model's package")
    parser.add_argument("--classes", type=int, metavar="C", help="of the model")
    parser.add_argument("--images", type=int, default=500, metavar="N", help="of it, at random (default: 500)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="lines are added")
    given = parser.parse_args()
    classifier = load_classifier(
        given.model, num_classes=given.classes, weights=given.weights, pretrained=given.weights is None
    )
    lines = measure(given.source, classifier, given.images)
    for line in lines:
        print(
            f"{line.precision} {line.memory_format:13} {line.what:15} {line.changed:6} of {line.compared:6} = "
            f"{line.share:.3%}, {line.images_changed} images; deviation {line.deviation:.1e}, {line.typical:.1e}"
        )
    if given.csv:
        new = not given.csv.exists()
        with given.csv.open("a", newline="") as file:
            table = csv.DictWriter(file, [field.name for field in fields(Line)])
            if new:
                table.writeheader()
            for line in lines:
                table.writerow({k: f"{v:.3g}" if isinstance(v, float) else v for k, v in asdict(line).items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
