"""Runs what is missing: every contender on every pool at every keep, with every probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scratch
from contenders import CONTENDERS
from numpy.typing import NDArray
from pool import SPECS, Pool, PoolSpec, draw_pool
from probe import View, accuracy
from records import Log, Trial
from sets import FrozenSet, open_set

from dq_fast.errors import InputError

ALL = "all data"  # the contender that keeps everything, at keep 1
SCRATCH = "scratch"


@dataclass(frozen=True)
class Asked:
    """What the command line names; None where every pool's own is meant (`PoolSpec`)."""

    probes: list[str]
    contenders: list[str] | None = None
    seeds: int | None = None
    keeps: tuple[float, ...] | None = None


class Judge:
    """The probes, for selections from one pool."""

    def __init__(self, frozen: FrozenSet, pool: Pool, seed: int) -> None:
        self._frozen, self._pool, self._seed = frozen, pool, seed
        self._trained: dict[bytes, float] = {}

    @cached_property
    def _views(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        view = View(self._pool.features.numpy())
        return view(self._pool.features.numpy()), view(self._frozen.test_features)

    @cached_property
    def _images(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        train, test = _images_of(self._frozen)
        return train[self._pool.rows], test

    def __call__(self, probe: str, rows, weights) -> float:
        """Test accuracy after training on `rows` of the pool."""
        y, test_y = self._pool.labels[rows], self._frozen.test_labels
        if probe == SCRATCH:
            return self._from_scratch(rows, y, test_y)
        x, test_x = self._views
        return accuracy(probe, x[rows], y, test_x, test_y, weights)

    def _from_scratch(self, rows, y, test_y) -> float:
        """Two contenders that choose the same rows train the same network: once is enough."""
        images, test_images = self._images
        chosen = np.arange(len(images))[rows].tobytes()
        if chosen not in self._trained:
            net = scratch.train(images[rows], y, self._frozen.classes, self._seed)
            self._trained[chosen] = scratch.accuracy(net, test_images, test_y)
        return self._trained[chosen]


_IMAGES: dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}


def _images_of(frozen: FrozenSet) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if frozen.name not in _IMAGES:
        assert frozen.images is not None, frozen.name
        _IMAGES[frozen.name] = frozen.images()
    return _IMAGES[frozen.name]


def run(log: Log, pools: list[str], asked: Asked, data: Path, cache: Path, say: Callable[[str], None]) -> None:
    """Add to `log` whatever of this is not in it. Seeds come first, so that an early end leaves whole ones."""
    specs = [SPECS[name] for name in pools]
    for spec in specs:
        if not set(asked.probes) & set(spec.probes):
            raise InputError(f"pools {spec.name} are for the probes {', '.join(spec.probes)}, got {asked.probes}")
    frozen = {of: open_set(of, data, cache, lambda *_: None) for of in {spec.of for spec in specs}}
    wanted = {spec.name: asked.seeds or spec.seeds for spec in specs}
    for seed in range(max(wanted.values(), default=0)):
        for spec in specs:
            if seed < wanted[spec.name]:
                _one_pool(log, frozen[spec.of], spec, seed, asked, say)


def _one_pool(log: Log, frozen: FrozenSet, spec: PoolSpec, seed: int, asked: Asked, say: Callable[[str], None]) -> None:
    probes = [probe for probe in asked.probes if probe in spec.probes]

    def missing(contender: str, keep: float) -> list[str]:
        return [probe for probe in probes if (spec.name, seed, contender, keep, probe) not in log.done]

    todo = {
        name: wanted
        for name in asked.contenders or spec.contenders or CONTENDERS
        if (wanted := tuple(k for k in asked.keeps or spec.keeps if k <= CONTENDERS[name].most and missing(name, k)))
    }
    whole = missing(ALL, 1.0)
    if not todo and not whole:
        return
    pool = draw_pool(frozen, spec, seed)
    judge = Judge(frozen, pool, seed)
    if whole:
        everything = slice(None)
        log.add(
            Trial(spec.name, seed, ALL, 1.0, probe, judge(probe, everything, None), len(pool.rows), 0.0)
            for probe in whole
        )
        say(f"{spec.name}, pool {seed}: {ALL}")
    for name, wanted in todo.items():
        began = time.perf_counter()
        for keep, rows, weights in CONTENDERS[name].choose(pool, wanted, seed):
            seconds = time.perf_counter() - began
            log.add(
                Trial(spec.name, seed, name, keep, probe, judge(probe, rows, weights), len(rows), round(seconds, 4))
                for probe in missing(name, keep)
            )
            began = time.perf_counter()
        say(f"{spec.name}, pool {seed}: {name}")
