from __future__ import annotations

import collections
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dq_fast.errors import InputError
from dq_fast.restore import Store
from dq_fast.restore.loading import StoreImages, StoreStream

SIZE = ((16, 16),)


def number(image) -> float:
    """A transform whose result tells images apart."""
    return float(np.asarray(image, dtype=np.float64).sum())


def sums(store: Store) -> list[float]:
    return [number(store.read(i)) for i in range(len(store))]


def test_items_are_what_was_asked_for(make_store):
    store, _, _ = make_store()
    image = store.read(3)
    tensor, label = StoreImages(store)[3]
    assert tensor.dtype == torch.uint8
    assert (tensor.numpy() == image.transpose(2, 0, 1)).all()
    assert label == 1
    seen = []
    for kind, made in (("pil", Image.Image), ("numpy", np.ndarray), ("tensor", torch.Tensor)):
        item, _ = StoreImages(store, lambda x: seen.append(x) or x, kind=kind)[3]
        assert isinstance(item, made)
        shown = item.permute(1, 2, 0).numpy() if kind == "tensor" else np.asarray(item)
        assert (shown == image).all()
    assert isinstance(StoreImages(store, lambda x: x)[3][0], Image.Image)
    mine = StoreImages(store, kind="numpy")[3][0]
    mine[:] = 0  # belongs to the caller
    assert (store.read(3) == image).all()
    data = StoreImages(store, number, lambda label: store.class_names[label])
    assert data[-1][1] == "cat"
    assert data.targets == store.labels.tolist()
    assert data.class_to_idx == {"cat": 0, "dog": 1}
    with pytest.raises(InputError, match="kind must be one of pil, numpy, tensor, got 'png'"):
        StoreImages(store, kind="png")


def test_a_batch_decodes_each_shard_once_whatever_the_cache(make_store):
    store, _, _ = make_store(30, sizes=SIZE)
    store = Store(store.path, cache_bytes=1)
    asked = []
    decode = store._decode
    store._decode = lambda shard: asked.append(shard) or decode(shard)
    order = np.random.default_rng(0).permutation(30).tolist()
    items = StoreImages(store, number).__getitems__([*order, order[0]])
    assert sorted(asked) == list(range(store.n_shards))
    expected = sums(store)
    assert [value for value, _ in items] == [expected[i] for i in [*order, order[0]]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_every_image_once_an_epoch_in_another_order(make_store, workers):
    store, _, _ = make_store(45, sizes=SIZE)
    assert store.n_shards > 5
    expected = sums(store)

    def epochs(stream, count):
        loader = DataLoader(stream, batch_size=4, num_workers=workers)
        return [torch.cat([values for values, _ in loader]).tolist() for _ in range(count)]

    stream = store.stream(number, seed=5, buffer=6, batch_size=4)
    first, second, third = epochs(stream, 3)
    for got in (first, second, third):
        assert sorted(got) == sorted(expected)
    assert len({tuple(first), tuple(second), tuple(third), tuple(expected)}) == 4
    again = store.stream(number, seed=5, buffer=6, batch_size=4)
    again.set_epoch(1)
    assert epochs(again, 2) == [second, third]
    plain = store.stream(number, shuffle=False)
    assert sorted(epochs(plain, 1)[0]) == sorted(expected)
    if not workers:
        assert epochs(plain, 1)[0] == expected
        # images leave the buffer mixed: neighbours in the store seldom stay neighbours
        places = [expected.index(value) for value in first]
        assert np.mean(np.diff(places) == 1) < 0.3


def test_persistent_workers_and_full_batches(make_store):
    store, _, _ = make_store(45, sizes=SIZE)
    loader = DataLoader(
        store.stream(number, batch_size=4), batch_size=4, num_workers=2, persistent_workers=True, prefetch_factor=1
    )
    epochs = [[batch for batch, _ in loader] for _ in range(2)]
    for batches in epochs:
        assert len(batches) == len(loader) == 12  # 45 images: one short batch, not one a worker
        assert sorted(torch.cat(batches).tolist()) == sorted(sums(store))
    assert torch.cat(epochs[0]).tolist() != torch.cat(epochs[1]).tolist()


def test_workers_decode_hardly_a_shard_twice(make_store):
    store, _, _ = make_store(45, sizes=SIZE)
    counts: collections.Counter[int] = collections.Counter()
    stream = store.stream(number, batch_size=4)
    for worker in range(3):
        counts.update({store.shard_of(int(i)) for i in stream._share(0, worker, 3)})
    assert sum(counts.values()) <= store.n_shards + 2


def test_ranks_share_an_epoch_evenly(make_store):
    store, _, _ = make_store(23, sizes=SIZE)
    parts = [
        [value for value, _ in store.stream(number, seed=1, rank=rank, world_size=4, buffer=5)] for rank in range(4)
    ]
    assert {len(part) for part in parts} == {6} == {len(store.stream(rank=2, world_size=4))}
    twice = collections.Counter(value for part in parts for value in part)
    assert sorted(twice) == sorted(sums(store))
    assert sum(count - 1 for count in twice.values()) == 1  # 4 x 6 = 23 + 1
    for wrong in ({"rank": 1}, {"rank": 4, "world_size": 4}, {"buffer": 0}, {"batch_size": 0}):
        with pytest.raises(InputError):
            store.stream(**wrong)


def test_spawned_workers_reopen_the_store(make_store):
    store, _, _ = make_store(20, sizes=SIZE)
    stream = store.stream(batch_size=5)  # no transform: nothing of this file to find again
    loader = DataLoader(stream, batch_size=5, num_workers=1, multiprocessing_context="spawn")
    got = torch.cat([images for images, _ in loader])
    assert sorted(got.sum((1, 2, 3), dtype=torch.float64).tolist()) == sorted(sums(store))
    assert stream._epoch[:3].tolist() == [0, 1, 0]  # the worker's count came back


def test_data_sets_are_pickled_without_what_was_decoded(make_store):
    store, _, _ = make_store(20, sizes=SIZE)
    data = store.dataset(number)
    before = len(pickle.dumps(data))
    assert [value for value, _ in (data[i] for i in range(20))] == sums(store)
    assert len(pickle.dumps(data)) == before
    assert pickle.loads(pickle.dumps(data))[4] == data[4]


def test_views_of_other_fills_are_new_images(make_store):
    store, _, _ = make_store()
    nearest = Store(store.path, fill="nearest")
    assert isinstance(StoreStream(nearest, kind="numpy").store, Store)
    for (image, _), i in zip(nearest.stream(kind="numpy", shuffle=False), range(len(nearest)), strict=True):
        assert (image == nearest.read(i)).all()
