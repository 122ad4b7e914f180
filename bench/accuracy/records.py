"""The raw results, one line a trained probe, appended as they come (so an interrupted run goes on); their summary."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

BASE = "random"  # what every other contender is compared with, pool by pool


@dataclass(frozen=True)
class Trial:
    """One probe trained on one selection.

    Attributes:
        pools, seed: which pool it was chosen from.
        contender, keep: how, and which fraction of the pool.
        probe: which classifier was trained.
        accuracy: per cent of the test part.
        samples: how many rows were chosen.
        seconds: taken by the choice (0 where an earlier keep's ranking was drawn from again).
    """

    pools: str
    seed: int
    contender: str
    keep: float
    probe: str
    accuracy: float
    samples: int
    seconds: float

    @property
    def key(self) -> tuple[str, int, str, float, str]:
        """What it is a trial of."""
        return self.pools, self.seed, self.contender, self.keep, self.probe


_KINDS = {"seed": int, "keep": float, "accuracy": float, "samples": int, "seconds": float}


def read(path: Path) -> list[Trial]:
    """All trials of a file; none where it is not there. A line cut off by a kill is dropped."""
    if not path.exists():
        return []
    names = [f.name for f in fields(Trial)]
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row.get(name) for name in names)]
    return [Trial(**{name: _KINDS.get(name, str)(row[name]) for name in names}) for row in rows]


class Log:
    """Appends trials to a file and knows which are there."""

    def __init__(self, path: Path) -> None:
        found = read(path)
        self.done = {trial.key for trial in found}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        self._path = path
        with unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Trial)])
            writer.writeheader()
            writer.writerows(asdict(trial) for trial in found)
        unfinished.replace(path)

    def add(self, trials: Iterable[Trial]) -> None:
        """Append, and on the disk at once."""
        trials = list(trials)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, [f.name for f in fields(Trial)]).writerows(asdict(trial) for trial in trials)
        self.done.update(trial.key for trial in trials)


@dataclass(frozen=True)
class Summary:
    """A contender at one keep.

    Attributes:
        seeds: pools it was tried on.
        mean, spread: of the accuracies over pools, per cent (spread: standard deviation).
        over_random, error: mean of its accuracy less that of random choice from the same pool, and that mean's
            standard error.
        seconds: mean time of a choice (of all keeps together, where one ranking serves all).
    """

    pools: str
    probe: str
    contender: str
    keep: float
    samples: int
    seeds: int
    mean: float
    spread: float
    over_random: float
    error: float
    seconds: float


def summarise(trials: Iterable[Trial]) -> list[Summary]:
    """Mean and spread over pools, and the paired difference to random choice."""
    cells: dict[tuple[str, str, str, float], dict[int, Trial]] = defaultdict(dict)
    for trial in trials:
        cells[trial.pools, trial.probe, trial.contender, trial.keep][trial.seed] = trial
    found = []
    for (pools, probe, contender, keep), by_seed in sorted(cells.items()):
        base = cells.get((pools, probe, BASE, keep), {})
        gained = [trial.accuracy - base[seed].accuracy for seed, trial in by_seed.items() if seed in base]
        values = [trial.accuracy for trial in by_seed.values()]
        spent = [trial.seconds for trial in by_seed.values() if trial.seconds > 0]
        found.append(
            Summary(
                pools,
                probe,
                contender,
                keep,
                round(statistics.mean(trial.samples for trial in by_seed.values())),
                len(values),
                round(statistics.mean(values), 3),
                round(_deviation(values), 3),
                round(statistics.mean(gained), 3) if gained else math.nan,
                round(_deviation(gained) / math.sqrt(len(gained)), 3) if gained else math.nan,
                round(statistics.mean(spent), 4) if spent else 0.0,
            )
        )
    return found


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def write(path: Path, summaries: list[Summary]) -> None:
    """The summary as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Summary)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(summary) for summary in summaries)
