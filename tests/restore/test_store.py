from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import dq_fast as dq
from dq_fast.data import Source
from dq_fast.errors import InputError
from dq_fast.restore import Fill
from dq_fast.restore import open as open_store


def test_kept_pixels_come_back_and_dropped_ones_are_filled(make_store):
    store, images, masks = make_store()
    assert len(store) == 9
    for i, (image, dropped) in enumerate(zip(images, masks, strict=True)):
        restored, label = store[i]
        assert label == i % 2
        assert isinstance(label, int)
        assert restored.dtype == np.uint8
        assert restored.shape == image.shape
        assert (restored[~dropped] == image[~dropped]).all()
        kept = image[~dropped].astype(np.float64)
        mean = np.array([sum(kept[:, c].tolist()) / len(kept) for c in range(3)])
        assert np.abs(restored[dropped] - mean).max() <= 0.5 if dropped.any() else True
        assert (store.kept(i)[1] == dropped).all()
        assert (store.read(i) == restored).all()


def test_all_kept_is_the_image_itself(make_store):
    store, images, _ = make_store(keep=1.0)
    for (restored, _), image in zip(store, images, strict=True):  # ends at IndexError
        assert (restored == image).all()


def test_a_restored_image_belongs_to_the_caller(make_store):
    store, _, _ = make_store()
    before = store[0][0].copy()
    store[0][0][:] = 0
    assert (store[0][0] == before).all()


def test_it_is_a_source(make_store):
    store, _, _ = make_store()
    assert isinstance(store, Source)
    assert list(store.ids)[:2] == ["0/000.png", "1/001.png"]
    assert store.labels.dtype == np.int64
    assert store.class_names == ["cat", "dog"]
    assert store.hflip is True
    assert store.kind == "store"
    assert len(store.fingerprint()) == 64
    total = sum(store.size_of(i) for i in range(len(store)))
    seal = (store.keys_folder / "seal.json").stat().st_size  # of the whole store, no image's
    assert 0 <= total - store.manifest["bytes"]["mosaics"] - store.manifest["bytes"]["keys"] + seal <= len(store)


def test_public_names(make_store):
    store, _, _ = make_store()
    assert isinstance(dq.open(store.path), dq.Store)


def test_restore_in_any_order_and_with_another_fill(make_store):
    store, images, masks = make_store()

    class Red(Fill):
        batch_size = 4

        def __init__(self):
            self.seen = []

        def __call__(self, image, dropped):
            raise AssertionError("batch is used")

        def batch(self, images, dropped):
            self.seen.append(len(images))
            filled = [image.copy() for image in images]
            for image, mask in zip(filled, dropped, strict=True):
                image[mask] = (255, 0, 0)
            return filled

    order = [5, 5, 0, 8, 2, 1]
    red = Red()
    for (image, label), i in zip(store.restore(order, fill=red), order, strict=True):
        assert label == i % 2
        assert (image[masks[i]] == (255, 0, 0)).all()
        assert (image[~masks[i]] == images[i][~masks[i]]).all()
    assert red.seen == [4, 2]
    assert sum(1 for _ in store.restore()) == 9
    assert list(store.restore([])) == []


def test_shuffled_is_a_permutation_that_stays_in_windows(make_store):
    store, _, _ = make_store(40)
    order = store.shuffled(0, window=2)
    assert sorted(order.tolist()) == list(range(40))
    assert (store.shuffled(0, window=2) == order).all()
    assert (store.shuffled(1, window=2) != order).any()
    shards = [store.shard_of(i) for i in order]
    runs: list[set[int]] = [set()]
    for shard in shards:  # windows of two shards, one after another
        if shard not in runs[-1] and len(runs[-1]) == 2:
            runs.append(set())
        runs[-1].add(shard)
    assert len(runs) == -(-store.n_shards // 2)
    together = [store.shard_of(i) for i in store.shuffled(0, window=store.n_shards)]
    switches = sum(a != b for a, b in itertools.pairwise(together))
    assert switches > 2 * store.n_shards
    with pytest.raises(InputError):
        store.shuffled(0, window=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_feeds_a_data_loader(make_store, workers):
    store, _, _ = make_store(12, sizes=((8, 8),))
    expected = [store[i] for i in range(12)]
    loader = DataLoader(store, batch_size=5, num_workers=workers, sampler=store.shuffled(0).tolist())
    images, labels = zip(*loader, strict=True)
    order = store.shuffled(0)
    assert (torch.cat(images).numpy() == np.stack([expected[i][0] for i in order])).all()
    assert torch.cat(labels).tolist() == [expected[i][1] for i in order]


def test_a_pickled_store_keeps_its_options(make_store, tmp_path):
    store, _, _ = make_store()
    (store.path / "keys").rename(tmp_path / "safe")
    opened = open_store(store.path, keys=tmp_path / "safe", fill="nearest")
    again = pickle.loads(pickle.dumps(opened))
    assert (again[3][0] == opened[3][0]).all()
    with pytest.raises(InputError, match="position keys"):
        open_store(store.path)[0]


@pytest.mark.parametrize("fill", ["median", "", 7, None])
def test_unknown_fills(make_store, fill):
    store, _, _ = make_store()
    with pytest.raises(InputError, match="fill must be one of mean, nearest, inpaint"):
        open_store(store.path, fill=fill)
