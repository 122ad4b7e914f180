"""Images and stores that the tests of store/ and restore/ share, and a reader made from docs/STORE.md alone."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dq_fast.store import StoreWriter


@dataclass
class Sample:
    id: str
    label: int
    image: np.ndarray
    kept: np.ndarray


def texture(rng: np.random.Generator, height: int, width: int, *, grey: bool = False) -> np.ndarray:
    """Smooth waves with some noise: like photos, compressible but not trivial."""
    y, x = np.mgrid[:height, :width].astype(float)
    channels = []
    for _ in range(1 if grey else 3):
        a, b, c = *rng.uniform(0.02, 0.3, 2), rng.uniform(0, 6)
        channels.append(127 + 90 * np.sin(a * x + b * y + c) + rng.normal(0, 4, (height, width)))
    image = np.clip(np.stack(channels * (3 if grey else 1), axis=-1), 0, 255)
    return image.astype(np.uint8)


def sample(
    rng: np.random.Generator, number: int, size: tuple[int, int], patch: int, *, keep: float = 0.7, grey: bool = False
) -> Sample:
    grid = -(-size[0] // patch) * -(-size[1] // patch)
    count = min(grid, max(1, int(keep * grid)))
    kept = np.sort(rng.choice(grid, count, replace=False)).astype(np.int64)
    return Sample(f"c{number % 3}/{number:04d}.png", number % 3, texture(rng, *size, grey=grey), kept)


def samples(n: int, sizes: list[tuple[int, int]], patch: int, *, seed: int = 0, **options: Any) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return [sample(rng, i, sizes[i % len(sizes)], patch, **options) for i in range(n)]


def write(folder: Path, items: list[Sample], patch: int, *, codec: str = "webp-lossless", **options: Any) -> Path:
    writer = StoreWriter(folder, patch=patch, codec=codec, class_names=["a", "b", "c"], **options)
    for item in items[writer.done :]:
        writer.add(item.id, item.label, item.image, item.kept)
    close(writer)
    return folder


def close(writer: StoreWriter) -> None:
    writer.close(source={"spec": "test", "hflip": False}, parameters={"drop": 0.3}, bytes_before=1000)


def cut(item: Sample, patch: int) -> np.ndarray:
    """The kept patches, cut one by one: another way than the package's."""
    columns = -(-item.image.shape[1] // patch)
    out = np.zeros((len(item.kept), patch, patch, 3), np.uint8)
    for number, position in enumerate(item.kept):
        for y in range(patch):
            for x in range(patch):
                row = min(position // columns * patch + y, item.image.shape[0] - 1)
                column = min(position % columns * patch + x, item.image.shape[1] - 1)
                out[number, y, x] = item.image[row, column]
    return out


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def mini_reader(folder: Path) -> list[tuple[str, int, np.ndarray, np.ndarray]]:
    """Reads a store by docs/STORE.md with json, hashlib, numpy and Pillow: (id, label, image, known pixels) each."""
    manifest = json.loads((folder / "manifest.json").read_text())
    seal = json.loads((folder / "keys/seal.json").read_text())
    assert seal["manifest"] == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert manifest["format"] == "dq_fast store"
    assert manifest["version"] == 1
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    p = manifest["patch"]
    index = np.load(folder / "index.npz", allow_pickle=False)
    ids = index["id_bytes"].tobytes()
    extension = {"png": "png", "webp-lossless": "webp", "jpeg": "jpg", "webp": "webp", "avif": "avif"}[
        manifest["codec"]["name"]
    ]
    found, i = [], 0
    for s, shard in enumerate(manifest["shards"]):
        m = shard["patches"]
        key = np.load(folder / f"keys/{s:05d}.npy", allow_pickle=False)
        if manifest["shuffle"]["seed"] is not None:
            numbers = struct.pack("<QQ", manifest["shuffle"]["seed"], s)
            assert key[:32].tobytes() == hashlib.sha256(b"dq_fast store shard seed\0" + numbers).digest()
        drawn = hashlib.shake_256(key[:32].tobytes() + struct.pack("<Q", s)).digest(8 * m)
        order = sorted(range(m), key=lambda j: int.from_bytes(drawn[8 * j : 8 * j + 8], "little"))
        columns = 1
        while columns * columns < m:
            columns += 1
        mosaic = _pixels(folder / f"shards/{s:05d}.{extension}", manifest["codec"]["subsampling"], p)
        patches, layout = {}, manifest["layout"]
        below = mosaic[-(-m // columns) * p :].reshape(-1, 3)[:, 1]  # green, or grey three times
        for cell, j in enumerate(order):
            y, x = cell // columns, cell % columns
            if layout == "residual-bands":
                patches[j] = mosaic[y : -(-m // columns) * p : -(-m // columns), x::columns]
            else:
                patches[j] = mosaic[y * p : y * p + p, x * p : x * p + p]
            if layout != "tiles":
                patches[j] = _predicted(patches[j], int(below[cell]) if p > 1 else 0, shard["channels"])
        at, j = 32, 0
        for _ in range(shard["images"]):
            h, w = int(index["heights"][i]), int(index["widths"][i])
            rows, cols = -(-h // p), -(-w // p)
            image, known = np.zeros((rows * p, cols * p, 3), np.uint8), np.zeros((rows * p, cols * p), bool)
            for g in range(rows * cols):
                if key[at + g // 8] >> (g % 8) & 1:
                    y, x = g // cols * p, g % cols * p
                    image[y : y + p, x : x + p] = patches[j]
                    known[y : y + p, x : x + p] = True
                    j += 1
            at += -(-rows * cols // 8)
            name = ids[int(index["id_offsets"][i]) : int(index["id_offsets"][i + 1])].decode()
            found.append((name, int(index["labels"][i]), image[:h, :w], known[:h, :w]))
            i += 1
    return found


def _predicted(residual: np.ndarray, mode: int, channels: int) -> np.ndarray:
    """A patch from its residual [p, p, 3], pixel by pixel in plain integers."""
    p = len(residual)
    out = np.zeros((p, p, 3), int)
    for y in range(p):
        for x in range(p):
            r, g, b = (int(v) for v in residual[y, x])
            left = (r + g, g, b + g) if channels == 3 else (r, g, b)
            for c in range(3):
                w, n = out[y, x - 1, c] if x else 0, out[y - 1, x, c] if y else 0
                nw = out[y - 1, x - 1, c] if x and y else 0
                ne = out[y - 1, min(x + 1, p - 1), c] if y else 0
                guesses = [
                    sorted((w, n, w + n - nw))[1],
                    (3 * w + 3 * n - 2 * nw + 2) // 4,
                    w,
                    n,
                    (w + n) // 2,
                    w + (ne - nw) // 2,
                    n + (w - nw) // 2,
                    (5 * w + 5 * n - 4 * nw + 2 * ne + 4) // 8,
                ]
                guess = min(max(guesses[mode], 0), 255) if x and y else w + n
                out[y, x, c] = (guess + left[c]) % 256
    return out.astype(np.uint8)


def _pixels(path: Path, subsampling: str | None, p: int) -> np.ndarray:
    """The mosaic, its colour planes interpolated within each patch if they are subsampled."""
    image = Image.open(path)
    if path.suffix != ".jpg" or subsampling != "4:2:0" or image.mode == "L":
        return np.asarray(image.convert("RGB"))
    image.draft("YCbCr", image.size)
    planes = [np.asarray(image)[..., 0].astype(float)]
    half = Image.open(path)
    half.draft("YCbCr", (half.width // 2, half.height // 2))
    for channel in (1, 2):
        coarse = np.asarray(half)[..., channel].astype(float)
        fine = np.zeros_like(planes[0])
        for y in range(fine.shape[0]):
            for x in range(fine.shape[1]):
                rows = _two(y, p)
                for column, a in _two(x, p):
                    fine[y, x] += a * sum(b * coarse[row, column] for row, b in rows)
        planes.append(np.floor(fine + 0.5))
    y, cb, cr = planes
    red = y + 1.402 * (cr - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    blue = y + 1.772 * (cb - 128)
    return np.clip(np.rint(np.stack([red, green, blue], axis=-1)), 0, 255).astype(np.uint8)


def _two(place: int, p: int) -> list[tuple[int, float]]:
    """The two coarse places that a fine one is made from, and their weights; never from another patch."""
    near = place // 2
    other = near + (1 if place % 2 else -1)
    if other // (p // 2) != near // (p // 2) or other < 0:
        other = near
    return [(near, 0.75), (other, 0.25)]
