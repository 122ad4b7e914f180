"""How fast a store gives images, against Pillow decoding the original files on the same cores.

    python bench/reading.py clothing128_train.parquet imagenet.parquet cifar.npz --csv bench/results/reading.csv

For each source a folder of files (as they are in the source; PNG where it has pixels) and a store (θ of the patches
dropped at random: which ones does not matter for speed) are written to a temporary folder. Then, in turn, round after
round, epochs of images as uint8 tensors [3, h, w] in batches:

Without workers all of it runs in one process pinned to one core. No way uses threads beside its processes' first ones.

- pillow: torch's DataLoader over the files, shuffled: open, decode, convert to RGB;
- stream: `store.stream`, with a cache that holds no shard: every shard is read, checked, decoded and restored;
- dataset: `store.dataset`, shuffled, restored shards in the cache (from the second epoch on).

Columns: source, images, side (px, median), theta, codec, workers (0: in the process itself), cores, way, images_per_s
(median of the rounds), ratio (median over rounds of this way to pillow in the same round), low, high (of those ratios).
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dq_fast.data import Source, open_source
from dq_fast.patches import default_patch, patch_grid
from dq_fast.restore import Store
from dq_fast.store import StoreWriter
from dq_fast.store.codecs import default_codec

BATCH = 64
FIELDS = (
    "source", "images", "side", "theta", "codec", "workers", "cores", "way", "images_per_s", "ratio", "low", "high",
    "torch", "pillow", "date",
)  # fmt: skip


class Files(Dataset):  # type: ignore[type-arg]
    """The original files, as anyone would read them."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[i]) as image:
            pixels = np.asarray(image.convert("RGB"))
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), 0  # as the store does: twice as fast as by torch


def files_of(spec: str, source: Source, folder: Path) -> list[str]:
    """A file an image: the bytes of a parquet file's images, PNG of pixels."""
    folder.mkdir()
    encoded: list[bytes] | None = None
    if spec.endswith(".parquet"):
        import pyarrow.parquet as pq

        encoded = [row["bytes"] for row in pq.read_table(spec).column("image").to_pylist()[: len(source)]]
    paths = []
    for i in range(len(source)):
        path = folder / f"{i:06d}{'.img' if encoded else '.png'}"
        if encoded:
            path.write_bytes(encoded[i])
        else:
            Image.fromarray(source.read(i)).save(path)
        paths.append(str(path))
    return paths


def write_store(source: Source, folder: Path, theta: float) -> tuple[Path, int]:
    """A store of the source, patches kept at random; and the median side of its images."""
    sizes = [source.read(int(i)).shape[:2] for i in np.linspace(0, len(source) - 1, 32)]
    height, width = (int(v) for v in np.median(np.array(sizes), axis=0))
    patch = default_patch(height, width)
    codec, quality = default_codec(height, width)
    generator = np.random.default_rng(0)
    with StoreWriter(folder, patch=patch, codec=codec, quality=quality, class_names=list(source.class_names)) as writer:
        for i in range(len(source)):
            image = source.read(i)
            grid = int(np.prod(patch_grid(image.shape[0], image.shape[1], patch)))
            kept = np.sort(generator.permutation(grid)[: max(1, int(grid * (1 - theta)))])
            writer.add(source.ids[i], int(source.labels[i]), image, kept)
        writer.close()
    return folder, max(height, width)


def epoch_of(loader: Iterable[Any]) -> Callable[[], float]:
    """Images a second of one pass."""

    def run() -> float:
        begun, count = time.perf_counter(), 0
        for images, _ in loader:
            count += len(images)
        return count / (time.perf_counter() - begun)

    return run


def measure(
    spec: str, source: Source, theta: float, workers: Iterable[int], seconds: float
) -> Iterator[dict[str, Any]]:
    """Rows of one source."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as scratch:
        paths = files_of(spec, source, Path(scratch, "files"))
        folder, side = write_store(source, Path(scratch, "store"), theta)
        for number in workers:
            here = cores if number else {max(cores)}
            os.sched_setaffinity(0, here)
            live: dict[str, Any] = {"batch_size": BATCH, "num_workers": number, "persistent_workers": number > 0}
            ways = {
                "pillow": DataLoader(Files(paths), shuffle=True, **live),
                "stream": DataLoader(Store(folder, cache_bytes=1).stream(batch_size=BATCH), **live),
                "dataset": DataLoader(Store(folder, cache_bytes=1 << 31).dataset(), shuffle=True, **live),
            }
            runs = {name: epoch_of(loader) for name, loader in ways.items()}
            found: dict[str, list[float]] = {name: [] for name in ways}
            for run in runs.values():
                run()  # warms the files, the workers, and the cache of "dataset"
            begun = time.perf_counter()
            while len(found["pillow"]) < 3 or time.perf_counter() - begun < seconds:
                for name, run in runs.items():
                    found[name].append(run())
            for name, rates in found.items():
                ratios = [a / b for a, b in zip(rates, found["pillow"], strict=True)]
                yield {
                    "source": Path(spec).stem,
                    "images": len(source),
                    "side": side,
                    "theta": theta,
                    "codec": Store(folder).codec.name,
                    "workers": number,
                    "cores": len(here),
                    "way": name,
                    "images_per_s": round(statistics.median(rates)),
                    "ratio": round(statistics.median(ratios), 3),
                    "low": round(min(ratios), 3),
                    "high": round(max(ratios), 3),
                    "torch": torch.__version__,
                    "pillow": Image.__version__,
                    "date": time.strftime("%Y-%m-%d"),
                }
            os.sched_setaffinity(0, cores)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="anything dq-fast reads")
    parser.add_argument("--theta", type=float, default=0.2, help="share of patches dropped (default 0.2)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the DataLoader (default 0 2)")
    parser.add_argument("--seconds", type=float, default=8, help="of each comparison, at least 3 rounds (default 8)")
    parser.add_argument("--limit", type=int, default=2000, help="first so many images of each source (default 2000)")
    parser.add_argument("--csv", type=Path, help="where to write the rows")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for spec in parsed.sources:
        from dq_fast.data import Subset

        source: Source = open_source(spec, split="train")
        source = Subset(source, np.arange(min(len(source), parsed.limit)))
        for row in measure(spec, source, parsed.theta, parsed.workers, parsed.seconds):
            rows.append(row)
            print(*(f"{name}={row[name]}" for name in FIELDS[:12]), flush=True)
    if parsed.csv:
        with open(parsed.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
