"""The harness on a GPU, without one: where things go, what is timed, and that the rivals' code stays on its device."""

from __future__ import annotations

import json

import pytest
import torch

from dq_fast.bench import CASES, PROVIDERS, CheckError, Setting, device, judge, run
from dq_fast.bench.cases.graph_cut_bins import _imagenet
from dq_fast.bench.judge import RankingJudge, given_similarity
from dq_fast.bench.machine import Ceilings
from dq_fast.bench.results import Row
from dq_fast.bench.timing import Effort
from dq_fast.bench.torch_forms import batched_bins, gram_bins, matrix_bins, picked_rows
from dq_fast.errors import InputError

from .test_bench import BINS, SHORT, N, given, greedy_by_hand, right, tiny_case
from .test_cli import call as call_of


class Elsewhere(device.Host):
    """A GPU of our own making: the processor, which says where it was asked."""

    name = "cuda"

    def __init__(self) -> None:
        self.moved: list[object] = []
        self.timed = self.waited = 0

    def move(self, inputs):
        self.moved.append(inputs)
        return inputs

    def timer(self, cold):
        def timed(call, repeats):
            call()
            self.timed += 1
            return 0.25

        return timed

    def wait(self):
        self.waited += 1

    def ceilings(self, quick):
        return Ceilings(3e12, 3e12, 6e13, 3e13)

    def peak(self, call):
        call()
        return 77

    def describe(self):
        return {"machine": "a GPU of our own making"}


@pytest.fixture
def elsewhere(monkeypatch) -> Elsewhere:
    made = Elsewhere()
    monkeypatch.setattr(device, "of", lambda name: made)
    return made


def test_a_run_on_a_gpu_is_moved_timed_and_measured_there(elsewhere):
    case = tiny_case({"torch": right, "apricot": right, "torch-gram": right})
    found = run([case], Setting(device="cuda"), effort=SHORT)
    assert [row.provider for row in found.rows] == ["torch", "torch-gram"]  # apricot runs on processors only
    assert len(elsewhere.moved) == 1
    assert elsewhere.timed >= 4
    assert elsewhere.waited == 2
    for row in found.rows:
        assert (row.device, row.checked, row.median_s, row.peak_bytes) == ("cuda", "yes", 0.25, 77)
        assert row.machine == "a GPU of our own making"
        assert row.floor_s == pytest.approx(N * N * 8 / 3e12)


def test_cases_for_a_gpu_only_are_left_out_elsewhere(monkeypatch):
    monkeypatch.setattr(device.Host, "ceilings", lambda self, quick: Ceilings(1e9, 1e9, 1e9, 1e9))
    case = CASES["graph_cut_bins/imagenet-1000x1300"]
    assert case.only == "cuda"
    assert run([case], Setting(quick=True), effort=SHORT, memory=None).rows == []


def test_rows_of_a_gpu_are_not_held_against_the_targets():
    rows = [Row("cosine_row_sums/200000x512-float32", name, median_s=1.0, device="cuda") for name in PROVIDERS]
    assert all(v.measured is None for v in judge(rows))


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_a_mistake(name):
    with pytest.raises(InputError, match="device must be"):
        device.of(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_verb_says_so(tmp_path, capsys):
    with pytest.raises(InputError, match="doctor"):
        call_of("--device", "cuda", "--case", "graph_cut_greedy/tiny", "--quick")
    with pytest.raises(InputError, match="seconds"):
        call_of("--seconds", "0", "--case", "graph_cut_greedy/tiny", "--quick")


def test_providers_of_a_gpu_are_listed(capsys):
    assert call_of("--list", "--device", "cuda", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    missing = {p["provider"]: p["missing"] for p in listed["providers"]}
    assert missing["apricot"] == "does not run on cuda"
    assert missing["torch-linear"] == ""


class Event:
    """Of CUDA, on a clock that the calls move."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Event.now

    def elapsed_time(self, end: Event) -> float:
        return end.at - self.at


def test_events_time_the_calls_and_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: setattr(Event, "now", Event.now + 1000))
    monkeypatch.setattr(device, "FLUSH_BYTES", 64)
    flushed = []
    monkeypatch.setattr(torch.Tensor, "zero_", lambda self: flushed.append(len(self)))
    timer = device.event_timer(torch.device("cpu"), cold=True)
    assert timer(lambda: setattr(Event, "now", Event.now + 8.0), 4) == pytest.approx(8e-3)
    assert flushed == [64]
    device.event_timer(torch.device("cpu"), cold=False)(lambda: None, 1)
    assert flushed == [64]


@pytest.mark.parametrize(
    "name", ["cosine_row_sums/cifar10-10x65", "graph_cut_greedy/500-of-5000-given", "patch_scores/tiny"]
)
def test_inputs_of_cases_can_be_moved(name):
    inputs = device.moved(CASES[name].make(Setting(quick=True)).inputs, torch.device("meta"))
    found = inputs if isinstance(inputs, tuple) else tuple(vars(inputs).values())
    tensors = [x for item in found for x in (item if isinstance(item, list) else [item]) if isinstance(x, torch.Tensor)]
    where = [x.device.type for x in tensors if x.dtype != torch.int64]
    assert where
    assert set(where) == {"meta"}


def test_picks_without_a_look_are_those_with_one():
    s = given()
    picks, _ = greedy_by_hand(s, [5])
    matrix = torch.from_numpy(s)
    gain = matrix.sum(0)
    assert picked_rows(gain, 5, lambda row: matrix.index_select(0, row)[0]).tolist() == picks


def test_many_groups_at_a_time_are_the_groups_one_by_one():
    x = torch.randn(6 * N, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = torch.randn(6 * N, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    bounds = [N * k for k in range(7)]
    want = gram_bins([x, y], bounds, [BINS] * 6)
    for batch in (1, 4, 6):
        assert torch.equal(batched_bins([x, y], N, BINS, batch), want)


def test_rivals_make_no_tensor_on_another_device(monkeypatch):
    """With the default device elsewhere, whatever is made without saying where would not fit to the rest."""
    s = torch.from_numpy(given())
    x = torch.randn(2 * N, 4, dtype=torch.float64)
    want = matrix_bins(s, BINS), batched_bins([x], N, BINS)
    with torch.device("meta"):
        assert matrix_bins(s, BINS) == want[0]
        assert torch.equal(batched_bins([x], N, BINS), want[1])


def test_some_of_many_groups_are_judged_and_all_are_looked_at():
    problem = _imagenet(Setting(quick=True))
    inputs = problem.inputs
    ranking = gram_bins([f.double() for f in inputs.factors], inputs.bounds, inputs.sizes)
    assert problem.judge(ranking) < 1e-9
    swapped = ranking.clone()
    swapped[[0, 9]] = swapped[[9, 0]]
    assert problem.judge(swapped) > 1e-6
    twice = ranking.clone()
    twice[200] = twice[201]
    with pytest.raises(CheckError, match="once"):
        problem.judge(twice)


def test_seconds_change_how_long_is_measured(elsewhere):
    case = tiny_case({"torch": right})
    found = run([case], Setting(device="cuda"), effort=Effort(seconds=2.5, fewest=2, most=40))
    assert found.rows[0].runs == 10  # of 0.25 s


def test_results_on_another_device_are_brought_home():
    class There:
        """As a tensor on a GPU: it has no numpy there."""

        def __init__(self, x: torch.Tensor) -> None:
            self.x = x

        def cpu(self) -> torch.Tensor:
            return self.x

        def numpy(self) -> None:
            raise TypeError("can't convert a cuda tensor")

    picks = torch.tensor(greedy_by_hand(given(), BINS)[0])
    check = RankingJudge(lambda g: given_similarity(given()), [0, N], [BINS])
    assert check(There(picks)) < 1e-12
