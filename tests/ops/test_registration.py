"""The ops as torch sees them: schema, fakes, torch.compile, the fallback, and what `backends` says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from dq_fast import ops
from dq_fast.ops import registry

from .inputs import clustered, gradient_like

B, H = gradient_like(40, 5, 9, 0)
OFFSETS = torch.tensor([0, 15, 40])
CALLS = {
    "cosine_row_sums": ([B, H], OFFSETS, True, False),
    "graph_cut_greedy": ([B, H], None, OFFSETS, [3, 4], 1.0, True, True, "auto"),
    "graph_cut_bins": ([H], None, OFFSETS, 3, 1.0, True, False, "lazy"),
}


@pytest.mark.parametrize("name", CALLS)
def test_opcheck(name):
    torch.library.opcheck(registry.op(name), CALLS[name])


def test_opcheck_given_similarity():
    torch.library.opcheck(
        registry.op("graph_cut_bins"), ([], H @ H.T, torch.tensor([0, 40]), 3, 1.0, True, False, "auto")
    )


def test_compiles_without_a_graph_break():
    def ranked(b, h):
        ranking, bin_of, gains = ops.graph_cut_bins((b, h), 3)
        first, _ = ops.graph_cut_greedy(h, 7, offsets=torch.tensor([0, 15, 40]))
        return ops.cosine_row_sums((b, h))[ranking] + gains, bin_of, first

    torch._dynamo.reset()
    compiled = torch.compile(ranked, fullgraph=True, backend="eager")
    for got, want in zip(compiled(B, H), ranked(B, H), strict=True):
        assert torch.equal(got, want)


def small_calls():
    x = torch.randn(9, 4)
    ops.cosine_row_sums(x)
    ops.graph_cut_greedy(x, 2)
    ops.graph_cut_bins(x, 2)
    ops.patch_scores(torch.rand(2, 3, 2, 2), torch.rand(2, 3), (2, 2))


def test_listeners_at_the_dispatcher_hear_calls_that_otherwise_go_past_it(monkeypatch):
    names = {*CALLS, "patch_scores"}
    past, heard = {}, set()
    for name in names:
        assert registry.quickest(name, []) is registry._on_cpu.get(name, registry.op(name))
        monkeypatch.setitem(registry._overloads, name, lambda *_, name=name: past.setdefault(name))
        assert registry.quickest(name, [torch.nn.Parameter(torch.zeros(1))])() is None  # no plain tensor
    assert set(past) == names
    monkeypatch.undo()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        small_calls()
    assert {f"dq_fast::{name}" for name in names} <= {event.key for event in profile.key_averages()}

    class Listener(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            heard.add(op._schema.name)
            return op(*args, **(kwargs or {}))

    with Listener():
        small_calls()
    assert {f"dq_fast::{name}" for name in names} <= heard


def test_fake_tensors_meet_the_fake():
    with torch._subclasses.FakeTensorMode():
        x = torch.empty(9, 4)
        assert ops.cosine_row_sums(x).shape == (9,)
        assert ops.graph_cut_bins(x, 2)[0].shape == (9,)


def test_backends_name_every_op_and_device():
    table = ops.backends()
    assert {"cosine_row_sums", "graph_cut_greedy", "graph_cut_bins", "patch_scores"} <= set(table)
    for name, devices in table.items():
        assert set(devices) == {"cpu", "cuda"}
        for device, backend in devices.items():
            assert (backend.op, backend.device) == (name, device)
            assert backend.serves in ("native", "torch")
            assert backend.detail


PROGRAM = """
import torch
from dq_fast import ops
torch.manual_seed(0)
x = torch.randn(300, 20)
ranking, _, gains = ops.graph_cut_bins(x, 4, offsets=[0, 100, 300])
print(ops.backends()["graph_cut_bins"]["cpu"].serves, ranking.tolist())
print(ops.backends()["graph_cut_bins"]["cpu"].detail)
"""


def run(program, **environment):
    # with native code unless the test says otherwise, also where the whole suite runs without
    environment = {**os.environ, "DQ_FAST_DISABLE_NATIVE": "0", **environment}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_native_code_can_be_switched_off():
    with_native, without = run(PROGRAM, DQ_FAST_DISABLE_NATIVE="0"), run(PROGRAM, DQ_FAST_DISABLE_NATIVE="1")
    assert without[0].startswith("torch ")
    assert "DQ_FAST_DISABLE_NATIVE=1" in without[1]
    assert with_native[0].split(" ", 1)[1] == without[0].split(" ", 1)[1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("interface = -1", "has interface -1, this package needs"),
        ("raise ImportError('libgomp.so.1: cannot open shared object file')", "could not be loaded: libgomp.so.1"),
        ("import no_such_module_of_anybody", "could not be loaded: No module named"),
    ],
)
def test_a_wrong_module_is_an_explained_fallback(tmp_path, body, reason):
    (tmp_path / "_cpu.py").write_text(body + "\n")
    program = (  # the package with a folder before its own, without running its __init__ first
        "import importlib.util, sys, types\n"
        "package = types.ModuleType('dq_fast')\n"
        f"package.__path__ = [{str(tmp_path)!r}, *importlib.util.find_spec('dq_fast').submodule_search_locations]\n"
        "sys.modules['dq_fast'] = package\n"
    )
    lines = run(program + PROGRAM)
    assert lines[0].startswith("torch ")
    assert reason in lines[1]


def test_ctrl_c_is_honoured_within_a_second():
    if ops.backends()["graph_cut_bins"]["cpu"].serves != "native":
        pytest.skip("the torch loop is Python: Ctrl-C works there by itself")
    x = clustered(20000, 64, 50, 1)
    timer = threading.Timer(1.0, lambda: (started.append(time.monotonic()), os.kill(os.getpid(), signal.SIGINT)))
    started: list[float] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started without
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ops.graph_cut_bins(x, 10, method="naive")
    finally:
        signal.signal(signal.SIGINT, before)
    took = time.monotonic() - started[0]
    assert took < 1.0 + 0.5 * os.getloadavg()[0], f"{took:.2f} s"
