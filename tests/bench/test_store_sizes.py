"""The measurements of stores: PSNR over kept pixels, equal quality, and the jigsaw, against definitions spelt out."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[2]))  # bench/ is not installed; behind the package, which is

from bench.store import jigsaw, sizes
from bench.store.quality import psnr, ssim
from bench.store.sets import Images, kept_of, pixel_mask
from bench.store.whole import EqualQuality, crossing, reencode


def photos(n: int = 3, height: int = 40, width: int = 56) -> Images:
    """Smooth pictures with edges, which codecs treat as they do photos."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        image = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
        image[10:30, 12:20] = rng.integers(0, 256, 3)
        images.append(image)
    return Images("photos", 16, images, n * height * width * 3, n)


def kept_error(true: np.ndarray, back: np.ndarray, places: np.ndarray, patch: int) -> tuple[int, int]:
    """Squared error and number of values of the kept patches, one patch after another."""
    columns = -(-true.shape[1] // patch)
    error = values = 0
    for g in places.tolist():
        at = np.s_[g // columns * patch : (g // columns + 1) * patch, g % columns * patch : (g % columns + 1) * patch]
        error += int(((true[at].astype(int) - back[at]) ** 2).sum())
        values += true[at].size
    return error, values


def whole_by_hand(images: Images, kept: list[np.ndarray], quality: int) -> tuple[int, float]:
    total = error = values = 0
    for image, places in zip(images.images, kept, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
        total += len(file.getvalue())
        e, v = kept_error(image, np.asarray(Image.open(file).convert("RGB")), places, 16)
        error, values = error + e, values + v
    return total, 10 * np.log10(255**2 * values / error)


def test_equal_quality_lies_between_the_two_qualities_around_the_stores_psnr():
    images = photos()
    kept = {0.2: kept_of(images, 16, 0.2)}
    # a store that loses as much as whole files of quality 70 or so, not exactly
    wanted = (whole_by_hand(images, kept[0.2], 70)[1] + whole_by_hand(images, kept[0.2], 71)[1]) / 2
    search_from = reencode(images, "jpeg", 80, 16, kept)
    total, level = whole_by_hand(images, kept[0.2], 80)
    values = np.array([kept_error(i, i, k, 16)[1] for i, k in zip(images.images, kept[0.2], strict=True)])
    assert search_from.bytes == total
    assert psnr(float(search_from.errors[0.2].sum()), int(values.sum())) == pytest.approx(level)
    errors = {0.2: values * 255**2 / 10 ** (wanted / 10)}
    found = EqualQuality(images, "jpeg", 80, 16, kept, errors, search_from).bytes(0.2)
    assert found is not None
    low, high = found[1]
    (low_bytes, low_psnr), (high_bytes, high_psnr) = (whole_by_hand(images, kept[0.2], q) for q in (low, high))
    assert high == low + 1
    assert low_psnr <= wanted <= high_psnr
    part = (wanted - low_psnr) / (high_psnr - low_psnr)
    assert found[0] == pytest.approx(low_bytes ** (1 - part) * high_bytes**part)


def test_the_nearest_crossing_is_taken_and_a_peak_is_not_jumped_over():
    curve = {q: 30 + q / 10 for q in range(1, 101)} | {
        90: 47.0
    }  # JPEG files come back nearly whole at their own quality
    assert crossing(curve.__getitem__, 90, 46.0) == 89
    assert crossing(curve.__getitem__, 60, 36.45) == 64
    assert crossing(curve.__getitem__, 60, 35.55) == 55
    assert crossing(curve.__getitem__, 95, 55.0) is None


@pytest.mark.parametrize(("codec", "quality"), [("png", None), ("jpeg", 80)])
def test_rows_are_those_of_the_stores_pixels(tmp_path, codec, quality):
    images = photos()
    rows = sizes.measure(images, codec, quality, 16, tmp_path)
    assert [row["drop"] for row in rows] == [0.0, 0.2, 0.5]
    for row in rows:
        assert set(row) == set(sizes.COLUMNS)
        folder = tmp_path / f"photos-{codec}-{quality}-{row['drop']}"
        assert row["store_bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        store = sizes.open_store(folder)
        error = values = 0
        for i, places in enumerate(kept_of(images, 16, row["drop"])):
            e, v = kept_error(images.images[i], store.read(i), places, 16)
            error, values = error + e, values + v
        assert row["kept_psnr"] == f"{psnr(error, values):.2f}"
        assert (error == 0) == (quality is None)
    assert float(rows[1]["of_equal"]) > 0
    assert rows[0]["restored_ssim"] == "1.0000" or quality is not None
    sizes.write_rows(tmp_path / "rows.csv", rows)
    again = sizes.read_rows(tmp_path / "rows.csv")
    assert [{k: str(v) for k, v in row.items()} for row in rows] == again
    assert sizes.markdown(again) == sizes.markdown(rows)


def test_ssim_is_the_windows_definition():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 2, 17, 14, 3), np.uint8)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(weights, weights) / weights.sum() ** 2
    for k in range(2):
        x, y = a[k] @ [0.299, 0.587, 0.114], b[k] @ [0.299, 0.587, 0.114]
        values = []
        for r in range(7):
            for c in range(4):
                u, v = x[r : r + 11, c : c + 11], y[r : r + 11, c : c + 11]
                mu, mv = (window * u).sum(), (window * v).sum()
                vu, vv, both = ((window * p).sum() for p in ((u - mu) ** 2, (v - mv) ** 2, (u - mu) * (v - mv)))
                c1, c2 = 2.55**2, 7.65**2
                values.append((2 * mu * mv + c1) * (2 * both + c2) / ((mu**2 + mv**2 + c1) * (vu + vv + c2)))
        assert ssim(a, b)[k] == pytest.approx(np.mean(values))


def test_masks_reach_to_the_edge_of_images():
    mask = pixel_mask([np.array([0, 5])], 20, 40, 16)
    assert mask.shape == (1, 20, 40)
    assert mask.sum() == 16 * 16 + 4 * 8
    assert mask[0, :16, :16].all()
    assert mask[0, 16:, 32:].all()


def test_jigsaw_distances_and_blocks(monkeypatch):
    rng = np.random.default_rng(2)
    patches = rng.integers(0, 256, (30, 4, 4, 3), np.uint8)
    x = patches.astype(float)
    expected = np.zeros((30, 30))
    for i in range(30):
        for j in range(30):
            for edge, inner, across in ((x[i, :, -1], x[i, :, -2], x[j, :, 0]), (x[j, :, 0], x[j, :, 1], x[i, :, -1])):
                gradient = edge - inner
                mean = gradient.mean(axis=0)
                metric = np.linalg.inv((gradient - mean).T @ (gradient - mean) / 4 + 4 * np.eye(3))
                off = across - edge - mean
                expected[i, j] += np.einsum("pc,cd,pd->", off, metric, off)
    a, b = jigsaw.edge_factors(patches)
    np.testing.assert_allclose(a @ b.T, expected, rtol=1e-9, atol=1e-7)
    np.fill_diagonal(expected, np.inf)
    monkeypatch.setattr(jigsaw, "_BLOCK", 200)  # six rows at a time
    right, left, ratio = jigsaw.best_partners(patches)
    assert (right == expected.argmin(axis=1)).all()
    assert (left == expected.argmin(axis=0)).all()
    np.testing.assert_allclose(ratio, np.divide(*np.sort(expected, axis=1)[:, :2].T))


def test_jigsaw_puts_a_smooth_picture_together():
    y, x = np.mgrid[:32, :32].astype(float)
    image = np.stack([128 + 100 * np.sin(y / 9 + x / 13), 4 * x + 3 * y, 255 - 5 * y + x], axis=-1).clip(0, 255)
    cut = image.astype(np.uint8).reshape(4, 8, 4, 8, 3).swapaxes(1, 2).reshape(16, 8, 8, 3)
    order = np.random.default_rng(3).permutation(16)
    counts = jigsaw.score({k: (0, int(o) // 4, int(o) % 4) for k, o in enumerate(order)}, cut[order])
    assert counts["neighbours"] == 24
    assert counts["pieces"] >= 20
    assert counts["best"] >= 20


def test_the_tables_of_the_docs_are_those_of_the_results():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "STORE.md").read_text()
    rows = sizes.read_rows(root / "bench" / "results" / "store-sizes.csv")
    assert rows
    assert sizes.markdown(rows) in page
    for row in rows:
        if row["drop"] == "0.2":
            assert float(row["of_whole"]) <= 0.85, row
            assert row["codec"] == "webp" or float(row["of_equal"]) <= 0.85, row  # lossy WebP bleeds, as the page says
