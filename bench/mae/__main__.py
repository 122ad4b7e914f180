"""How well fills restore dropped patches of CIFAR-10's test images: the table of docs/MAE.md.

    python bench/mae --data DIR --weights resnet20.th --write

DIR holds cifar-10-batches-py; the weights are a ResNet-20's, whose GradCAM++ scores choose the kept patches, as in a
store. Every fill sees the same kept patches. `--write` puts the table into docs/MAE.md and bench/mae/results.csv;
`--sheet FILE` draws some of the images.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dq_fast.data import Subset, open_source
from dq_fast.embed import load_classifier
from dq_fast.restore import Fill, make_fill
from dq_fast.restore.fill import Mask, NearestFill, Pixels
from dq_fast.restore.mae import MAEFill
from dq_fast.restore.mae.patchify import smooth_fill
from dq_fast.restore.mae.patterns import draw_kept, score_images

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "MAE.md"
BEGIN, END = "<!-- table: python bench/mae -->", "<!-- end of table -->"
PATCH, GRID = 4, (8, 8)
DROPS = (0.2, 0.35, 0.5)
PATTERNS = {"GradCAM++": 1.0, "random": 0.0}
COLUMNS = ("pattern", "drop", "fill", "psnr", "ms_per_image")


class NavierStokes(Fill):
    """OpenCV's other inpainting (Bertalmio 2001)."""

    def __call__(self, image: Pixels, dropped: Mask) -> Pixels:  # noqa: D102
        import cv2

        filled = NearestFill()(image, dropped)
        filled[:] = cv2.inpaint(filled, dropped.astype(np.uint8), 3, cv2.INPAINT_NS)
        return filled


class Smooth(Fill):
    """The smooth fill that the MAE starts from, alone."""

    def __call__(self, image: Pixels, dropped: Mask) -> Pixels:  # noqa: D102
        return self.batch([image], [dropped])[0]

    def batch(self, images, dropped):  # type: ignore[no-untyped-def]  # noqa: D102
        filled = smooth_fill(torch.from_numpy(np.stack(images)).float(), torch.from_numpy(~np.stack(dropped)))
        return list(filled.round().clamp(0, 255).to(torch.uint8).numpy())


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder with cifar-10-batches-py")
    parser.add_argument("--weights", required=True, metavar="FILE", help="of a ResNet-20 for CIFAR-10")
    parser.add_argument("--checkpoint", default="cifar10", metavar="FILE", help="default: the shipped one")
    parser.add_argument("--images", type=int, default=2000, metavar="N", help="the first N test images")
    parser.add_argument("--write", action="store_true", help="write docs/MAE.md's table and bench/mae/results.csv")
    parser.add_argument("--sheet", metavar="FILE", help="draw 12 images at θ = 0.35 with every fill, as a PNG")
    given = parser.parse_args()

    source = open_source(str(Path(given.data) / "cifar-10-batches-py"), split="test")
    source = Subset(source, np.arange(min(given.images, len(source))))
    classifier = load_classifier("resnet20_cifar", num_classes=10, weights=given.weights)
    scored = score_images(source, classifier, PATCH)
    images = np.stack([source.read(i) for i in range(len(source))])
    fills: dict[str, Fill] = {
        "mean": make_fill("mean"),
        "nearest": make_fill("nearest"),
        "inpaint (Telea)": make_fill("inpaint"),
        "inpaint (Navier-Stokes)": NavierStokes(),
        "smooth, no weights": Smooth(),
        "mae": MAEFill(given.checkpoint),
    }
    rows = []
    for pattern, share in PATTERNS.items():
        for drop in DROPS:
            masks = kept_masks(scored, drop, share)
            for name, fill in fills.items():
                filled, seconds = run(fill, images, masks)
                assert (filled[~masks] == images[~masks]).all(), f"{name} changed kept pixels"
                row = (pattern, drop, name, psnr(filled, images, masks), 1e3 * seconds / len(images))
                rows.append(row)
                print(f"{pattern:10} θ {drop:.2f}  {name:24} {row[3]:6.2f} dB  {row[4]:6.2f} ms", flush=True)
    table = markdown(rows, list(fills), len(images))
    print(table)
    if given.write:
        write(table, rows)
    if given.sheet:
        masks = kept_masks(scored, 0.35, 1.0)
        sheet(
            given.sheet,
            images[:12],
            masks[:12],
            {name: fill.batch(list(images[:12]), list(masks[:12])) for name, fill in fills.items()},
        )


def kept_masks(scored, drop: float, share: float) -> NDArray[np.bool_]:  # type: ignore[no-untyped-def]
    """Dropped pixels, bool [n, 32, 32]."""
    scores = [scored.window(i, 0, 0, GRID) for i in range(len(scored))]
    kept = draw_kept(scores, GRID[0] * GRID[1], drop, share, np.random.default_rng(0)).numpy()
    dropped = np.ones((len(kept), GRID[0] * GRID[1]), bool)
    np.put_along_axis(dropped, kept, False, axis=1)
    return dropped.reshape(-1, *GRID).repeat(PATCH, 1).repeat(PATCH, 2)


def run(fill: Fill, images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], float]:
    """Restored images, and seconds of CPU for all; in batches of 64."""
    began = time.process_time()
    found = []
    for at in range(0, len(images), 64):
        found += fill.batch(list(images[at : at + 64]), list(masks[at : at + 64]))
    return np.stack(found), time.process_time() - began


def psnr(filled: NDArray[np.uint8], images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> float:
    """PSNR, dB, over all dropped pixels of all images."""
    return 10 * math.log10(255**2 / float(np.mean((filled.astype(np.float64) - images)[masks] ** 2)))


def markdown(rows: list[tuple[str, float, str, float, float]], names: list[str], images: int) -> str:
    """A table with a row a fill."""
    settings = list(dict.fromkeys((pattern, drop) for pattern, drop, *_ in rows))
    value = {(pattern, drop, name): db for pattern, drop, name, db, _ in rows}
    heads = " | ".join(f"{pattern}, θ = {drop:g}" for pattern, drop in settings)
    lines = [f"| fill | {heads} | CPU ms an image |", "|---|" + "---|" * (len(settings) + 1)]
    for name in names:
        bold = "**" if name == "mae" else ""
        cells = " | ".join(f"{bold}{value[pattern, drop, name]:.2f}{bold}" for pattern, drop in settings)
        time_ms = np.median([ms for *_, fill, _, ms in rows if fill == name])
        lines.append(f"| {bold}{name}{bold} | {cells} | {time_ms:.2g} |")
    lines.append("")
    lines.append(f"PSNR in dB over all dropped pixels of CIFAR-10's first {images:,} test images, patch 4; one thread.")
    return "\n".join(lines)


def write(table: str, rows: list[tuple[str, float, str, float, float]]) -> None:
    """Into docs/MAE.md, between its marks, and bench/mae/results.csv."""
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCS.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    with open(HERE / "results.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((pattern, drop, name, f"{db:.3f}", f"{ms:.3g}") for pattern, drop, name, db, ms in rows)


def sheet(path: str, images: NDArray[np.uint8], masks: NDArray[np.bool_], filled: dict[str, list[Pixels]]) -> None:
    """A row an image: original, kept patches, every fill; six times as large."""
    kept = np.where(masks[..., None], np.uint8(128), images)
    columns = {"original": list(images), "kept": list(kept), **filled}
    side, gap, top = 32 * 4, 6, 18
    picture = Image.new("RGB", (len(columns) * (side + gap), top + len(images) * (side + gap)), "white")
    draw = ImageDraw.Draw(picture)
    for x, (name, column) in enumerate(columns.items()):
        draw.text((x * (side + gap) + 2, 3), name, fill="black")
        for y, image in enumerate(column):
            large = Image.fromarray(np.asarray(image)).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(large, (x * (side + gap), top + y * (side + gap)))
    picture.save(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
