"""Ops on other streams, on other devices than the current one, and captured in CUDA graphs."""

from __future__ import annotations

import pytest
import torch

from .calls import CALLS, same

pytestmark = pytest.mark.gpu

BUSY_CYCLES = 20_000_000  # of the GPU's clock: about 10 ms
CAPTURED = ("row sums", "row sums, two factors", "patch scores")
"""What decides nothing on the host (dq_fast/ops/cuda says so): the others cannot be captured."""


@pytest.mark.parametrize("name", CALLS)
def test_ops_wait_for_their_stream_and_no_other(gpu, name):
    """The inputs are written late, on a stream of their own: whoever reads them on another one finds zeros."""
    op, make = CALLS[name]
    inputs = make(3)
    want = op(*inputs)
    sources = [x.to(gpu) for x in inputs]
    late = [torch.zeros_like(x) for x in sources]
    torch.cuda.synchronize(gpu)
    stream = torch.cuda.Stream(gpu)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(BUSY_CYCLES)
        for x, source in zip(late, sources, strict=True):
            x.copy_(source)
        got = op(*late)
    stream.synchronize()
    same(got, want)


@pytest.mark.parametrize("name", CALLS)
def test_two_streams_do_not_share_memory(gpu, name):
    op, make = CALLS[name]
    both = [make(5), make(6)]
    want = [op(*inputs) for inputs in both]
    moved = [[x.to(gpu) for x in inputs] for inputs in both]
    torch.cuda.synchronize(gpu)
    got = []
    for inputs in moved:
        stream = torch.cuda.Stream(gpu)
        with torch.cuda.stream(stream):
            torch.cuda._sleep(BUSY_CYCLES)
            got.append(op(*inputs))
    torch.cuda.synchronize(gpu)
    for x, y in zip(got, want, strict=True):
        same(x, y)


@pytest.mark.parametrize("name", CALLS)
def test_the_current_device_stays(gpu, name):
    op, make = CALLS[name]
    before = torch.cuda.current_device()
    got = op(*(x.to(gpu) for x in make(1)))
    assert torch.cuda.current_device() == before
    assert all(x.device == gpu for x in got)


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_graphs_replay_on_new_inputs(gpu, name):
    op, make = CALLS[name]
    first, second = make(8), make(9)
    with torch.cuda.device(gpu):
        inputs = [x.to(gpu) for x in first]
        stream = torch.cuda.Stream(gpu)
        with torch.cuda.stream(stream):
            op(*inputs)  # loads and allocates what a first call does
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            out = op(*inputs)
        for seed, values in ((8, first), (9, second)):
            for x, value in zip(inputs, values, strict=True):
                x.copy_(value)
            graph.replay()
            torch.cuda.synchronize(gpu)
            same(out, op(*make(seed)))
