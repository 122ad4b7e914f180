from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dq_fast.ops.native import find
from dq_fast.restore import shards
from dq_fast.restore.fill import MeanFill
from dq_fast.restore.shards import restore_shard
from dq_fast.store.cache import ShardCache
from dq_fast.store.layout import cut_patches, grid_of, place_patches


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("patch", [1, 3, 4, 16])
@pytest.mark.parametrize("keep", [0.01, 0.6, 1.0])
def test_a_shard_at_once_is_its_images_one_by_one(patch, keep, native, monkeypatch):
    if native and not hasattr(find("cpu")[0], "restore_images"):
        pytest.skip(f"no native restore_images here: {find('cpu')[1]}")
    if not native:
        monkeypatch.setattr(shards, "find", lambda device: (None, ""))
    rng = np.random.default_rng(patch)
    sizes = np.array([(16, 16), (17, 15), (1, 40), (16, 16), (33, 2), (15, 17)])
    patches, positions, expected = [], [], []
    for height, width in sizes.tolist():
        grid = int(np.prod(grid_of(height, width, patch)))
        kept = np.sort(rng.choice(grid, max(1, int(keep * grid)), replace=False))
        if keep < 0.5:
            kept[-1] = grid - 1  # a patch that reaches over both edges
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        patches.append(cut_patches(image, kept, patch))
        positions.append(kept)
        placed, dropped = place_patches(patches[-1], kept, height, width, patch)
        expected.append(MeanFill()(placed, dropped))
    starts = np.cumsum([0, *map(len, positions)])
    found = restore_shard(np.concatenate(patches), starts, np.concatenate(positions), sizes)
    for image, right in zip(found.images, expected, strict=True):
        assert image.shape == right.shape
        assert (image == right).all()
        assert not image.flags.writeable
    assert found.nbytes >= sum(image.nbytes for image in expected)


@pytest.mark.parametrize(
    ("starts", "positions"),
    [
        ([0, 2, 3], [0, 4, 1]),
        ([0, 2, 3], [-1, 0, 1]),
        ([0, 2, 3], [1, 0, 1]),
        ([0, 3, 3], [0, 1, 2]),
        ([0, 5, 3], [0, 1, 2]),
    ],
)
def test_native_code_writes_nowhere_else(starts, positions):
    if not hasattr(find("cpu")[0], "restore_images"):
        pytest.skip(f"no native restore_images here: {find('cpu')[1]}")
    sizes = np.array([(4, 8), (8, 8)])
    with pytest.raises(ValueError, match=r"positions must ascend|do not divide"):
        restore_shard(np.zeros((3, 4, 4, 3), np.uint8), np.array(starts), np.array(positions), sizes)


def test_the_cache_forgets_what_was_used_least_lately_and_makes_nothing_twice():
    made = []

    def make(number):
        made.append(number)
        return bytes(10)

    cache = ShardCache(25, len)
    for number in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, 1 pushes 2 out
        assert len(cache.get(number, make)) == 10
    assert made == [0, 1, 2, 1]
    assert [n for n in range(3) if n in cache] == [0, 1]
    small = ShardCache(1, len)
    small.get(5, make)
    assert 5 in small  # one is always kept

    made.clear()
    begun, cache = threading.Barrier(4), ShardCache(100, len)

    def slow(number):
        made.append(number)
        threading.Event().wait(0.05)
        return bytes(10)

    def ask(_):
        begun.wait()
        return cache.get(7, slow)

    with ThreadPoolExecutor(4) as pool:
        assert len({id(entry) for entry in pool.map(ask, range(4))}) == 1
    assert made == [7]

    def broken(number):
        raise OSError("gone")

    for _ in range(2):  # an error leaves no lock behind
        with pytest.raises(OSError, match="gone"):
            cache.get(8, broken)


def _ask(cache, answers):
    answers.put(cache.get(1, lambda number: b"new"))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_process_forked_while_a_thread_holds_the_cache_does_not_wait_for_it():
    cache = ShardCache(100, len)
    cache.get(0, lambda number: b"old")
    inside, done = threading.Event(), threading.Event()

    def make(number):
        inside.set()
        done.wait()
        return b"late"

    holder = threading.Thread(target=cache.get, args=(1, make))
    holder.start()
    inside.wait()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_ask, args=(cache, answers))
    with cache._lock:
        child.start()
    child.join(20)
    waited = child.is_alive()
    child.kill()
    done.set()
    holder.join()
    assert not waited
    assert answers.get() == b"new"
