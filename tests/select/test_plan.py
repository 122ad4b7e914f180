"""Plans: sizes as people write them, what they say, and that the memory they promise is what is taken."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dq_fast import ops
from dq_fast.errors import InputError
from dq_fast.ops.ways import expected_ways
from dq_fast.select.groups import Groups
from dq_fast.select.plan import memory, parse_bytes, plan_bins
from dq_fast.select.plan.calibration import Machine, Trial, measured
from dq_fast.select.plan.layout import Layout
from dq_fast.select.plan.times import given_seconds, ranking_seconds, streamed_seconds
from dq_fast.select.rows import as_factors
from dq_fast.select.settings import Settings

from .marks import native


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("512MB", 512_000_000), ("1.5g", 3 << 29), (" 64 KiB ", 64 << 10), ("100", 100), (7, 7),
     (1e9, 10**9), (np.int64(5), 5), ("1tb", 10**12), (None, None)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("wrong", ["", "GiB", "2 apples", "-1", -5, 0, True, [1], "nan", float("nan"), float("inf")])
def test_wrong_sizes(wrong):
    with pytest.raises(InputError, match="max_memory must be a positive number of bytes"):
        parse_bytes(wrong)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_what_a_plan_says(similarity):
    x = np.random.default_rng(0).normal(size=(2000, 512)).astype(np.float32)
    groups, kind = Groups.of(np.arange(2000) % 7, 2000), Settings(10, similarity=similarity)
    plan = plan_bins(as_factors(x), groups, kind, max_memory="1GiB")
    told = plan.as_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["max_memory"] == 1 << 30
    assert "bounds" not in told
    assert told["seconds"] > 0
    for words in (plan.algorithm, "1.00 GiB", "passes", "time: about"):
        assert words in str(plan)


def test_what_it_needs_when_it_does_not_fit():
    x = np.zeros((1000, 8), np.float32)
    for kind, wrong in (({}, {}), ({"similarity": "dot"}, {}), ({}, {"algorithm": "gram"})):
        with pytest.raises(InputError, match=r"max_memory must be at least [0-9.]+ MiB .* got 1\.0 MiB"):
            plan_bins(as_factors(x), Groups.of(None, 1000), Settings(2, **kind), max_memory=1 << 20, **wrong)


@native
def test_more_memory_never_reads_more(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5000, 128)).astype(np.float32))
    factors = as_factors(tmp_path / "x.npy")
    groups = Groups.of(np.arange(5000) % 50, 5000)
    plans = [plan_bins(factors, groups, Settings(5), max_memory=f"{size}MiB") for size in (20, 24, 40, 400)]
    assert [p.batches for p in plans] == sorted((p.batches for p in plans), reverse=True)
    assert plans[0].batches > 1
    assert plans[-1].batches == 1


SPEED = Machine(products=5e10, bytes=1e10)


def _seconds(groups=4, size=1000, width=64, narrow=None, n_bins=10, loose=0.2, center=False, way="lazy", scale=1.0):
    speed = Machine(SPEED.products * scale, SPEED.bytes * scale)
    layout = Layout((width,) if narrow is None else (narrow, width), (torch.float32,) * 2, center)
    settings, sizes = Settings(n_bins, center=center), np.full(groups, float(size))
    if way == "given":
        return given_seconds(sizes, width, speed)
    if way == "streamed":
        return streamed_seconds(sizes, layout, settings, 18, loose, speed)
    return ranking_seconds(sizes, layout, settings, way, loose, 4 * width, speed)


@pytest.mark.parametrize("way", ["lazy", "gram", "naive", "given", "streamed"])
def test_more_work_takes_longer(way):
    ladders = [{"size": [10, 100, 1000, 10**5, 10**7]}, {"groups": [1, 3, 1000]}, {"width": [2, 64, 2048]}]
    if way in ("lazy", "streamed"):
        ladders += [{"loose": [0.1, 0.6, 0.8]}, {"n_bins": [1, 10, 100]}]
    for (name, steps), more in itertools.product((next(iter(x.items())) for x in ladders), ({}, {"center": True})):
        times = [_seconds(way=way, **{name: step}, **more) for step in steps]
        assert times == sorted(times)
        assert times[-1] > 1.005 * times[0] > 0, name
    assert _seconds(way=way, size=10**5, scale=2) < 0.7 * _seconds(way=way, size=10**5)
    # Twice the rows: not less than twice the time, and not more than all pairs.
    once, twice = (_seconds(way=way, size=size) for size in (10**5, 2 * 10**5))
    assert 1.9 * once < twice < 4.1 * once
    assert _seconds(way="gram", narrow=200, size=10) > _seconds(way="gram", size=10)


# kind of rows, widths, rows a group, bins, centred, method
WAYS = [
    ("tight", (64,), [2000], 10, False, "auto"),
    ("tight", (64,), [6000], 10, True, "auto"),
    ("tight", (512,), [1000] * 4, 10, False, "auto"),
    ("tight", (10, 65), [3000], 10, False, "auto"),
    ("isotropic", (256,), [2000], 10, False, "auto"),  # bounds begin, and are given up at once
    ("isotropic", (128,), [5000], 10, False, "auto"),
    ("isotropic", (1024,), [1500], 10, True, "auto"),
    ("isotropic", (100, 129), [600] * 3, 10, False, "auto"),
    ("isotropic", (16,), [20] * 300, 3, False, "auto"),
    ("isotropic", (8,), [1, 700, 0, 300], 2, True, "auto"),
    ("isotropic", (300, 257), [150] * 2, 5, False, "auto"),
    ("tight", (3000,), [700], 10, False, "auto"),
    ("tight", (32,), [800], 4, False, "naive"),
    ("tight", (32,), [800], 4, False, "gram"),
    ("tight", (32,), [800, 100, 90], 4, False, "lazy"),
    ("tight", (5, 6, 7), [400], 4, False, "auto"),
]


@pytest.mark.parametrize(("kind", "widths", "sizes", "bins", "center", "method"), WAYS)
def test_the_way_that_a_plan_tells_is_the_one_taken(kind, widths, sizes, bins, center, method):
    generator = torch.Generator().manual_seed(len(sizes) + sum(widths))
    n = sum(sizes)
    factors = tuple(torch.randn(n, width, generator=generator) for width in widths)
    if kind == "tight":  # most of what they are lies in a few directions
        factors = tuple(
            torch.randn(n, 6, generator=generator) @ torch.randn(6, f.shape[1], generator=generator) + 0.2 * f
            for f in factors
        )
    groups = Groups.of(np.repeat(np.arange(len(sizes)), sizes), n)
    plan = plan_bins(as_factors(factors), groups, Settings(bins, center=center), algorithm=method)
    report: dict = {}
    offsets = torch.tensor([0, *np.cumsum(sizes)])
    ops.graph_cut_bins(factors, bins, offsets=offsets, center=center, method=plan.method, report=report)
    expected = None
    if len(widths) < 3:
        given, loose = [size for size in sizes if size], 0.9 if kind == "isotropic" else 0.1
        expected = expected_ways(widths, given, bins, center=center, method=method, looseness=loose)
    if kind == "tight" and report["switched"]:  # bounds that served, and were given up for the last rows of a group
        assert expected is None or expected["lazy"] == report["groups"]["lazy"] + report["switched"]
        assert expected is None or plan.algorithm == max(expected, key=expected.__getitem__)
    else:
        assert plan.algorithm == report["algorithm"]
        assert expected is None or expected == report["groups"]


def test_trials_are_small_and_scaled_to_the_whole():
    x = np.random.default_rng(0).normal(size=(9000, 4)).astype(np.float32)
    factors, groups, settings = as_factors(x), Groups.of(np.arange(9000) % 300, 9000), Settings(2)
    trial = measured(factors, groups, settings, "auto", lambda sizes: sizes.sum() < 500)
    assert trial is not None
    assert trial.sizes.tolist() == [30] * 16
    assert trial.seconds > 0
    assert measured(factors, groups, settings, "auto", lambda sizes: False) is None
    assert measured(factors, Groups.of(None, 9000), settings, "auto", lambda sizes: True) is None
    whole = Trial(np.full(4, 100.0), 2.0).whole(np.full(12, 100.0), lambda sizes: float((sizes**1.5).sum()))
    assert whole == pytest.approx(6)


WATCHED = """
import sys, threading, time
import numpy as np
from dq_fast.select.plan import memory
from dq_fast.select.groups import Groups
from dq_fast.select.plan import plan_bins
from dq_fast.select.ranking import rank_bins
from dq_fast.select.rows import as_factors
from dq_fast.select.settings import Settings

def run(factors, labels, **limit):
    groups = Groups.of(labels, len(factors))
    return rank_bins(factors, groups, Settings(4), plan_bins(factors, groups, Settings(4), **limit))

small = np.random.rand(400, 64).astype(np.float32)
run(as_factors(small), np.arange(400) % 3)  # whatever is loaded or made once
factors = as_factors(sys.argv[1])
labels = None if sys.argv[3] == "one" else np.arange(len(factors)) % 100
before = most = memory.anonymous()
done = threading.Event()

def watch():
    global most
    while not done.is_set():
        most = max(most, memory.anonymous())
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
run(factors, labels, max_memory=sys.argv[2])
done.set()
thread.join()
print(most - before)
"""


@pytest.mark.skipif(memory.anonymous() is None, reason="needs /proc/self/status with RssAnon")
def test_memory_stays_below_the_limit(tmp_path: Path):
    rng = np.random.default_rng(0)
    n, d, limit = 20_000, 768, 48 << 20
    rows = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (n, d))
    for i in range(0, n, 5000):
        rows[i : i + 5000] = 2 + rng.standard_normal((5000, d), dtype=np.float32)
    rows.flush()
    assert rows.nbytes > limit
    program = [sys.executable, "-c", WATCHED, str(tmp_path / "x.npy"), str(limit), "classes"]
    taken = int(subprocess.run(program, check=True, capture_output=True, text=True, timeout=300).stdout)
    assert 4 << 20 < taken < limit  # and a limit of memory that nothing was taken of would prove nothing
