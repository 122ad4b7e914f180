"""Training: what it draws, that it learns, and that an interrupted one ends as an uninterrupted one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from dq_fast.data import Source
from dq_fast.embed import load_classifier
from dq_fast.errors import BadImageError, InputError
from dq_fast.patches import PixelQuantizer
from dq_fast.restore import make_fill
from dq_fast.restore.mae import MAEConfig, MAEFill, MAERecipe, load_mae, train_mae
from dq_fast.restore.mae.checkpoints import read_notes
from dq_fast.restore.mae.patterns import draw_kept, load_scores, save_scores, score_images
from dq_fast.restore.mae.windows import Windows

pytest.importorskip("timm")
CONFIG = MAEConfig(
    patch=4, grid=(3, 4), dim=16, depth=1, heads=2, decoder_dim=16, decoder_depth=1, decoder_heads=2, base="smooth"
)


class Waves(Source):
    """Images of one wave each, of several sizes: what a patch shows can be told from the others."""

    kind = spec = "waves"

    def __init__(self, n: int, sizes: tuple[tuple[int, int], ...] = ((12, 16),), bad: tuple[int, ...] = ()) -> None:
        self.ids = [f"{i:04d}" for i in range(n)]
        self.labels, self.class_names = np.arange(n) % 2, ["a", "b"]
        self.sizes, self.bad = sizes, bad

    def read(self, i: int) -> np.ndarray:
        if i in self.bad:
            raise BadImageError(self.ids[i], "made so")
        rng = np.random.default_rng(i)
        height, width = self.sizes[i % len(self.sizes)]
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(y * rng.uniform(0.4, 0.6) + x * rng.uniform(0.4, 0.6) + rng.uniform(0, 6)) for _ in range(3)]
        return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)

    def size_of(self, i: int) -> int:
        return 1


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("resnet20_cifar", num_classes=2, input_size=(12, 16))


def test_scores_are_the_quantizers(classifier, tmp_path):
    source = Waves(7, ((12, 16), (17, 8)), bad=(2,))
    scored = score_images(source, classifier, 4, batch_size=3, max_bad=0.5)
    assert scored.index.tolist() == [0, 1, 3, 4, 5, 6]
    assert scored.bad == [{"id": "0002", "reason": "made so"}]
    assert scored.grids.tolist() == [[3, 4] if i % 2 == 0 else [5, 2] for i in scored.index]
    quantizer = PixelQuantizer(classifier.module)
    for row, i in enumerate(scored.index.tolist()):
        x = classifier.preprocess(source.read(i))[None]
        expected = quantizer.scores(x, [int(source.labels[i])], [tuple(scored.grids[row])])[0]
        found = scored.scores[scored.offsets[row] : scored.offsets[row + 1]]
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)
        assert (scored.window(row, 1, 0, (2, 2)) == found.reshape(*scored.grids[row])[1:3, :2]).all()
    save_scores(tmp_path, {"a": 1}, scored)
    again = load_scores(tmp_path, {"a": 1})
    assert again is not None
    assert (again.scores == scored.scores).all()
    assert again.bad == scored.bad
    assert load_scores(tmp_path, {"a": 2}) is None


def test_patterns_keep_the_best_scored_or_as_many_at_random():
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=12).astype(np.float32) for _ in range(4000)]
    best = draw_kept(scores, 12, 0.4, 1.0, rng).numpy()
    assert best.shape == (4000, 7)
    for row, of_image in zip(best[:50], scores, strict=False):
        assert set(row) == set(np.argsort(-of_image)[:7])
        assert (np.diff(row) > 0).all()
    random = draw_kept(scores, 12, 0.4, 0.0, rng).numpy()
    counts = np.bincount(random.reshape(-1), minlength=12)
    assert np.abs(counts - 4000 * 7 / 12).max() < 6 * np.sqrt(4000 * (7 / 12) * (5 / 12))
    mixed = draw_kept(scores, 12, 0.4, 0.25, rng).numpy()
    same = np.mean([(a == b).all() for a, b in zip(mixed, best, strict=True)])
    assert abs(same - (0.25 + 0.75 / 792)) < 0.04  # 792 = 12 over 7
    assert draw_kept([np.zeros(0, np.float32)] * 3, 12, 0.4, 1.0, rng).shape == (3, 7)


def test_windows_are_cut_from_images_with_their_scores(classifier):
    """Images and scores of a window belong together, mirrored or not; sides that the patch does not divide repeat."""
    source = Waves(12, ((12, 16), (22, 31)))
    scored = score_images(source, classifier, 4)
    scored.scores = np.arange(len(scored.scores), dtype=np.float32)  # a name for every patch
    recipe = MAERecipe(steps=9, batch_size=4, real_share=1.0, drops=(0.5, 0.5))
    windows = Windows(source, scored, np.arange(12), CONFIG, recipe)
    padded = [
        np.pad(image, ((0, -image.shape[0] % 4), (0, -image.shape[1] % 4), (0, 0)), "edge")
        for image in map(source.read, range(12))
    ]
    seen, mirrors = set(), set()
    for epoch in range(3):
        for images, scores in windows._read(np.arange(12), 12, epoch, 0):
            for row, (image, names) in enumerate(zip(images.numpy(), scores, strict=True)):
                assert names.shape == (3, 4)
                corner = int(names.min() - scored.offsets[row])
                top, left = divmod(corner, int(scored.grids[row][1]))
                mirrored = names[0, 0] > names[0, 1]
                expected = padded[row][top * 4 : top * 4 + 12, left * 4 : left * 4 + 16]
                assert (image == (expected[:, ::-1] if mirrored else expected)).all()
                seen.add((row, top, left))
                mirrors.add(bool(mirrored))
    assert mirrors == {True, False}
    assert len(seen) > 12
    batches = list(windows.batches(2, 8, 0))
    assert [images.shape for images, _ in batches] == [(4, 12, 16, 3)] * 6
    for (a, b), (c, d) in zip(batches[3:], windows.batches(5, 8, 2), strict=True):  # from the middle, with threads
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_it_learns(classifier, tmp_path):
    """Waves go on through a hole; a smooth surface does not: the trained model halves its error on other images."""
    recipe = MAERecipe(steps=150, batch_size=32, lr=4e-3, ema=0.9, drops=(0.25, 0.25))
    done = train_mae(Waves(256), tmp_path, CONFIG, recipe, classifier=classifier, validation=25)
    last = done.history[-1]
    assert done.images == 256 - 25
    assert last["validation_psnr"] > last["base_psnr"] + 3
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [row["step"] for row in rows] == ["100", "150"]
    notes = read_notes(tmp_path)
    assert notes["recipe"]["steps"] == 150
    assert notes["history"] == done.history
    assert notes["classifier"]["name"] == "resnet20_cifar"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv", "mae.safetensors"]
    unseen = [Waves(300).read(i) for i in range(256, 300)]
    mask = np.zeros((12, 16), bool)
    mask[4:8, 4:8] = True
    filled = MAEFill(load_mae(tmp_path)).batch(unseen, [mask] * len(unseen))
    error = np.mean([(f.astype(float) - u)[mask] ** 2 for f, u in zip(filled, unseen, strict=True)])
    spread = np.mean([(u[mask] - u[~mask].mean()) ** 2 for u in unseen])
    assert error < 0.5 * spread


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("half", [False, True])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(half, classifier, tmp_path, monkeypatch):
    source, recipe = Waves(40, ((12, 16), (14, 21))), MAERecipe(steps=12, batch_size=8, seed=4)
    monkeypatch.setattr("dq_fast.restore.mae.training.LOG_STEPS", 4)
    monkeypatch.setattr("dq_fast.restore.mae.training.VALIDATE_STEPS", 8)
    options = {"classifier": classifier, "validation": 3, "half": half}
    whole = train_mae(source, tmp_path / "whole", CONFIG, recipe, **options)
    torch.manual_seed(99)  # whatever the global generator is
    monkeypatch.setattr("dq_fast.restore.mae.training.SAVE_SECONDS", 0.0)
    for stop in (3, 10):

        def stopping(stage: str, done: int, total: int | None, stop: int = stop) -> None:
            if stage == "mae-train" and done == stop + 1:
                raise Interrupted

        with pytest.raises(Interrupted):
            train_mae(source, tmp_path / "parts", CONFIG, recipe, progress=stopping, **options)
        assert not (tmp_path / "parts/mae.safetensors").exists()
    with pytest.raises(InputError, match=r"recipe\.lr"):
        train_mae(source, tmp_path / "parts", CONFIG, MAERecipe(steps=12, batch_size=8, seed=4, lr=1e-2), **options)
    parts = train_mae(source, tmp_path / "parts", CONFIG, recipe, **options)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, parts.model.state_dict()[name]), name
    without_time = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.history] for run in (whole, parts)]
    assert without_time[0] == without_time[1]
    early = train_mae(source, tmp_path / "early", CONFIG, recipe, stop_after=7, **options)
    assert (early.steps, read_notes(tmp_path / "early")["steps_done"]) == (7, 7)
    assert not torch.equal(early.model.mask_token, whole.model.mask_token)
    finished = train_mae(source, tmp_path / "early", CONFIG, recipe, **options)
    assert (finished.steps, finished.history[-1]["step"]) == (12, 12)
    for name, value in load_mae(tmp_path / "whole").state_dict().items():
        assert torch.equal(value, load_mae(tmp_path / "early").state_dict()[name]), name
    other = train_mae(source, tmp_path / "other", CONFIG, MAERecipe(steps=12, batch_size=8, seed=5), **options)
    assert not torch.equal(other.model.mask_token, whole.model.mask_token)


def test_what_cannot_be_trained_is_refused(tmp_path):
    recipe = MAERecipe(steps=2, batch_size=4)
    with pytest.raises(InputError, match="at least a batch of 4 images of 3 x 4 patches, got 3"):
        train_mae(Waves(8, ((12, 16), (8, 16), (12, 12))), tmp_path / "a", CONFIG, recipe)
    with pytest.raises(InputError, match="cannot be read"):
        train_mae(Waves(8, bad=(1,)), tmp_path / "b", CONFIG, recipe)
    with pytest.raises(InputError, match="diverged"):
        train_mae(Waves(8), tmp_path / "c", CONFIG, MAERecipe(steps=2, batch_size=4, lr=1e30))
    done = train_mae(Waves(9, ((12, 16), (8, 16))), tmp_path / "d", CONFIG, recipe, max_bad=0)  # at random
    assert (done.images, done.left_out) == (5, 4)
    for changed in ({"steps": 0}, {"drops": (0.5, 0.2)}, {"drops": (0.2, 1.0)}, {"real_share": 2}, {"lr": -1}):
        with pytest.raises(InputError):
            MAERecipe(**changed)


def test_the_shipped_checkpoint_restores_better_than_fills_without_weights(real_data: Path):
    """On images of CIFAR-10's test part."""
    images = np.load(real_data / "cifar10_ci_2000_500.npz")["x_test"][:100]
    rng = np.random.default_rng(0)
    masks = [(rng.random((8, 8)) < 0.3).repeat(4, 0).repeat(4, 1) for _ in images]

    def error(name: str) -> float:
        filled = make_fill(name).batch(list(images), masks)
        return float(np.mean((np.stack(filled).astype(float) - images)[np.stack(masks)] ** 2))

    assert error("mae:cifar10") < 0.9 * min(error(name) for name in ("mean", "nearest", "inpaint"))
