"""Runs what is missing: every contender on every pool at every keep, with every probe."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from contenders import CONTENDERS
from pool import SPECS, Pool, PoolSpec, draw_pool
from probe import View, accuracy
from records import Log, Trial
from sets import FrozenSet, open_set

KEEPS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
ALL = "all data"  # the contender that keeps everything, at keep 1


class Judge:
    """The probes, for selections from one pool."""

    def __init__(self, frozen: FrozenSet, pool: Pool) -> None:
        view = View(pool.features.numpy())
        self._x, self._y = view(pool.features.numpy()), pool.labels
        self._test_x, self._test_y = view(frozen.test_features), frozen.test_labels

    def __call__(self, probe: str, rows, weights) -> float:
        """Test accuracy after training on `rows` of the pool."""
        return accuracy(probe, self._x[rows], self._y[rows], self._test_x, self._test_y, weights)


def run(
    log: Log,
    *,
    pools: list[str],
    contenders: list[str],
    seeds: int,
    keeps: tuple[float, ...],
    probes: list[str],
    data: Path,
    cache: Path,
    say: Callable[[str], None],
) -> None:
    """Add to `log` whatever of this is not in it. Seeds come first, so that an early end leaves whole ones."""
    frozen = {spec.of: open_set(spec.of, data, cache, lambda *_: None) for spec in map(SPECS.get, pools)}
    for seed in range(seeds):
        for name in pools:
            spec = SPECS[name]
            _one_pool(log, frozen[spec.of], spec, seed, contenders, keeps, probes, say)


def _one_pool(log: Log, frozen: FrozenSet, spec: PoolSpec, seed, contenders, keeps, probes, say) -> None:
    def missing(contender: str, keep: float) -> list[str]:
        return [probe for probe in probes if (spec.name, seed, contender, keep, probe) not in log.done]

    todo = {
        name: wanted
        for name in contenders
        if (wanted := tuple(k for k in keeps if k <= CONTENDERS[name].most and missing(name, k)))
    }
    whole = missing(ALL, 1.0)
    if not todo and not whole:
        return
    pool = draw_pool(frozen, spec, seed)
    judge = Judge(frozen, pool)
    if whole:
        everything = slice(None)
        log.add(
            Trial(spec.name, seed, ALL, 1.0, probe, judge(probe, everything, None), len(pool.rows), 0.0)
            for probe in whole
        )
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
