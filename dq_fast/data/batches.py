"""Reading ahead of the consumer, and counting what cannot be read."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dq_fast.data.source import Source
from dq_fast.errors import BadImageError, InputError

_AHEAD = 2  # batches being read or waiting while the consumer works on one: enough to hide uneven decoding times
_CHUNK = 32  # images a task: small images are not outweighed by the cost of a task (30 µs), large ones spread evenly
_NAMED = 5  # bad images named in the error


class BadImages:
    """Collects unreadable images; an `on_bad` that stops the run when there are too many.

    Args:
        total: images in all.
        max_bad: share of them that may be bad, in [0, 1].
    """

    def __init__(self, total: int, max_bad: float = 0.01) -> None:
        if not 0.0 <= max_bad <= 1.0:
            raise InputError(f"max_bad must be in [0, 1], got {max_bad}")
        self.total = total
        self.max_bad = max_bad
        self.errors: list[BadImageError] = []

    def __len__(self) -> int:
        return len(self.errors)

    def __call__(self, error: BadImageError) -> None:
        """Take one in; InputError when that makes more than `max_bad` of the total, naming the first five."""
        self.errors.append(error)
        if len(self.errors) > self.max_bad * self.total:
            named = "; ".join(f"{e.id} ({e.reason})" for e in self.errors[:_NAMED])
            raise InputError(
                f"{len(self.errors)} of {self.total} images cannot be read, more than max_bad {self.max_bad:g} allows: "
                f"{named}. Repair or remove them, or allow more with --max-bad"
            ) from None

    def records(self) -> list[dict[str, str]]:
        """{"id", "reason"} of each, in the order they came."""
        return [{"id": error.id, "reason": error.reason} for error in self.errors]


def default_workers() -> int:
    """One thread a core that this process may use; decoding releases the interpreter's lock."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_batches(
    source: Source,
    indices: np.ndarray,
    *,
    batch_size: int,
    transform: Callable[[np.ndarray], Any],
    workers: int | None = None,
    on_bad: Callable[[BadImageError], None],
) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Read images by threads, a bounded number ahead of the consumer, in the order of `indices`.

    Args:
        source: where the images are.
        indices: int [m], positions in it.
        batch_size: images a batch.
        transform: applied to every image (uint8 [h, w, 3]) in the thread that read it.
        workers: threads; None is one a core, 0 reads in the caller's thread.
        on_bad: called, in order and in the consumer's thread, for every image that cannot be read. Such images are
            left out of their batch; a batch without any readable image is left out.

    Yields:
        (positions int64 [b], transformed images [b]). An exception of `transform` or `on_bad` reaches the consumer,
        and closing the iterator early stops the threads.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}")
    indices = np.asarray(indices, np.int64)
    workers = default_workers() if workers is None else workers
    return _read(source, indices, batch_size, transform, workers, on_bad)


_Item = tuple[int, Any, "BadImageError | None"]  # position, transformed image, or why there is none


def _read_chunk(source: Source, positions: list[int], transform: Callable[[np.ndarray], Any]) -> list[_Item]:
    items: list[_Item] = []
    for i in positions:
        try:
            image = source.read(i)
        except BadImageError as error:
            items.append((i, None, error.with_traceback(None)))
        else:
            items.append((i, transform(image), None))
    return items


def _read(
    source: Source,
    indices: np.ndarray,
    batch_size: int,
    transform: Callable[[np.ndarray], Any],
    workers: int,
    on_bad: Callable[[BadImageError], None],
) -> Iterator[tuple[np.ndarray, list[Any]]]:
    batches = (indices[start : start + batch_size].tolist() for start in range(0, len(indices), batch_size))
    if workers == 0:
        for batch in batches:
            yield from _collect(_read_chunk(source, batch, transform), on_bad)
        return
    size = max(1, min(_CHUNK, math.ceil(batch_size / workers)))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="dq_fast-read")
    pending: deque[list[Future[list[_Item]]]] = deque()
    try:
        for batch in batches:
            chunks = [batch[start : start + size] for start in range(0, len(batch), size)]
            pending.append([pool.submit(_read_chunk, source, chunk, transform) for chunk in chunks])
            if len(pending) > _AHEAD:
                yield from _collect(_results(pending.popleft()), on_bad)
        while pending:
            yield from _collect(_results(pending.popleft()), on_bad)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(futures: list[Future[list[_Item]]]) -> list[_Item]:
    return [item for future in futures for item in future.result()]


def _collect(items: list[_Item], on_bad: Callable[[BadImageError], None]) -> Iterator[tuple[np.ndarray, list[Any]]]:
    positions, images = [], []
    for i, image, error in items:
        if error is not None:
            on_bad(error)
        else:
            positions.append(i)
            images.append(image)
    if positions:
        yield np.array(positions, np.int64), images
