"""The harness on tiny cases: what is wrong is found, what is missing is said, what is written can be read."""

from __future__ import annotations

import csv
import gc
import time

import numpy as np
import pytest
import torch

from dq_fast.bench import CASES, COLUMNS, PROVIDERS, Case, CheckError, Problem, Row, Setting, judge, read_csv, run
from dq_fast.bench import device as device_module
from dq_fast.bench.dense import dense_bins
from dq_fast.bench.inputs import mixture, outer
from dq_fast.bench.judge import RankingJudge, given_similarity, relative_error, replay, shifted_similarity
from dq_fast.bench.machine import Ceilings
from dq_fast.bench.providers import Provider
from dq_fast.bench.results import add_ratios, write_csv
from dq_fast.bench.targets import Target, faster, markdown
from dq_fast.bench.timing import Effort, Times, interleaved
from dq_fast.bench.torch_forms import gram_bins, incremental_bins
from dq_fast.errors import InputError

SHORT = Effort(seconds=0.0, fewest=2, most=2)
N, BINS = 12, [4, 4, 4]


@pytest.fixture(autouse=True)
def _same_ceilings(monkeypatch):
    """No measuring of the machine in every test."""
    monkeypatch.setattr(device_module, "measure_ceilings", lambda quick: Ceilings(1e9, 2e9, 1e10, 5e9))


def greedy_by_hand(s: np.ndarray, sizes: list[int]) -> tuple[list[int], list[float]]:
    """The definition with nothing clever: every gain from scratch, in Python."""
    left, picks, gains = list(range(len(s))), [], []
    for size in sizes:
        chosen: list[int] = []
        while len(chosen) < size:
            gain = {x: sum(s[j, x] for j in left) - 2 * sum(s[b, x] for b in chosen) for x in left if x not in chosen}
            best = max(gain, key=gain.__getitem__)
            chosen.append(best)
            gains.append(gain[best])
        left = [x for x in left if x not in chosen]
        picks += chosen
    return picks, gains


def given(seed: int = 0, n: int = N) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1)[:, None]
    return 0.5 + 0.5 * x @ x.T


def tiny_case(ways, *, tolerance: float = 1e-9) -> Case:
    s = given()
    ranking = RankingJudge(lambda g: given_similarity(s), [0, N], [BINS])

    def make(setting: Setting) -> Problem:
        return Problem(s, ranking, N, str(N), 1, "float64", "made up", s.nbytes, s.nbytes, 0, tolerance, tolerance)

    return Case("graph_cut_bins/of-test", "a test", make, ways, cold=False)


def right(s: np.ndarray):
    picks = np.array(greedy_by_hand(s, BINS)[0])
    return lambda: picks


def wrong(s: np.ndarray):
    picks = np.array(greedy_by_hand(s, BINS)[0])
    picks[[0, 5]] = picks[[5, 0]]
    return lambda: picks


def test_quantiles_are_those_of_the_runs():
    times = Times(tuple(float(x) for x in range(1, 12)))
    assert times.median == 6
    assert times.quantile(0.1) == pytest.approx(2)
    assert times.quantile(0.9) == pytest.approx(10)


class Clock:
    """Time that passes only in the calls that are timed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order = ""

    def perf_counter(self) -> float:
        return self.now

    def call(self, name: str, seconds: float):
        def of() -> None:
            self.order += name
            self.now += seconds

        return of


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("dq_fast.bench.timing.time", made)
    return made


def test_calls_take_turns_and_their_times_are_their_own(clock):
    calls = {"a": clock.call("a", 0.012), "b": clock.call("b", 0.003)}
    found = interleaved(calls, Effort(seconds=0.0, fewest=4, most=4), cold=False, first={"a": 0.1, "b": 0.1})
    assert clock.order == "ab" * 5  # one round to warm up, four timed
    assert found["a"].seconds == pytest.approx([0.012] * 4)
    assert found["b"].seconds == pytest.approx([0.003] * 4)


def test_short_calls_are_timed_many_at_a_time(clock):
    times = interleaved({"a": clock.call("a", 1e-5)}, SHORT, cold=False, first={"a": 1e-5})["a"]
    assert times.calls == pytest.approx(200, abs=1)
    assert len(clock.order) == 1 + 2 * times.calls
    assert times.median == pytest.approx(1e-5)


def test_slow_calls_get_fewer_runs_spread_over_the_rounds(clock):
    calls = {"f": clock.call("f", 0.1), "s": clock.call("s", 10.0)}
    heard = []
    found = interleaved(
        calls,
        Effort(seconds=1.25, fewest=2, most=100, slow_runs=3),
        cold=False,
        first={"f": 0.1, "s": 10.0},
        done=heard.append,
    )
    assert [len(times.seconds) for times in found.values()] == [12, 3]
    assert clock.order == "f" + "fsffff" + "sffff" + "sfff"
    assert heard == ["s", "f"]


def test_garbage_collection_is_off_while_timing_and_on_again():
    states = []
    with pytest.raises(ZeroDivisionError):
        interleaved(
            {"a": lambda: states.append(gc.isenabled()) or 1 / (len(states) < 3)}, SHORT, cold=True, first={"a": 0.0}
        )
    assert states[1:] == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize("seed", range(3))
def test_replay_agrees_with_the_definition(seed):
    s = given(seed)
    picks, gains = greedy_by_hand(s, BINS)
    short, found = replay(given_similarity(s), np.array(picks), BINS)
    assert short <= 1e-15
    assert np.allclose(found, gains, rtol=1e-12)


def test_replay_finds_a_worse_pick_and_how_much_worse():
    s = given()
    picks, gains = greedy_by_hand(s, BINS)
    swapped = picks.copy()
    swapped[0], swapped[1] = swapped[1], swapped[0]
    short, _ = replay(given_similarity(s), np.array(swapped), BINS)
    largest = np.abs(s.sum(0)).max()
    assert short >= (gains[0] - s.sum(0)[picks[1]]) / largest > 1e-6


@pytest.mark.parametrize("picks", [[0] * N, list(range(N - 1)), [*range(N - 1), N]])
def test_impossible_rankings_are_refused(picks):
    with pytest.raises(CheckError):
        replay(given_similarity(given()), np.array(picks), BINS)


def test_wrong_bins_and_wrong_gains_are_found():
    s = given()
    picks, gains = (np.array(x) for x in greedy_by_hand(s, BINS))
    bins, row_gains = np.empty(N, dtype=np.int64), np.empty(N)
    bins[picks], row_gains[picks] = np.repeat([0, 1, 2], 4), gains
    check = RankingJudge(lambda g: given_similarity(s), [0, N], [BINS])
    assert check((picks, bins, row_gains)) < 1e-12
    assert check((picks, bins, row_gains + 0.01)) > 1e-4
    with pytest.raises(CheckError):
        check((picks, np.roll(bins, 1), row_gains))


@pytest.mark.parametrize("center", [False, True])
def test_similarity_is_the_definition(center):
    b, h = (x.double() for x in mixture(9, 5, seed=1))
    phi = torch.nn.functional.normalize(outer(b, h), dim=1)
    if center:
        phi = torch.nn.functional.normalize(phi - phi.mean(0), dim=1)
    want = (0.5 + 0.5 * phi @ phi.T).numpy()
    found = shifted_similarity([b, h], center=center)
    assert np.allclose(found.rows(np.arange(9)), want, atol=1e-14)
    assert np.allclose(found.sums, want.sum(0), atol=1e-13)


def test_a_wrong_value_or_shape_is_found():
    want = np.array([1.0, 2.0])
    assert relative_error(torch.tensor([1.0, 2.5]), want) == 0.25
    with pytest.raises(CheckError):
        relative_error(torch.tensor([1.0]), want)
    with pytest.raises(CheckError):
        relative_error(torch.tensor([1.0, float("nan")]), want)


def test_the_rivals_rank_as_the_definition():
    b, h = (x.double() for x in mixture(60, 6, seed=3))
    s = shifted_similarity([b, h]).rows(np.arange(60))
    sizes = [20, 20, 20]
    want, _ = greedy_by_hand(s, sizes)
    assert gram_bins([b, h], [0, 60], [sizes]).tolist() == want
    assert incremental_bins([b, h], [0, 60], [sizes]).tolist() == want
    assert dense_bins(outer(b, h).float().numpy(), 3).tolist() == want[:40]


def test_a_wrong_ranking_is_reported_and_not_timed():
    calls = {"native": wrong, "torch": right}
    found = run([tiny_case(calls)], Setting(quick=True), effort=SHORT, memory=None)
    bad, good = found.rows
    assert (bad.provider, bad.checked, good.checked) == ("native", "no", "yes")
    assert bad.median_s is None
    assert "deviates" in bad.note
    assert good.median_s is not None
    assert good.runs == 2
    assert [row.provider for row in found.failed] == ["native"]


def test_a_provider_that_raises_is_a_wrong_result():
    def broken(s):
        raise RuntimeError("no luck")

    found = run([tiny_case({"torch": broken, "published": right})], Setting(quick=True), effort=SHORT, memory=None)
    assert [row.checked for row in found.rows] == ["no", "yes"]
    assert "no luck" in found.rows[0].note


def test_a_missing_package_is_said_and_skipped(monkeypatch):
    monkeypatch.setitem(PROVIDERS, "apricot", Provider("apricot", "not here", "no-such-package-of-ours"))
    found = run([tiny_case({"apricot": wrong, "torch": right})], Setting(quick=True), effort=SHORT, memory=None)
    skipped = found.rows[0]
    assert skipped.checked == "skipped"
    assert "pip install no-such-package-of-ours" in skipped.note
    assert not found.failed


def test_native_is_skipped_where_it_is_not_built(monkeypatch):
    from dq_fast.ops import Backend, registry

    torch_only = {"graph_cut_bins": {"cpu": Backend("graph_cut_bins", "cpu", "torch", "was not built")}}
    monkeypatch.setattr(registry, "backends", lambda: torch_only)
    monkeypatch.setattr("dq_fast.ops.backends", lambda: torch_only)
    found = run([tiny_case({"native": wrong, "torch": right})], Setting(quick=True), effort=SHORT, memory=None)
    assert [row.checked for row in found.rows] == ["skipped", "yes"]
    assert "was not built" in found.rows[0].note


def test_rows_carry_ratio_floor_and_memory(tmp_path):
    case = tiny_case({"torch": right, "published": lambda s: lambda: time.sleep(0.02) or right(s)()})
    heard = []
    found = run(
        [case], Setting(), effort=SHORT, threads=1,
        memory=lambda case, provider, setting, threads: 123 + threads,
        after_case=lambda run: heard.append(len(run.rows)),
    )  # fmt: skip
    assert heard == [2, 2]
    row = found.rows[0]
    assert (row.threads, row.peak_bytes, row.input_bytes) == (1, 124, N * N * 8)
    assert row.floor_s == pytest.approx(N * N * 8 / 1e9)
    assert row.fraction_of_floor == pytest.approx(row.floor_s / row.median_s)
    assert row.ratio_to_native is None  # native did not run
    row.provider = "native"
    add_ratios(found.rows)
    assert found.rows[1].ratio_to_native == pytest.approx(found.rows[1].median_s / row.median_s)

    write_csv(tmp_path / "r.csv", found.rows)
    with open(tmp_path / "r.csv", newline="") as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    again = read_csv(tmp_path / "r.csv")
    assert [r.provider for r in again] == [r.provider for r in found.rows]
    assert again[1].median_s == pytest.approx(found.rows[1].median_s, rel=1e-5)
    assert again[0].peak_bytes == 124


@pytest.mark.parametrize(
    ("median", "verdict"), [(0.1, "aim reached"), (0.3, "met"), (1.0, "short by 50 %"), (None, "not measured")]
)
def test_targets(median, verdict):
    rows = [Row("c", "native", median_s=median), Row("c", "torch", median_s=1.0)]
    target = Target("it", faster("c", "torch"), at_least=2, aim=5)
    found = judge(rows, [target])
    assert found[0].verdict == verdict
    assert verdict in markdown(found, "a machine")
    for row in rows:
        row.quick = "yes"  # smaller inputs say nothing about targets
    assert judge(rows, [target])[0].verdict == "not measured"


def test_every_target_names_cases_and_providers_that_exist():
    rows = [
        Row(
            name, provider, median_s=1.0, floor_s=1.0, fraction_of_floor=1.0, input_bytes=1, peak_bytes=0, quick="no"
        )
        for name, case in CASES.items()
        for provider in case.ways
    ]  # fmt: skip
    assert all(v.measured is not None for v in judge(rows))
    assert all(provider in PROVIDERS for case in CASES.values() for provider in case.ways)


@pytest.mark.parametrize("name", ["cosine_row_sums/growth-2000", "graph_cut_greedy/isotropic", "patch_scores/tiny"])
def test_real_cases_in_quick_form(name):
    found = run([CASES[name]], Setting(quick=True), effort=SHORT, memory=None)
    assert not found.failed
    assert {row.checked for row in found.rows} <= {"yes", "skipped"}


def test_peak_memory_counts_what_a_call_takes_and_not_its_inputs(monkeypatch):
    from dq_fast.bench import peak

    size = 1 << 24  # float32 numbers: 64 MiB

    def make(setting: Setting) -> Problem:
        x = torch.ones(size)
        return Problem(x, lambda result: 0.0, size, "1", 1, "float32", "ones", 4 * size)

    case = Case("cosine_row_sums/of-test", "a test", make, {"torch": lambda x: lambda: (x + 1).sum()})
    found = peak.peak_of(case, "torch", Setting())
    assert 4 * size * 0.98 <= found <= 4 * size * 1.1  # the kernel counts pages in batches


def test_a_process_that_fails_has_no_peak_memory_but_a_reason(monkeypatch):
    from dq_fast.bench import peak

    monkeypatch.setattr(peak.sys, "executable", "false")
    with pytest.raises(InputError, match=r"torch on cosine_row_sums/tiny: exit status 1"):
        peak.measure("cosine_row_sums/tiny", "torch", Setting(quick=True), 1)


def test_unknown_names_are_mistakes():
    with pytest.raises(InputError, match="provider"):
        run([], Setting(), providers=["nobody"])
    from dq_fast.bench import select

    with pytest.raises(InputError, match="case"):
        select(["no-such-case"])
    one = "graph_cut_bins/cifar10-10x65"  # also the beginning of another name
    assert [case.name for case in select([one])] == [one]
    assert [case.name for case in select(["patch_scores/paper"])] == [
        "patch_scores/paper-constant",
        "patch_scores/paper-full",
    ]
