"""How well a simple solver puts shuffled patches together again: `python -m bench.store.jigsaw DATA`.

The solver knows the patches and nothing else. The right-hand side of a patch goes with the left-hand side of another
where continuing the patch's gradient over the edge predicts it best (Gallagher 2012: Mahalanobis distance of gradients
across the edge). Pairs that are each other's best are believed most; from the most certain of them pieces are grown,
as in Prim's algorithm, patch after patch into the place that fits best (Pomeranz, Shemesh and Ben-Shahar 2011 call such
pairs best buddies).

Measured: of all pairs of patches that were neighbours in an image, the share that the pairing (best buddies alone: also
how many of them are right) and the grown pieces have side by side again; and beside it what patches put down at random
would get. Mosaics of one image alone, and of more and more images together.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.store.sets import SETS, load
from dq_fast.patches import kept_count, patch_grid
from dq_fast.store.layout import cut_patches

COLUMNS = (
    "set", "patch", "images", "drop", "mosaics", "patches", "neighbours", "random", "best", "buddies", "buddies_right",
    "pieces", "seconds",
)  # fmt: skip


_BLOCK = 1 << 23  # entries of the matrix of all pairs that are in memory at once


def edge_factors(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How badly patch j stands to the right of patch i, as a product: float64 [m, k] and [m, k], `a[i] @ b[j]`.

    With u = edge + mean of its gradients and S its metric, a line of pixels f across from it counts (f - u)' S (f - u),
    summed over the lines: f f' with S, f with -2 S u, and 1 with u' S u. Both ways: i's edge leads to j, j's to i.

    Args:
        patches: [m, p, p, 3] uint8.
    """
    x = patches.astype(np.float64) - 128  # differences alone count; small numbers cancel less
    last, first = x[:, :, -1], x[:, :, 0]  # [m, p, 3]
    points, leads = (_points(last), _points(first)), (_leads(last, x[:, :, -2]), _leads(first, x[:, :, 1]))
    return np.concatenate([leads[0], points[0]], axis=1), np.concatenate([points[1], leads[1]], axis=1)


def _points(edge: np.ndarray) -> np.ndarray:
    """What an edge [m, p, 3] is, as seen from across: [m, 9 + 3p + 1]."""
    squares = np.einsum("mpc,mpd->mcd", edge, edge).reshape(-1, 9)
    return np.concatenate([squares, edge.reshape(len(edge), -1), np.ones((len(edge), 1))], axis=1)


def _leads(edge: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """What an edge expects across from it, given the pixels before it: [m, 9 + 3p + 1]."""
    mean, inverse = _gradients(edge - inner)
    leads = edge + mean[:, None]
    weighted = np.einsum("mcd,mpd->mpc", inverse, leads)
    constant = np.einsum("mpc,mpc->m", weighted, leads)
    return np.concatenate([inverse.reshape(-1, 9), -2 * weighted.reshape(len(edge), -1), constant[:, None]], axis=1)


def best_partners(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best patch to the right of each [m], best to the left [m], and how much better than the second best the first is.

    The matrix of all pairs, 34 GB for a mosaic of 65,536 patches, is never whole.
    """
    a, b = edge_factors(patches)
    m = len(a)
    right, left = np.zeros(m, np.int64), np.zeros(m, np.int64)
    ratio, least = np.zeros(m), np.full(m, np.inf)
    rows = max(1, _BLOCK // m)
    for begin in range(0, m, rows):
        block = a[begin : begin + rows] @ b.T
        lines = np.arange(len(block))
        block[lines, begin + lines] = np.inf  # nobody stands beside themselves
        lowest = block.min(axis=0)
        better = np.flatnonzero(lowest < least)
        least[better] = lowest[better]
        left[better] = begin + block[:, better].argmin(axis=0)
        best = block.argmin(axis=1)
        first = block[lines, best]
        block[lines, best] = np.inf
        right[begin : begin + rows] = best
        ratio[begin : begin + rows] = first / np.maximum(block.min(axis=1), 1e-6)
    return right, left, ratio


def _gradients(edge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [m, 3] of gradients [m, p, 3], and the inverse of their covariance [m, 3, 3], kept away from 0."""
    mean = edge.mean(axis=1)
    centred = edge - mean[:, None]
    covariance = np.einsum("mpc,mpd->mcd", centred, centred) / edge.shape[1] + 4 * np.eye(3)
    return mean, np.linalg.inv(covariance)


def solve(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[dict[int, tuple[int, int]]]]:
    """Best right-hand and lower neighbours [m] each, -1 where they are not each other's best, and the grown pieces.

    A piece maps patches to (row, column); every patch is in one.
    """
    found, ratio = [], []
    for turned in (patches, patches.swapaxes(1, 2)):  # to the right, below
        best, back, certain = best_partners(turned)
        found.append(np.where(back[best] == np.arange(len(best)), best, -1 - best))
        ratio.append(certain)
    return found[0], found[1], _grow(found, ratio)


def _grow(found: list[np.ndarray], ratio: list[np.ndarray]) -> list[dict[int, tuple[int, int]]]:
    """Join patches, most certain pairs first, into pieces in which no two share a place."""
    m = len(found[0])
    queue = [(float(ratio[s][i]), s, i) for s in (0, 1) for i in range(m) if found[s][i] >= 0]
    heapq.heapify(queue)
    piece_of = list(range(m))
    pieces: dict[int, dict[int, tuple[int, int]]] = {i: {i: (0, 0)} for i in range(m)}
    taken: dict[int, set[tuple[int, int]]] = {i: {(0, 0)} for i in range(m)}
    while queue:
        _, side, i = heapq.heappop(queue)
        j = int(found[side][i])
        down, across = (0, 1) if side == 0 else (1, 0)
        if len(pieces[piece_of[i]]) < len(pieces[piece_of[j]]):  # the smaller piece is moved
            i, j, down, across = j, i, -down, -across
        a, b = piece_of[i], piece_of[j]
        if a == b:
            continue
        (row, column), at = pieces[a][i], pieces[b][j]
        row, column = row + down - at[0], column + across - at[1]
        moved = {k: (r + row, c + column) for k, (r, c) in pieces[b].items()}
        if not taken[a].isdisjoint(moved.values()):
            continue
        pieces[a].update(moved)
        taken[a].update(moved.values())
        for k in moved:
            piece_of[k] = a
        del pieces[b], taken[b]
    return list(pieces.values())


def score(truth: dict[int, tuple[int, int, int]], patches: np.ndarray) -> dict[str, float]:
    """Counts of one mosaic; `truth` gives image, row and column of each patch."""
    place = {where: k for k, where in truth.items()}
    right = {k: place.get((i, r, c + 1)) for k, (i, r, c) in truth.items()}
    below = {k: place.get((i, r + 1, c)) for k, (i, r, c) in truth.items()}
    pairs = sum(v is not None for v in right.values()) + sum(v is not None for v in below.values())
    to_right, to_below, pieces = solve(patches)
    best = buddies = buddies_right = 0
    for found, real in ((to_right, right), (to_below, below)):
        for k, j in enumerate(found.tolist()):
            hit = real[k] is not None and real[k] == (j if j >= 0 else -1 - j)
            best += hit
            buddies += j >= 0
            buddies_right += hit and j >= 0
    joined = 0
    for piece in pieces:
        at = {where: k for k, where in piece.items()}
        for (r, c), k in at.items():
            joined += right[k] is not None and at.get((r, c + 1)) == right[k]
            joined += below[k] is not None and at.get((r + 1, c)) == below[k]
    m = len(patches)
    return {
        "patches": m,
        "neighbours": pairs,
        "random": pairs / max(1, m - 1),  # each pair is hit by chance once in m - 1
        "best": best,
        "buddies": buddies,
        "buddies_right": buddies_right,
        "pieces": joined,
    }


def measure(
    name: str, data: Path, together: int, drop: float, mosaics: int, patch: int | None = None
) -> dict[str, Any]:
    """A row: mosaics of `together` images each."""
    images = load(name, data, together * mosaics, seed=1)
    patch = patch or images.patch
    rng = np.random.default_rng(2)
    sums: dict[str, float] = dict.fromkeys(COLUMNS[5:12], 0.0)
    began = time.perf_counter()
    for begin in range(0, len(images.images), together):
        cut, places = [], []
        for i, image in enumerate(images.images[begin : begin + together]):
            rows, columns = patch_grid(image.shape[0], image.shape[1], patch)
            kept = np.sort(rng.choice(rows * columns, kept_count(rows * columns, drop), replace=False))
            cut.append(cut_patches(image, kept, patch))
            places += [(i, int(g) // columns, int(g) % columns) for g in kept]
        order = rng.permutation(len(places))
        for key, value in score({k: places[o] for k, o in enumerate(order)}, np.concatenate(cut)[order]).items():
            sums[key] += value
    pairs = sums["neighbours"]
    return {
        "set": name,
        "patch": patch,
        "images": together,
        "drop": drop,
        "mosaics": mosaics,
        "patches": int(sums["patches"]),
        "neighbours": int(pairs),
        "random": f"{sums['random'] / pairs:.5f}",
        "best": f"{sums['best'] / pairs:.4f}",
        "buddies": f"{sums['buddies'] / pairs:.4f}",
        "buddies_right": f"{sums['buddies_right'] / max(1, sums['buddies']):.4f}",
        "pieces": f"{sums['pieces'] / pairs:.4f}",
        "seconds": f"{time.perf_counter() - began:.1f}",
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of docs/STORE.md."""
    lines = [
        "| patches of | θ | patches | at random | best match right | best buddies right | side by side again |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        many = f"{row['images']} images" if row["images"] > 1 else "one image"
        lines.append(
            f"| {row['set']}, {row['patch']} px, {many} | {row['drop']} | {row['patches'] // row['mosaics']:,} | "
            f"{float(row['random']):.2%} | {float(row['best']):.1%} | {float(row['buddies_right']):.1%} | "
            f"{float(row['pieces']):.1%} |"
        )
    return "\n".join(lines) + "\n"


CASES: tuple[tuple[str, int, float, int, int | None], ...] = (  # set, images together, θ, mosaics, patch
    ("imagenet", 1, 0.0, 8, None),
    ("imagenet", 1, 0.2, 8, None),
    ("imagenet", 4, 0.2, 2, None),
    ("imagenet", 26, 0.2, 1, None),
    ("imagenet", 1, 0.5, 8, None),
    ("imagenet", 1, 0.2, 8, 32),
    ("clothing128", 1, 0.0, 16, None),
    ("clothing128", 1, 0.2, 16, None),
    ("clothing128", 8, 0.2, 2, None),
    ("clothing128", 80, 0.2, 1, None),
    ("cifar10", 1, 0.0, 32, None),
    ("cifar10", 1, 0.2, 32, None),
    ("cifar10", 8, 0.2, 4, None),
    ("cifar10", 80, 0.2, 1, None),
    ("cifar10", 1285, 0.2, 1, None),  # a whole mosaic of the store
)


def main() -> int:
    """Measure, write the CSV, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--set", dest="sets", action="append", choices=SETS, help="default: all three")
    parser.add_argument("--csv", type=Path, default=Path(__file__).parents[1] / "results" / "store-jigsaw.csv")
    parsed = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, together, drop, mosaics, patch in CASES:
        if name not in (parsed.sets or SETS):
            continue
        rows.append(measure(name, parsed.data, together, drop, mosaics, patch))
        print(rows[-1], file=sys.stderr)
        with parsed.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
