"""Training on one set and testing on another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dq_fast.data import Source, Subset, open_source
from dq_fast.embed import Recipe, load_classifier
from dq_fast.embed.resnet import BUILTIN, SmallResNet
from dq_fast.errors import InputError
from dq_fast.train import random_subset, train
from dq_fast.train.training import common_size


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A network small enough for a test, and one thread, for tiny tensors."""

    def net(num_classes: int = 10) -> SmallResNet:
        return SmallResNet([1, 1], [8, 16], num_classes=num_classes)

    monkeypatch.setitem(BUILTIN, "tiny", net)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(path: Path, n: int, seed: int, names: list[str], size: int = 8) -> Source:
    """Noise, one channel of it brighter, or none: its name is the class, and `names` numbers the classes."""
    rng = np.random.default_rng(seed)
    colour = rng.permutation(np.arange(n) % 4)
    x = rng.integers(0, 120, (n, size, size, 3), dtype=np.uint8)
    for image, c in zip(x, colour.tolist(), strict=True):
        image[..., c : c + 1] += 120
    order = ["red", "green", "blue", "grey"]
    labels = np.array([names.index(order[c]) for c in colour.tolist()])
    np.savez(path, x=x, y=labels, class_names=np.array(names))
    return open_source(str(path), split=None)


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, Source]:
    return (
        make(tmp_path / "a.npz", 240, 0, ["red", "green", "blue", "grey"]),
        make(tmp_path / "b.npz", 80, 1, ["grey", "other", "red", "blue", "green"]),
    )


RECIPE = Recipe(epochs=5, batch_size=16, pad=1)


def test_learns_and_matches_classes_by_name(sources: tuple[Source, Source]) -> None:
    result = train(*sources, model="tiny", recipe=RECIPE)
    assert result.last > 0.85  # the test set numbers the same classes otherwise
    accuracies = [h["test_accuracy"] for h in result.history]
    assert result.last == accuracies[-1]
    assert result.best == max(accuracies)
    assert accuracies[result.best_epoch - 1] == result.best
    assert all(a < result.best for a in accuracies[: result.best_epoch - 1])
    assert (result.images, result.test_images, result.steps) == (240, 80, 75)
    again = json.loads(json.dumps(result.to_dict()))
    assert again["recipe"]["batch_size"] == 16
    assert again["history"] == result.history


def test_accuracy_is_that_of_the_trained_network(sources: tuple[Source, Source]) -> None:
    train_source, test_source = sources
    classifier = load_classifier("tiny", num_classes=4, input_size=8)
    result = train(train_source, test_source, model=classifier, recipe=RECIPE)
    x = torch.stack([classifier.preprocess(test_source.read(i)) for i in range(80)])
    with torch.no_grad():
        predicted = classifier.module(x).argmax(1).tolist()
    names = [train_source.class_names[p] for p in predicted]
    right = sum(n == test_source.class_names[y] for n, y in zip(names, test_source.labels.tolist(), strict=True))
    assert result.last == right / 80


def test_same_seed_same_result(sources: tuple[Source, Source]) -> None:
    def run(seed: int) -> list[Any]:
        history = train(*sources, model="tiny", seed=seed, recipe=RECIPE).history
        return [{k: v for k, v in h.items() if k != "seconds"} for h in history]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_subset_with_the_steps_of_the_whole(sources: tuple[Source, Source]) -> None:
    whole, test = sources
    subset = random_subset(whole, 60)
    recipe = Recipe(epochs=2, batch_size=16)
    assert train(subset, test, model="tiny", recipe=recipe).steps == 8
    matched = train(subset, test, model="tiny", recipe=recipe, match_steps=len(whole))
    assert matched.steps == train(whole, test, model="tiny", recipe=recipe).steps == 30
    assert len(matched.history) == 8
    # the batch size is that of the whole, too
    assert train(subset, test, model="tiny", epochs=1, match_steps=6_000).recipe["batch_size"] == 64


class LikeAStore:
    """Only what a store promises to training."""

    def __init__(self, source: Source) -> None:
        self.ids, self.labels, self.class_names, self.hflip = (
            source.ids,
            source.labels,
            source.class_names,
            source.hflip,
        )
        self.read = source.read

    def __len__(self) -> int:
        return len(self.ids)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_works_from_anything_like_a_source(
    sources: tuple[Source, Source], cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dq_fast.embed.loading import TrainingImages

    monkeypatch.setitem(TrainingImages.__init__.__kwdefaults__, "cache_bytes", cache_bytes)
    plain = train(*sources, model="tiny", recipe=Recipe(epochs=1, batch_size=16))
    store: Any = LikeAStore(sources[0])
    assert train(store, sources[1], model="tiny", recipe=Recipe(epochs=1, batch_size=16)).last == plain.last


def test_wrong_input(sources: tuple[Source, Source], tmp_path: Path) -> None:
    train_source, test_source = sources
    with pytest.raises(InputError, match="at least one image"):
        train(train_source, Subset(test_source, []), model="tiny")
    with pytest.raises(InputError, match="match_steps"):
        train(train_source, test_source, model="tiny", match_steps=0)
    with pytest.raises(InputError, match="epochs"):
        train(train_source, test_source, model="tiny", epochs=0)
    colours = [train_source.class_names[y] for y in train_source.labels.tolist()]
    part = Subset(train_source, [i for i, c in enumerate(colours) if c != "grey"])
    part.class_names = ["red", "green", "blue", "none"]
    with pytest.raises(InputError, match="'grey' besides"):
        train(part, test_source, model="tiny")


def test_common_size(sources: tuple[Source, Source], tmp_path: Path) -> None:
    assert common_size(sources[0]) == (8, 8)
    assert common_size(make(tmp_path / "c.npz", 4, 0, ["red", "green", "blue", "grey"], size=65)) is None
    assert common_size(Subset(sources[0], [])) is None
