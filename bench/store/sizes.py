"""Bytes of stores against whole images re-encoded one by one, with what is lost: `python -m bench.store.sizes DATA`.

For each set, codec and θ: the source's bytes, the images re-encoded whole with the codec at the same quality, and the
finished store, everything in it counted (keys, index, manifest). Patches are kept at random, which hardly matters for
bytes. For lossy codecs also what whole images take at the quality at which they have the store's PSNR over the same
kept pixels, interpolated between two qualities.

By default some images of each set, some minutes; `--full` takes all of them (with AVIF and PNG more, but not all:
`FULL`), about half an hour of one core. With `--resume` what the CSV has already of the same images is kept.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.store.quality import psnr, squared_error, ssim
from bench.store.sets import QUICK, SETS, Images, kept_of, load, pixel_mask
from bench.store.whole import EqualQuality, kept_values, reencode
from dq_fast.files import atomic_write
from dq_fast.restore import Store
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
# With --full as many at random in place of all. AVIF takes 7 ms for a whole image of 32 px and 70 for one of 224, at
# three qualities; PNG's store, at zlib's level 9, 1 and 60 ms an image at each θ.
FULL = {
    ("clothing128", "avif"): 300,
    ("cifar10", "avif"): 3000,
    ("imagenet", "avif"): 104,
    ("clothing128", "png"): 500,
    ("cifar10", "png"): 5000,
    ("imagenet", "png"): 150,
}
COLUMNS = (
    "set", "images", "of", "patch", "codec", "quality", "layout", "drop", "source_bytes", "whole_bytes", "store_bytes",
    "key_bytes", "of_source", "of_whole", "whole_psnr", "kept_psnr", "equal_bytes", "equal_qualities", "of_equal",
    "restored_psnr", "restored_ssim", "seconds",
)  # fmt: skip
Row = dict[str, Any]


@dataclass
class Restored:
    """What a store gives back: squared errors of every image's kept pixels [n] and of all pixels, and mean SSIM."""

    kept: np.ndarray
    all: float
    ssim: float


def pack(images: Images, folder: Path, codec: str, quality: int | None, patch: int, kept: list[np.ndarray]) -> None:
    """A store of the images."""
    with StoreWriter(folder, patch=patch, codec=codec, quality=quality, class_names=["all"]) as writer:
        for i, image in enumerate(images.images):
            writer.add(f"{i:06d}", 0, image, kept[i])
        writer.close()


def restored(images: Images, store: Store, kept: list[np.ndarray]) -> Restored:
    """Read all images back, in the store's order, and compare."""
    errors, total, similarity = [], 0.0, 0.0
    for batch in images.batches():
        true = np.stack([images.images[i] for i in batch])
        back = np.stack([store.view(i) for i in batch])
        lost = squared_error(back, true)
        mask = pixel_mask([kept[i] for i in batch], lost.shape[1], lost.shape[2], store.patch)
        errors.append(np.einsum("bhw,bhw->b", lost, mask, dtype=np.int64))
        total += float(lost.sum(dtype=np.int64))
        similarity += float(ssim(back, true).sum()) if lost.any() else len(batch)
    return Restored(np.concatenate(errors), total, similarity / len(images.images))


def measure(images: Images, codec: str, quality: int | None, patch: int, scratch: Path) -> list[Row]:
    """A row for each θ."""
    kept = {drop: kept_of(images, patch, drop) for drop in DROPS}
    whole = reencode(images, codec, quality, patch, kept)
    rows: list[Row] = []
    errors = {}
    for drop in DROPS:
        began = time.perf_counter()
        folder = scratch / f"{images.name}-{codec}-{quality}-{drop}"
        pack(images, folder, codec, quality, patch, kept[drop])
        seconds = time.perf_counter() - began
        store = open_store(folder)
        back = restored(images, store, kept[drop])
        errors[drop] = back.kept
        after = store.manifest["bytes"]["after"]
        whole_error = 0.0 if quality is None else float(whole.errors[0.0].sum())
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
                "whole_psnr": f"{psnr(whole_error, 3 * images.pixels):.2f}",
                "kept_psnr": f"{psnr(float(back.kept.sum()), int(kept_values(images, patch, kept[drop]).sum())):.2f}",
                "restored_psnr": f"{psnr(back.all, 3 * images.pixels):.2f}",
                "restored_ssim": f"{back.ssim:.4f}",
                "seconds": f"{seconds:.1f}",
            }
        )
    if quality is None:
        for row in rows:
            row |= {"equal_bytes": whole.bytes, "equal_qualities": "", "of_equal": row["of_whole"]}
    else:
        search = EqualQuality(images, codec, quality, patch, kept, errors, whole)
        found_at = {0.2: search.bytes(0.2)}  # first: for the others the qualities tried for it usually do
        for row in rows:
            found = found_at.get(row["drop"]) or search.known(row["drop"])
            row |= dict.fromkeys(("equal_bytes", "equal_qualities", "of_equal"), "")
            if found is not None:
                row["equal_bytes"] = round(found[0])
                row["equal_qualities"] = "-".join(map(str, found[1]))
                row["of_equal"] = f"{row['store_bytes'] / found[0]:.4f}"
    return rows


def markdown(rows: list[Row]) -> str:
    """The table of docs/STORE.md: a line for each set and codec."""
    lines = [
        "| set (images; source, bytes) | codec, patch | whole, re-encoded: bytes (PSNR) | store, θ = 0, 0.2, 0.5 | "
        "of whole, same setting | of whole, same PSNR | kept pixels, PSNR | restored, PSNR / SSIM, θ = 0, 0.2, 0.5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for i in range(0, len(rows), len(DROPS)):
        some = rows[i : i + len(DROPS)]
        one, n = some[1], int(some[1]["images"])

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
            f"{format(float(one['of_equal']), '.3f') if one['of_equal'] else 'none'} | "
            f"{'∞' if lossless else format(float(one['kept_psnr']), '.1f')} | {restored} |"
        )
    return "\n".join(lines) + "\n"


def read_rows(path: Path) -> list[Row]:
    """Rows measured before; none if there is no such file, or one of other columns."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows: list[Row] = list(reader)
    return rows if tuple(reader.fieldnames or ()) == COLUMNS else []


def write_rows(path: Path, rows: list[Row]) -> None:
    """The CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def case_of(row: Row) -> tuple[str, ...]:
    """What a row was measured on, without θ."""
    return tuple(str(row[column]) for column in ("set", "images", "codec", "quality", "patch"))


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
    parser.add_argument("--resume", action="store_true", help="keep the rows that the CSV has of the same images")
    parser.add_argument("--csv", type=Path, default=Path(__file__).parents[1] / "results" / "store-sizes.csv")
    parsed = parser.parse_args()
    done: dict[tuple[str, ...], list[Row]] = {}
    for row in read_rows(parsed.csv) if parsed.resume else []:
        done.setdefault(case_of(row), []).append(row)
    cases: dict[tuple[str, ...], list[Row]] = {}  # in the table's order
    loaded = lru_cache(1)(partial(load, data=parsed.data))
    for name in SETS:
        for codec, quality, patch in CODECS["small" if name == "cifar10" else "photos"]:
            count = FULL.get((name, codec)) if parsed.full else parsed.count or QUICK[name]
            images = loaded(name, count=count)
            patch = patch or images.patch
            case = tuple(map(str, (name, len(images.images), codec, quality or "", patch)))
            wanted = name in (parsed.sets or SETS) and codec in (parsed.codec or [codec])
            if case in done:
                cases[case] = done[case]
            elif wanted:
                began = time.perf_counter()
                with tempfile.TemporaryDirectory() as scratch:
                    cases[case] = measure(images, codec, quality, patch, Path(scratch))
                one = cases[case][1]
                shown = [one[c] for c in ("set", "images", "codec", "quality", "of_whole", "kept_psnr", "of_equal")]
                print(*shown, f"{time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            # what comes later in the table and was measured before is not lost when this ends here
            rest = [rows for key, rows in done.items() if key not in cases]
            write_rows(parsed.csv, [row for rows in [*cases.values(), *rest] for row in rows])
    rows = [row for rows in cases.values() for row in rows]
    write_rows(parsed.csv, rows)
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
