from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from dq_fast.data import BadImages, Source, read_batches
from dq_fast.errors import BadImageError, InputError


class Slow(Source):
    """Image i is one pixel of value i; some are bad, early ones take longest."""

    kind, spec = "slow", "slow"

    def __init__(self, n: int, bad: set[int] = frozenset(), seconds: float = 0.0) -> None:  # type: ignore[assignment]
        self.ids = [f"id{i}" for i in range(n)]
        self.labels = np.zeros(n, np.int64)
        self.class_names = ["a"]
        self.bad, self.seconds = bad, seconds
        self.reads: list[int] = []
        self.lock = threading.Lock()

    def read(self, i: int) -> np.ndarray:
        with self.lock:
            self.reads.append(i)
        time.sleep(self.seconds * (1 + (len(self) - i) % 7))
        if i in self.bad:
            raise BadImageError(self.ids[i], "broken")
        return np.full((1, 1, 3), i % 256, np.uint8)

    def size_of(self, i: int) -> int:
        return 3


def value(image: np.ndarray) -> int:
    return int(image[0, 0, 0])


def fail(error: BadImageError) -> None:
    raise AssertionError(error)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("dq_fast-read")]


@pytest.mark.parametrize("workers", [0, 1, 2, 7, None])
@pytest.mark.parametrize(("n", "batch_size"), [(0, 4), (1, 1), (10, 4), (12, 4), (100, 64), (5, 100)])
def test_order_and_batches(n: int, batch_size: int, workers: int | None) -> None:
    source = Slow(n, seconds=0.0005)
    indices = np.random.default_rng(0).permutation(n)
    batches = list(read_batches(source, indices, batch_size=batch_size, transform=value, workers=workers, on_bad=fail))
    assert [len(p) for p, _ in batches] == [min(batch_size, n - s) for s in range(0, n, batch_size)]
    assert [i for p, _ in batches for i in p.tolist()] == indices.tolist()
    assert all(p.dtype == np.int64 for p, _ in batches)
    assert [v for _, x in batches for v in x] == indices.tolist()
    assert sorted(source.reads) == list(range(n))
    assert not threads()


@pytest.mark.parametrize("workers", [0, 3])
def test_bad_images_are_left_out_and_told_in_order(workers: int) -> None:
    source = Slow(20, bad={0, 3, 4, 8, 9, 10, 11, 19}, seconds=0.0005)
    bad = BadImages(20, 0.5)
    batches = list(read_batches(source, np.arange(20), batch_size=4, transform=value, workers=workers, on_bad=bad))
    assert [p.tolist() for p, _ in batches] == [[1, 2], [5, 6, 7], [12, 13, 14, 15], [16, 17, 18]]
    assert bad.records() == [{"id": f"id{i}", "reason": "broken"} for i in sorted(source.bad)]
    assert len(bad) == 8


def test_too_many_bad_images_name_the_first_five() -> None:
    source = Slow(100, bad=set(range(10, 30)))
    bad = BadImages(100, 0.07)
    with pytest.raises(InputError, match="8 of 100 images cannot be read") as caught:
        list(read_batches(source, np.arange(100), batch_size=8, transform=value, workers=2, on_bad=bad))
    text = str(caught.value)
    assert all(f"id{i} (broken)" in text for i in range(10, 15))
    assert "id15" not in text
    assert "--max-bad" in text
    assert "\n" not in text
    assert not threads()


@pytest.mark.parametrize(("max_bad", "allowed"), [(0.0, 0), (0.01, 2), (0.5, 100), (1.0, 200)])
def test_bad_images_up_to_the_share(max_bad: float, allowed: int) -> None:
    bad = BadImages(200, max_bad)
    for i in range(allowed):
        bad(BadImageError(str(i), "x"))
    if allowed < 200:
        with pytest.raises(InputError, match=f"{allowed + 1} of 200"):
            bad(BadImageError("last", "x"))


@pytest.mark.parametrize("max_bad", [-0.1, 1.1, float("nan")])
def test_wrong_share(max_bad: float) -> None:
    with pytest.raises(InputError, match="max_bad"):
        BadImages(10, max_bad)


@pytest.mark.parametrize("workers", [0, 3])
def test_exceptions_of_the_transform_reach_the_consumer(workers: int) -> None:
    def transform(image: np.ndarray) -> int:
        if value(image) == 13:
            raise ZeroDivisionError("thirteen")
        return value(image)

    seen: list[int] = []
    batches = read_batches(Slow(40), np.arange(40), batch_size=4, transform=transform, workers=workers, on_bad=fail)
    with pytest.raises(ZeroDivisionError, match="thirteen"):
        seen.extend(x for _, batch in batches for x in batch)
    assert seen == list(range(12))
    assert not threads()


def test_a_consumer_that_stops_early_stops_the_threads() -> None:
    source = Slow(10_000, seconds=0.0002)
    batches = read_batches(source, np.arange(10_000), batch_size=8, transform=value, workers=4, on_bad=fail)
    assert next(batches)[1] == list(range(8))
    batches.close()  # type: ignore[attr-defined]
    assert not threads()
    assert len(source.reads) < 100


def test_reading_ahead_is_bounded() -> None:
    source = Slow(1000)
    ahead = 0
    for k, _ in enumerate(
        read_batches(source, np.arange(1000), batch_size=10, transform=value, workers=4, on_bad=fail)
    ):
        time.sleep(0.002)
        ahead = max(ahead, len(source.reads) - 10 * (k + 1))
    assert ahead <= 20
    assert ahead > 0  # it does read ahead


def test_the_transform_runs_in_the_reading_threads() -> None:
    names: set[str] = set()

    def transform(_image: np.ndarray) -> None:
        names.add(threading.current_thread().name)

    list(read_batches(Slow(50), np.arange(50), batch_size=10, transform=transform, workers=2, on_bad=fail))
    assert names
    assert all(name.startswith("dq_fast-read") for name in names)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 4, "workers": -1}])
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be at least"):
        read_batches(Slow(1), np.arange(1), transform=value, on_bad=fail, **options)
