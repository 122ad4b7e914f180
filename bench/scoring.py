"""What scoring patches costs beside the model's own forward pass, and packing beside its slowest part.

`python bench/scoring.py --help`. Ways run in turn, A B C A B C, and medians are compared within one run.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from dq_fast import PixelQuantizer, open_source
from dq_fast.data import Source, read_batches
from dq_fast.embed import Classifier, load_classifier
from dq_fast.embed.precision import FORMATS, computing, native_bfloat16
from dq_fast.patches import default_patch, patch_grid
from dq_fast.store import StoreWriter

Call = Callable[[], object]


@dataclass(frozen=True)
class Line:
    """One line of the CSV.

    Attributes:
        case: "batch" (images in memory), "precision" (the same in every precision and memory format) or "pack" (a
            source to a store).
        model: the classifier.
        way: what ran.
        precision, memory_format: how the model ran.
        images: how many.
        seconds: median.
        against: the way that `ratio` has below the line: seconds over its seconds.
        limit: what the ratio is to be at most, or (negative) minus what it is to be at least.
    """

    case: str
    model: str
    way: str
    precision: str
    memory_format: str
    images: int
    seconds: float
    against: str
    ratio: float
    limit: float
    machine: str


def in_turn(ways: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median seconds of each, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(rounds + 1):
        for name, call in ways.items():
            begin = time.perf_counter()
            call()
            if k:
                taken[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def batch_ways(model: str, count: int) -> dict[str, Call]:
    """The model's forward pass, our scores, and the two GradCAM++ packages, of one batch of images in memory."""
    classifier = load_classifier(model, num_classes=1000, input_size=(224, 224))
    module = classifier.module.eval()
    images = torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count)
    quantizer = PixelQuantizer(module, grid=(14, 14))

    def forward() -> object:
        with torch.inference_mode():
            return module(images)

    ways: dict[str, Call] = {"forward": forward, "dq_fast": lambda: quantizer(images, labels)}
    layer = quantizer.plan(images).layer.name
    if find_spec("torchcam"):
        from torchcam.methods import GradCAMpp

        def torchcam() -> object:
            maps = []
            for i in range(count):  # it explains one image's class at a time
                with GradCAMpp(module, target_layer=layer) as extractor:
                    maps.append(extractor(int(labels[i]), module(images[i : i + 1].clone().requires_grad_())))
            return maps

        ways["torchcam"] = torchcam
    if find_spec("pytorch_grad_cam"):
        from pytorch_grad_cam import GradCAMPlusPlus
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        def grad_cam() -> object:
            targets = [ClassifierOutputTarget(int(label)) for label in labels]
            with GradCAMPlusPlus(model=module, target_layers=[module.get_submodule(layer)]) as cam:
                return cam(input_tensor=images, targets=targets)

        ways["grad-cam"] = grad_cam
    return ways


def precision_ways(model: str, count: int, precisions: list[str]) -> dict[str, Call]:
    """Forward pass and scores, "WAY PRECISION FORMAT", in every precision and memory format, of one batch."""
    made = {memory: load_classifier(model) for memory in FORMATS}
    height, width = next(iter(made.values())).input_size
    images = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    ways: dict[str, Call] = {}
    for precision in precisions:
        for memory, classifier in made.items():
            module = classifier.module.to(memory_format=FORMATS[memory])  # type: ignore[call-overload]
            ways |= {f"{way} {precision} {memory}": call for way, call in _both(module, images, precision, memory)}
    return ways


def _both(module: torch.nn.Module, images: torch.Tensor, precision: str, memory: str) -> Iterator[tuple[str, Call]]:
    x = images.contiguous(memory_format=FORMATS[memory])
    quantizer = PixelQuantizer(module, precision=precision, target="prediction")

    def forward() -> object:
        with torch.inference_mode(), computing("cpu", precision):
            return module(x)

    yield "forward", forward
    yield "dq_fast", lambda: quantizer(x)


def pack_ways(source: Source, classifier: Classifier, count: int, batch_size: int, work: Path) -> dict[str, Call]:
    """Packing some images, and each of its parts alone on what the others would hand it."""
    index = np.arange(min(count, len(source)))
    labels = np.asarray(source.labels)[index]
    quantizer = PixelQuantizer(classifier.module)
    batch_size = classifier.forward_size(batch_size)
    stores = iter(range(10_000))

    def decode() -> list[tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]]:
        return list(
            read_batches(
                source,
                index,
                batch_size=batch_size,
                transform=lambda image: (image, classifier.resize(image)),
                on_bad=lambda error: sys.exit(str(error)),
            )
        )

    decoded = decode()
    grids = [patch_grid(image.shape[0], image.shape[1], patch_of(image)) for _, batch in decoded for image, _ in batch]
    patch = patch_of(decoded[0][1][0][0])

    def score_batch(batch: list[tuple[np.ndarray, np.ndarray]], begin: int) -> list[np.ndarray]:
        x = classifier.normalize(torch.from_numpy(np.stack([resized for _, resized in batch])))
        end = begin + len(batch)
        return quantizer.keep(x, torch.from_numpy(labels[begin:end]), grids[begin:end])

    def score() -> list[np.ndarray]:
        kept: list[np.ndarray] = []
        for _, batch in decoded:
            kept += score_batch(batch, len(kept))
        return kept

    kept = score()

    def writer() -> StoreWriter:
        folder = work / str(next(stores))
        return StoreWriter(
            folder, patch=patch, codec="jpeg" if patch >= 16 else "webp-lossless", class_names=source.class_names
        )

    def encode() -> None:
        with writer() as store:
            for i, (image, _) in enumerate(item for _, batch in decoded for item in batch):
                store.add(str(i), int(labels[i]), image, kept[i])
            store.close()

    def pack() -> None:
        with writer() as store:
            done = 0
            for _, batch in read_batches(
                source,
                index,
                batch_size=batch_size,
                transform=lambda image: (image, classifier.resize(image)),
                on_bad=lambda error: sys.exit(str(error)),
            ):
                for k, mine in enumerate(score_batch(batch, done)):
                    store.add(str(done + k), int(labels[done + k]), batch[k][0], mine)
                done += len(batch)
            store.close()

    return {"decode": decode, "score": score, "cut and encode": encode, "pack": pack}


def patch_of(image: np.ndarray) -> int:
    """The default side of a patch."""
    return default_patch(image.shape[0], image.shape[1])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="a timm model; weights are random, which costs the same")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="images in memory (default: 32, of 224 px)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--source", metavar="SPEC", help="images to pack, as for dq-fast compress; left out: no packing"
    )
    parser.add_argument("--images", type=int, default=500, metavar="N", help="of it (default: 500)")
    parser.add_argument(
        "--precisions",
        metavar="MODEL=N",
        nargs="+",
        default=[],
        help="and N images of these models in float32 and bfloat16, channels-last and contiguous",
    )
    parser.add_argument("--only-precisions", choices=("float32", "bfloat16"), nargs="*", help="and these alone")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="lines of other cases, models and precisions in it stay"
    )
    given = parser.parse_args()
    native = "" if native_bfloat16("cpu") else "no "
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {native}bfloat16; torch {torch.__version__}"
    lines: list[Line] = []

    def report(
        case: str, model: str, images: int, seconds: dict[str, float], against: dict[str, tuple[str, float]]
    ) -> None:
        for way, taken in seconds.items():
            other, limit = against.get(way, ("", 0.0))
            ratio = taken / seconds[other] if other in seconds else 1.0
            name, precision, memory = way.split() if case == "precision" else (way, "float32", "channels_last")
            lines.append(
                Line(
                    case,
                    model,
                    name,
                    precision,
                    memory,
                    images,
                    round(taken, 4),
                    other,
                    round(ratio, 3),
                    limit,
                    machine,
                )
            )
            print(f"{case:9} {model:20} {way:36} {taken * 1000:9.1f} ms  {ratio:.2f} x {other or 'itself'}", flush=True)

    if given.only_precisions is None:
        seconds = in_turn(batch_ways(given.model, given.batch), given.rounds)
        limits = {"dq_fast": ("forward", 1.1), "torchcam": ("dq_fast", -1.2), "grad-cam": ("dq_fast", -3.5)}
        report("batch", given.model, given.batch, seconds, limits)
    for spec in given.precisions:
        model, _, count = spec.partition("=")
        seconds = in_turn(
            precision_ways(model, int(count), given.only_precisions or ["float32", "bfloat16"]), given.rounds
        )
        report("precision", model, int(count), seconds, _against(seconds))
    if given.source and given.only_precisions is None:
        source = open_source(given.source)
        classifier = load_classifier(given.model, num_classes=len(source.class_names), input_size=(224, 224))
        with tempfile.TemporaryDirectory() as work:
            seconds = in_turn(pack_ways(source, classifier, given.images, 128, Path(work)), 3)
        slowest = max((way for way in seconds if way != "pack"), key=lambda way: seconds[way])
        report("pack", given.model, min(given.images, len(source)), seconds, {"pack": (slowest, 1.25)})
    if given.csv:
        lines = _with_others(given.csv, lines)
        with given.csv.open("w", newline="") as file:
            table = csv.DictWriter(file, [field.name for field in fields(Line)])
            table.writeheader()
            table.writerows(asdict(line) for line in lines)
    return 0


def _against(seconds: dict[str, float]) -> dict[str, tuple[str, float]]:
    """Scores beside the same forward pass, and forward passes beside float32's channels-last one."""
    found = {}
    for way in seconds:
        name, how = way.split(maxsplit=1)
        found[way] = (f"forward {how}", 1.1) if name == "dq_fast" else ("forward float32 channels_last", 0.0)
    return found


def _with_others(file: Path, lines: list[Line]) -> list[Line]:
    """The lines of a file whose case, model and precision were not measured now, and those that were."""
    measured = {(line.case, line.model, line.precision) for line in lines}
    before: list[Line] = []
    if file.is_file():
        with file.open(newline="") as text:
            for row in csv.DictReader(text):
                numbers = {"images": int(row["images"])}
                reals = {name: float(row[name]) for name in ("seconds", "ratio", "limit")}
                before.append(Line(**{**row, **numbers, **reals}))  # type: ignore[arg-type]
    return [line for line in before if (line.case, line.model, line.precision) not in measured] + lines


if __name__ == "__main__":
    sys.exit(main())
