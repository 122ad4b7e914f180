"""Bytes of stores against whole images re-encoded one by one, with what is lost: `python -m bench.store.sizes DATA`.

For each set, codec and θ: the source's bytes, the images re-encoded whole with the codec at the same quality, and the
finished store, everything in it counted (keys, index, manifest). Patches are kept at random, which hardly matters for
bytes. For lossy codecs also what whole images take at the store's PSNR, interpolated between qualities.

By default some images of each set, about ten minutes on two cores; `--full` takes all
of them, hours.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.store.quality import psnr, squared_error, ssim
from bench.store.sets import QUICK, SETS, Images, load
from dq_fast.patches import kept_count, patch_grid
from dq_fast.restore import open as open_store
from dq_fast.store import StoreWriter

DROPS = (0.0, 0.2, 0.5)
CODECS: dict[str, tuple[tuple[str, int | None, int | None], ...]] = {  # codec, quality, patch (None: the set's)
    "photos": (
        ("png", None, None),
        ("webp-lossless", None, None),
        ("jpeg", 75, None),
        ("jpeg", 90, None),
        ("webp", 90, None),
        ("avif", 75, None),
        ("avif", 90, None),
    ),
    "small": (
        ("png", None, None),
        ("webp-lossless", None, None),
        ("jpeg", 90, 8),
        ("webp", 90, 8),
        ("avif", 90, 8),
    ),
}
_STEPS = 6  # qualities tried for the store's PSNR
COLUMNS = (
    "set", "images", "of", "patch", "codec", "quality", "layout", "drop", "source_bytes", "whole_bytes", "store_bytes",
    "key_bytes", "of_source", "of_whole", "whole_psnr", "kept_psnr", "of_whole_at_kept_psnr", "restored_psnr",
    "restored_ssim", "seconds",
)  # fmt: skip


@dataclass
class Whole:
    """Images re-encoded one by one: bytes of all, and the PSNR of what comes back."""

    bytes: int
    psnr: float


def reencode(images: Images, codec: str, quality: int | None, patch: int) -> Whole:
    """Every image as a file of its own, with Pillow's defaults and the effort that the store spends."""
    options: dict[str, Any] = {
        "png": {"compress_level": 9},
        "webp-lossless": {"lossless": True, "method": 4, "exact": True},
        "jpeg": {"quality": quality, "optimize": True, "subsampling": "4:4:4" if patch % 16 else "4:2:0"},
        "webp": {"quality": quality, "method": 4},
        "avif": {"quality": quality, "subsampling": "4:4:4", "max_threads": 1},
    }[codec]
    total, error = 0, 0.0
    for image in images.images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, codec.partition("-")[0].upper(), **options)
        total += len(file.getvalue())
        if quality is not None:
            error += squared_error(np.asarray(Image.open(file).convert("RGB")), image)
    return Whole(total, psnr(error, 3 * images.pixels))


def pack(images: Images, folder: Path, codec: str, quality: int | None, patch: int, drop: float) -> None:
    """A store of the images."""
    rng = np.random.default_rng(0)
    with StoreWriter(folder, patch=patch, codec=codec, quality=quality, class_names=["all"]) as writer:
        for i, image in enumerate(images.images):
            rows, columns = patch_grid(image.shape[0], image.shape[1], patch)
            kept = np.sort(rng.choice(rows * columns, kept_count(rows * columns, drop), replace=False))
            writer.add(f"{i:06d}", 0, image, kept)
        writer.close()


def whole_at(images: Images, codec: str, quality: int, patch: int, wanted: float, first: Whole) -> float:
    """Bytes of whole images at a PSNR: the logarithm is interpolated between the two qualities around it."""
    tried = {quality: first}
    step = 2 if abs(wanted - first.psnr) < 2 else 5
    step = step if wanted > first.psnr else -step
    now = quality
    for _ in range(_STEPS):
        now += step
        if not 1 <= now <= 100:
            break
        tried[now] = reencode(images, codec, now, patch)
        if (tried[now].psnr - wanted) * step > 0:
            break
    points = sorted((whole.psnr, np.log(whole.bytes)) for whole in tried.values())
    if not points[0][0] <= wanted <= points[-1][0]:
        return float("nan")
    return float(np.exp(np.interp(wanted, [p for p, _ in points], [b for _, b in points])))


def measure(images: Images, codec: str, quality: int | None, patch: int, scratch: Path) -> list[dict[str, Any]]:
    """A row for each θ."""
    whole = reencode(images, codec, quality, patch)
    rows = []
    for drop in DROPS:
        began = time.perf_counter()
        folder = scratch / f"{images.name}-{codec}-{quality}-{drop}"
        pack(images, folder, codec, quality, patch, drop)
        seconds = time.perf_counter() - began
        store = open_store(folder)
        kept_error, kept_values, error, similarity = 0.0, 0, 0.0, 0.0
        for i, image in enumerate(images.images):
            known, dropped = store.kept(i)
            kept_error += squared_error(known[~dropped], image[~dropped])
            kept_values += 3 * int((~dropped).sum())
            restored = store.read(i)
            error += squared_error(restored, image)
            similarity += ssim(restored, image)
        after, kept = store.manifest["bytes"]["after"], psnr(kept_error, kept_values)
        matched = float("nan")
        if quality is not None and drop == 0.2:
            matched = after / whole_at(images, codec, quality, patch, kept, whole)
        rows.append(
            {
                "set": images.name,
                "images": len(images.images),
                "of": images.of,
                "patch": patch,
                "codec": codec,
                "quality": quality or "",
                "layout": store.manifest["layout"],
                "drop": drop,
                "source_bytes": images.source_bytes,
                "whole_bytes": whole.bytes,
                "store_bytes": after,
                "key_bytes": store.manifest["bytes"]["keys"],
                "of_source": f"{after / images.source_bytes:.4f}",
                "of_whole": f"{after / whole.bytes:.4f}",
                "whole_psnr": f"{whole.psnr:.2f}",
                "kept_psnr": f"{kept:.2f}",
                "of_whole_at_kept_psnr": "" if np.isnan(matched) else f"{matched:.4f}",
                "restored_psnr": f"{psnr(error, 3 * images.pixels):.2f}",
                "restored_ssim": f"{similarity / len(images.images):.4f}",
                "seconds": f"{seconds:.1f}",
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/STORE.md: a line for each set and codec."""
    lines = [
        "| set (images; source, bytes) | codec, patch | whole, re-encoded: bytes (PSNR) | store, θ = 0, 0.2, 0.5 | "
        "of whole, θ = 0.2 | at the store's PSNR | kept pixels, PSNR | restored, PSNR / SSIM, θ = 0, 0.2, 0.5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for i in range(0, len(rows), len(DROPS)):
        some = rows[i : i + len(DROPS)]
        one, n = some[1], some[1]["images"]

        def each(value: Any, n: int = n) -> str:
            return f"{int(value) / n:,.0f}"

        name = f"{one['codec']} q{one['quality']}" if one["quality"] else one["codec"]
        lossless = one["quality"] == ""
        whole = each(one["whole_bytes"]) + ("" if lossless else f" ({float(one['whole_psnr']):.1f})")
        restored = ", ".join(
            f"{float(row['restored_psnr']):.1f} / {float(row['restored_ssim']):.3f}"
            if row["restored_psnr"] != "inf"
            else "∞ / 1"
            for row in some
        )
        lines.append(
            f"| {one['set']} ({n:,}; {each(one['source_bytes'])}) | {name}, {one['patch']} | {whole} | "
            f"{', '.join(each(row['store_bytes']) for row in some)} | {float(one['of_whole']):.3f} | "
            f"{one['of_whole_at_kept_psnr'] and format(float(one['of_whole_at_kept_psnr']), '.3f')} | "
            f"{'∞' if lossless else format(float(one['kept_psnr']), '.1f')} | {restored} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write the CSV after every codec, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--set", dest="sets", action="append", choices=SETS, help="default: all three")
    parser.add_argument(
        "--codec", action="append", choices=sorted({c[0] for c in CODECS["photos"]}), help="default: all"
    )
    parser.add_argument("--count", type=int, help="images of each set (default: 160, 2,000 and 52)")
    parser.add_argument("--full", action="store_true", help="all images")
    parser.add_argument("--csv", type=Path, default=Path(__file__).parents[1] / "results" / "store-sizes.csv")
    parsed = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in parsed.sets or SETS:
        images = load(name, parsed.data, None if parsed.full else parsed.count or QUICK[name])
        for codec, quality, patch in CODECS["small" if name == "cifar10" else "photos"]:
            if parsed.codec and codec not in parsed.codec:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                rows += measure(images, codec, quality, patch or images.patch, Path(scratch))
            with parsed.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            print(
                *(f"{rows[-2][c]}" for c in ("set", "codec", "quality", "of_whole", "of_whole_at_kept_psnr")),
                file=sys.stderr,
            )
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
