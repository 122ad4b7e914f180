from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dq_fast as dq
from dq_fast.cli import main
from dq_fast.errors import InputError
from dq_fast.pipeline.report import write_report
from dq_fast.pipeline.report_images import spread_over_classes
from dq_fast.pipeline.report_tables import MOST_CLASSES, class_bars
from dq_fast.report.images import COLUMNS, attention
from dq_fast.report.maps import BACKGROUNDS, coloured, contrast, distinct, graded
from dq_fast.report.plane import in_plane, principal
from dq_fast.restore.mae import MAEFill, save_mae
from dq_fast.restore.sheet import mosaic_cells

# what a data set that wishes no good calls its classes and files
CLASSES = ["<script>alert(1)<", "a&b \"'", "{{ 7*7 }}$x$"]
VOID = {"meta", "img", "source", "br", "link"}


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def images(self, alt: str) -> list[np.ndarray]:
        found = [a for tag, a in self.tags if tag == "img" and alt in (a["alt"] or "")]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(a["src"].partition(",")[2])))) for a in found]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with its run folder, of a folder of images with hostile names."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for k in range(14 + 6 * label):
            pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
            pixels[label * 4 : label * 4 + 6, :8] |= 0xC0
            Image.fromarray(pixels).save(folder / "photos" / name / f'"><svg onload=x {k:02d}>.png')
    store = dq.compress(
        folder / "photos", folder / "out.dq", model="resnet20_cifar", train_epochs=1, n_bins=3, keep=0.5, drop=0.3
    )
    return folder, store


def read(result) -> tuple[str, Page]:
    text = Path(result["report"]).read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_shows_everything_and_is_whole(made):
    folder, store = made
    result = write_report(folder / "out.dq", images=5, points=50)
    text, page = read(result)
    assert result["report"] == str(folder / "out.dq.html")
    assert result["bytes"] == len(text.encode()) < 5e6
    assert result["left_out"] == []
    assert result["sections"] == [
        "summary", "sheets", "mosaic", "maps", "classes", "bins", "bytes", "seconds", "parameters", "versions",
    ]  # fmt: skip
    assert page.open == []
    targets = {a["href"] for tag, a in page.tags if tag == "a"}
    assert targets == {f"#{name}" for name in result["sections"]}
    assert {a["id"] for tag, a in page.tags if tag == "h2"} == set(result["sections"])
    words = " ".join(" ".join(page.words).split())
    for shown in ("30 of 60 kept (50.0%)", "4 × 4 px, webp-lossless", "14, 7 kept (50%)", "embed", "resnet20_cifar"):
        assert shown in words
    before = store.manifest["bytes"]["before"]
    assert f"{before / 1024:.1f} KiB" in words


def test_nothing_of_the_data_set_is_taken_for_html_and_nothing_is_loaded(made):
    folder, store = made
    text, page = read(write_report(folder / "out.dq", folder / "safe.html", images=6, projection="pca"))
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "p", "nav", "a", "main", "h2", "h3", "table",
        "caption", "thead", "tbody", "tr", "th", "td", "b", "small", "div", "ul", "li", "span", "picture", "source",
        "img",
    }  # fmt: skip
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    addresses = [a[name] for _, a in page.tags for name in ("src", "srcset", "href") if name in a]
    assert all(address.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) for address in addresses)
    assert "url(" not in text
    assert "@import" not in text
    assert all(a["alt"] for tag, a in page.tags if tag == "img")
    words = " ".join(page.words)
    shown = [id for id in store.ids if id in words]
    assert len(shown) == 6
    assert all(name in words for name in CLASSES)  # as they are: {{ 7*7 }} was not computed
    assert "49$x$" not in words


def test_pictures_are_what_they_say(made):
    folder, store = made
    _, page = read(write_report(folder / "out.dq", folder / "all.html", images=len(store), points=0))
    source = dq.open_source(str(folder / "photos"))
    place = {id: i for i, id in enumerate(source.ids)}
    for i, id in enumerate(store.ids):
        (original,) = page.images(f"original image of {store.class_names[store.labels[i]]}, {id}")
        assert (original == source.read(place[id])).all()
        (kept,) = page.images(f"of {store.class_names[store.labels[i]]}, {id} that were kept")
        _, dropped = store.kept(i)
        assert (kept[dropped] == 128).all()
        assert (kept[~dropped] == original[~dropped]).all()
        (restored,) = page.images(f"{id}, restored from")
        assert (restored == store.read(i)).all()
        cells, (patches, _) = mosaic_cells(store, i), store.patches(i)
        mosaic = store.mosaic(store.shard_of(i))
        for cell, patch in zip(cells.tolist(), patches, strict=True):
            y, x = divmod(cell, mosaic.shape[1] // 4)
            assert (mosaic[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] == patch).all()
        seen = page.images(f"patches of {store.class_names[store.labels[i]]}, {id}, bright")[0].astype(float)
        # what was dropped is what the classifier looks at least: darker, once the image underneath is taken off
        heat = (seen - 0.38 * (original @ np.array([0.299, 0.587, 0.114]))[..., None]).sum(-1)
        assert heat[dropped].max() < heat[~dropped].min() + 3


def test_the_autoencoder_beside_the_fill(made, tmp_path, capsys):
    folder, store = made
    mae = MAEFill("cifar10")
    source = dq.open_source(str(folder / "photos"))
    place = {id: i for i, id in enumerate(source.ids)}
    text, page = read(write_report(folder / "out.dq", tmp_path / "mae.html", mae="auto", images=4, points=0))
    assert [word for word in page.words if word in COLUMNS] == list(COLUMNS)
    assert "autoencoder (checkpoint cifar10)" in text
    assert "(mean fill)" in text
    words = " ".join(page.words)
    shown = [i for i, id in enumerate(store.ids) if id in words]
    assert len(shown) == 4
    for i in shown:
        kept, dropped = store.kept(i)
        (found,) = page.images(f"{store.ids[i]}, dropped patches predicted")
        (mean,) = page.images(f"{store.ids[i]}, restored from")
        assert (found == mae(kept, dropped)).all()
        assert (found[~dropped] == mean[~dropped]).all()
        assert (found[dropped] != mean[dropped]).any()
        original = source.read(place[store.ids[i]])
        for image, name in ((mean, "restored"), (found, "MAE")):
            error = ((image[dropped].astype(float) - original[dropped]) ** 2).mean()
            assert f"{20 * np.log10(255) - 10 * np.log10(error):.1f} dB {name}" in words

    # a file, by the command, without the source; and a store that the package's own is not for
    shutil.copytree(folder / "out.dq", tmp_path / "alone")
    save_mae(tmp_path / "own.safetensors", mae.model)
    call = ["report", str(tmp_path / "alone"), "--points", "0", "--images", "2", "-q", "--mae"]
    (folder / "photos").rename(folder / "away")
    try:
        assert main([*call, str(tmp_path / "own.safetensors")]) == 0
    finally:
        (folder / "away").rename(folder / "photos")
    page = Page((tmp_path / "alone.html").read_text(encoding="utf-8"))
    assert len(page.images("dropped patches predicted")) == 2
    assert "dB" not in " ".join(page.words)
    (tmp_path / "large" / "a").mkdir(parents=True)
    for k in range(8):
        Image.fromarray(np.full((8, 72, 3), 9 * k, np.uint8)).save(tmp_path / "large" / "a" / f"{k}.png")
    dq.compress(tmp_path / "large", tmp_path / "large.dq", model="resnet20_cifar", train_epochs=1, n_bins=1, keep=0.5)
    capsys.readouterr()
    assert main(["report", str(tmp_path / "large.dq"), "--points", "0", "--mae"]) == 2
    assert "mae must be a checkpoint for this store (patches of 16 px, images up to 72 px)" in capsys.readouterr().err
    assert not (tmp_path / "large.dq.html").exists()
    assert main([*call, str(tmp_path / "none.pth")]) == 2
    assert "must be an existing file" in capsys.readouterr().err


def test_equal_seeds_give_equal_pages(made):
    folder, _ = made
    pages = [
        Path(write_report(folder / "out.dq", folder / f"{name}.html", points=40, seed=seed)["report"]).read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert pages[0] == pages[1] != pages[2]


def test_what_is_not_there_is_left_out_with_a_word(made, tmp_path):
    folder, _ = made
    shutil.copytree(folder / "out.dq", tmp_path / "alone")
    alone = write_report(tmp_path / "alone", images=2)
    assert {"sheets", "classes", "bytes"} <= set(alone["sections"])
    assert not {"maps", "bins", "seconds"} & set(alone["sections"])
    assert [line for line in alone["left_out"] if "there is no run folder" in line]
    assert [line for line in alone["left_out"] if line.startswith("Attention")]
    shutil.rmtree(tmp_path / "alone" / "keys")
    locked = write_report(tmp_path / "alone", images=2)
    assert "sheets" not in locked["sections"]
    assert "mosaic" in locked["sections"]
    assert [line for line in locked["left_out"] if "position keys" in line]

    run = tmp_path / "run"
    shutil.copytree(folder / "out.dq.work", run)
    bins = {"summary", "maps", "classes", "bins", "seconds", "parameters", "versions"}
    assert set(write_report(run, projection="pca")["sections"]) == bins
    shutil.rmtree(run / "sample")
    drawn = write_report(run, projection="pca")
    assert set(drawn["sections"]) == bins
    assert [line for line in drawn["left_out"] if line.startswith("Kept samples")]
    assert "kept" not in " ".join(word for word in read(drawn)[1].words if word.startswith("14"))
    for stage, line in (("bins", "Bins: they were not made"), ("embed", "Bins: the images were not embedded")):
        shutil.rmtree(run / stage)
        assert [words for words in write_report(run)["left_out"] if words.startswith(line)]
    shutil.rmtree(run / "source")
    assert "no finished stage" in " ".join(write_report(run)["left_out"])


def test_the_command(made, tmp_path, capsys, monkeypatch):
    folder, _ = made
    target = tmp_path / "look.html"
    call = ["report", str(folder / "out.dq"), "-o", str(target), "--points", "0", "--images", "1", "-q"]
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(target)
    assert main(call) == 0  # an earlier report is replaced
    assert str(target) in capsys.readouterr().out
    target.write_text("my notes")
    for wrong, words in (
        (call, "is no dq_fast report"),
        (["report", str(tmp_path)], "must be a store or a run folder"),
        ([*call[:2], "--class", "cat"], "class must be one of"),
        ([*call[:2], "--work", str(tmp_path)], "work must be a run folder"),
        ([*call[:2], "--projection", "umap"], "pip install umap-learn"),
    ):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "umap" else object())
        assert main(wrong) == 2
        assert words in capsys.readouterr().err
    assert target.read_text() == "my notes"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(call) == 2
    assert "pip install 'dq_fast[report]'" in capsys.readouterr().err


def test_features_in_the_plane():
    rng = np.random.default_rng(0)
    far = np.concatenate([rng.normal(0, 0.1, (30, 6)), rng.normal(5, 0.1, (30, 6))])
    for projection in ("tsne", "pca"):
        plane = in_plane(far, projection, 0)
        assert plane.shape == (60, 2)
        assert (plane == in_plane(far, projection, 0)).all()
        within = np.linalg.norm(plane[:30] - plane[:30].mean(0), axis=1).max()
        between = np.linalg.norm(plane[:30].mean(0) - plane[30:].mean(0))
        assert between > 2 * within
    axes = principal(far, 6)
    assert np.allclose(axes.T @ axes, np.diag(np.diag(axes.T @ axes)), atol=1e-8)
    assert np.allclose(principal(far, 2), principal(far.copy(order="F"), 2))
    assert in_plane(far[:5], "pca", 0) is None
    assert in_plane(np.ones((40, 3)), "tsne", 0) is None
    assert in_plane(rng.normal(size=(20, 1)), "tsne", 0).shape == (20, 2)
    with pytest.raises(InputError, match="projection must be one of tsne, umap, pca, got 'lda'"):
        in_plane(far, "lda", 0)


def test_points_stand_out_from_light_and_dark_pages():
    template = files("dq_fast.report").joinpath("page.html.j2").read_text("utf-8")
    for dark, background in BACKGROUNDS.items():
        assert f"--back: #{background[1:] if dark else 'fff'};" in template
        for colours in (distinct(2), distinct(10), distinct(20), distinct(40), graded(1), graded(10), graded(50)):
            assert all(contrast(pair[dark], background) >= 3 for pair in colours)
        for colours in (distinct(20), graded(20)):
            assert len({pair[dark] for pair in colours}) == 20
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the usual example: just below 4.5
    plane = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    picture = coloured(plane, np.array([0, 1, -1]), [("#aa0000", "#00aa00"), ("#aa0000", "#00aa00")], "three")
    for content, channel in ((picture.content, 0), (picture.dark, 1)):
        pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).astype(int)
        strong = pixels[..., :3].max(-1) - pixels[..., :3].min(-1) > 100
        seen = pixels[strong & (pixels[..., 3] > 200)]
        assert len(seen) > 20
        assert (seen[:, :3].argmax(-1) == channel).all()
        # the frame is whole
        alpha = pixels[..., 3] > 0
        for edge in (alpha[:4], alpha[-4:], alpha[:, :4].T, alpha[:, -4:].T):
            assert edge.mean(axis=1).max() > 0.9


def test_choice_of_images_and_of_classes():
    labels = np.array([0] * 50 + [1] * 3 + [2])
    chosen = spread_over_classes(labels, 6, 0)
    assert np.bincount(labels[chosen]).tolist() == [3, 2, 1]
    assert len(set(spread_over_classes(labels, 100, 0))) == 54
    names = [f"class {c}" for c in range(MOST_CLASSES + 40)]
    counts = np.arange(1, len(names) + 1)
    bars = class_bars(names, np.repeat(np.arange(len(names)), counts), None)
    assert len(bars) == MOST_CLASSES + 1
    assert bars[0].name == "class 40"  # the larger ones, in their own order
    assert bars[-1].value == f"{sum(range(1, 41)):,}"
    scores = np.array([[0.1, 0.9], [0.3, 0.2]], np.float32)
    shown = attention(np.zeros((7, 8, 3), np.uint8), scores, 4).sum(-1)
    assert shown.shape == (7, 8)
    assert shown[0, 4] > shown[4, 0] > shown[4, 4] > shown[0, 0]
