"""The training loop: what it learns, what it draws, and that it repeats itself."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from dq_fast.embed import Classifier, Recipe, load_classifier, train_classifier
from dq_fast.embed.fit import accuracy, count_steps, default_batch_size, schedule
from dq_fast.embed.loading import TrainingImages, random_crop, shift_and_flip
from dq_fast.errors import InputError


def make(seed: int = 0, size: int = 8) -> Classifier:
    return load_classifier("tiny_nets:tiny_net", num_classes=4, input_size=size, seed=seed)


def weights(classifier: Classifier) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in classifier.module.state_dict().values()])


def test_it_learns(blobs: Any) -> None:
    classifier, test = make(), blobs(100, seed=1)
    result = train_classifier(classifier, blobs(400), epochs=6, batch_size=16, recipe=Recipe(epochs=6, pad=1))
    assert classifier.state == "ready"
    assert not classifier.module.training
    assert accuracy(classifier, TrainingImages(test, classifier, augmented=False)) > 0.9
    assert [h["epoch"] for h in result.history] == [1, 2, 3, 4, 5, 6]
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.steps == count_steps(400, 6)
    assert result.recipe["lr"] == pytest.approx(0.1 * math.sqrt(16 / 128))


@pytest.mark.parametrize(("size", "cache"), [(8, True), (8, False), (72, True)])  # large ones are read every time
def test_same_seed_same_bits(blobs: Any, size: int, cache: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cache:
        monkeypatch.setitem(TrainingImages.__init__.__kwdefaults__, "cache_bytes", 0)
    source, out = blobs(50, size=(size, size), hflip=True), []
    for seed, workers, noise in ((1, 0, 5), (1, 3, 6), (2, 1, 5)):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        classifier = make(size=size)
        train_classifier(classifier, source, epochs=2, seed=seed, workers=workers)
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        out.append(weights(classifier))
    assert torch.equal(out[0], out[1])
    assert not torch.equal(out[0], out[2])


def test_cached_images_are_read_once(blobs: Any) -> None:
    source = blobs(30)
    train_classifier(make(), source, epochs=3)
    assert source.reads == 30


@pytest.mark.parametrize(("n", "steps"), [(1, 1), (2, 1), (7, 3), (10, 10), (33, 2)])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_an_epoch_shows_every_image_once(blobs: Any, n: int, steps: int, cache_bytes: int) -> None:
    source = blobs(n)
    source.images[:, 0, 0, 0] = np.arange(n)
    images = TrainingImages(source, make(), cache_bytes=cache_bytes)
    batches = list(images.shuffled(steps, pad=-1, seed=(0, 1)))
    seen = torch.cat([x[:, 0, 0, 0] for x, _ in batches]).tolist()
    assert sorted(set(seen)) == list(range(n))
    assert len(seen) == max(n, 2)  # a single image comes twice, for batch norm
    labels = torch.cat([y for _, y in batches]).tolist()
    assert labels == [source.labels[i] for i in seen]
    sizes = [len(x) for x, _ in batches]
    assert len(sizes) == steps
    assert max(sizes) - min(sizes) <= 1
    again = torch.cat([x[:, 0, 0, 0] for x, _ in images.shuffled(steps, pad=-1, seed=(0, 2))]).tolist()
    assert n < 7 or again != seen


def test_shift_and_flip_are_shifts_and_flips() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (200, 5, 6, 3), dtype=np.uint8)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    kinds = set()
    for got, want in zip(shift_and_flip(images, rng, 2, True), padded, strict=True):
        found = [
            (y, x, flip)
            for y in range(5)
            for x in range(5)
            for flip in (False, True)
            if np.array_equal(got, want[y : y + 5, x : x + 6][:, :: -1 if flip else 1])
        ]
        assert len(found) == 1
        kinds.update(found)
    assert len(kinds) > 45  # nearly all of the 50
    assert np.array_equal(shift_and_flip(images, rng, 0, False), images)


def test_random_crop_stays_inside_and_varies() -> None:
    # a ramp: the values tell which part was cut
    y, x = np.mgrid[0:200, 0:100]
    image = np.stack((y, x, np.zeros_like(x)), -1).astype(np.uint8)
    rng, areas, ratios = np.random.default_rng(0), [], []
    for _ in range(200):
        out = random_crop(image, (16, 12), 2, rng).astype(float)
        assert out.shape == (16, 12, 3)
        h = (out[-1, 0, 0] - out[0, 0, 0]) * 16 / 15
        w = (out[0, -1, 1] - out[0, 0, 1]) * 12 / 11
        areas.append(h * w / 20_000)
        ratios.append(h / w / 2)
    assert 0.3 < min(areas) < 0.45
    assert 0.8 < max(areas) < 1.05
    assert 0.7 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.4


def test_no_mirroring_where_the_source_forbids_it(blobs: Any) -> None:
    for hflip in (False, True):
        source = blobs(64, hflip=hflip)
        images = TrainingImages(source, make())
        plain = {image.tobytes() for image in source.images}
        shown = [x.numpy().tobytes() for x, _ in images.shuffled(64, pad=0, seed=(0,))]
        same = sum(s in plain for s in shown)
        assert (same == 64) if not hflip else (10 < same < 54)


def test_bad_images_while_training(blobs: Any) -> None:
    for cache_bytes in (0, 1 << 20):
        images = TrainingImages(blobs(30, bad=(4, 20)), make(), max_bad=0.1, cache_bytes=cache_bytes)
        labels = torch.cat([y for _, y in images.shuffled(4, pad=1, seed=(0,))])
        assert len(labels) == 28
        assert [b["id"] for b in sorted(images.bad, key=lambda b: b["id"])] == ["0000004", "0000020"]
    result = train_classifier(make(), blobs(30, bad=(4,)), epochs=1, max_bad=0.1)
    assert result.images == 29
    assert result.bad == [{"id": "0000004", "reason": "torn"}]
    with pytest.raises(InputError, match="1 of 30"):
        train_classifier(make(), blobs(30, bad=(4,)), epochs=1)


def test_steps_instead_of_epochs(blobs: Any) -> None:
    calls: list[tuple[str, int, int | None]] = []
    result = train_classifier(
        make(), blobs(20), batch_size=8, steps=8, progress=lambda *a: calls.append(a), after_epoch=lambda c: {"x": 1}
    )
    assert result.steps == 8
    assert [h["epoch"] for h in result.history] == [1, 2, 3]  # 3 + 3 + 2 updates
    assert all(h["x"] == 1 for h in result.history)
    trained = [c for c in calls if c[0] == "train"]
    assert trained[0][1] == 0
    assert trained[-1][1] == trained[-1][2]


def test_schedule() -> None:
    rates = [schedule(s, 100, 5) for s in range(100)]
    assert rates[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert rates[5] == 1
    assert all(a > b for a, b in itertools.pairwise(rates[5:]))
    assert 0 < rates[-1] < 0.001
    assert schedule(0, 1, 0) == 1
    assert [default_batch_size(n) for n in (1, 1_000, 5_000, 50_000)] == [16, 32, 64, 128]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": -1.0}, "lr"),
        ({"steps": 0}, "steps"),
        ({"recipe": Recipe(momentum=2)}, "momentum"),
        ({"labels": np.full(20, 4)}, r"0\.\.3"),
        ({"lr": 1e30}, "diverged"),
    ],
)
def test_wrong_settings(blobs: Any, options: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        train_classifier(make(), blobs(20), **options)


def test_nothing_to_train_on(blobs: Any) -> None:
    with pytest.raises(InputError, match="at least one readable image"):
        train_classifier(make(), blobs(0))


def test_one_image(blobs: Any) -> None:
    classifier = load_classifier("resnet20_cifar", num_classes=1, input_size=4)  # 1 x 1 maps in the last stage
    result = train_classifier(classifier, blobs(1, size=(4, 4), classes=1), epochs=2)
    assert math.isfinite(result.history[-1]["loss"])
