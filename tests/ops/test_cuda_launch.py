"""Where the CUDA ops launch: the device, its current stream, and how tensors lie; no GPU is needed to ask."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from dq_fast.ops import native, registry
from dq_fast.ops.cuda import launch
from dq_fast.ops.cuda.patch_scores import patch_scores

STREAM = 0xABC0


@pytest.fixture
def gpus(monkeypatch):
    """Stand-ins for torch.cuda's functions: which device is current, and streams numbered by device."""
    state = SimpleNamespace(current=0, asked=[], streams={0: 0x1000, 1: 0x2000, 2: 0x3000})

    @contextmanager
    def device(which):
        before, state.current = state.current, (state.current if which.index is None else which.index)
        try:
            yield
        finally:
            state.current = before

    def current_stream(which=None):
        index = state.current if which is None or which.index is None else which.index
        state.asked.append(index)
        return SimpleNamespace(cuda_stream=state.streams[index])

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
    return state


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_devices_without_streams(gpus, device):
    with launch.on(torch.device(device)) as stream:
        assert stream == 0
    assert gpus.asked == []


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_device_is_current_and_the_stream_is_its_own(gpus, index):
    gpus.current = 2
    with launch.on(torch.device("cuda", index)) as stream:
        assert gpus.current == index
        assert stream == gpus.streams[index]
    assert gpus.current == 2


def test_a_device_without_an_index_is_the_current_one(gpus):
    gpus.current = 1
    with launch.on(torch.device("cuda")) as stream:
        assert stream == gpus.streams[1]


def test_the_stream_is_looked_up_each_time(gpus):
    with launch.on(torch.device("cuda", 1)) as stream:
        assert stream == 0x2000
    gpus.streams[1] = 0x7770  # as inside torch.cuda.stream(...), or while a graph is captured
    with launch.on(torch.device("cuda", 1)) as stream:
        assert stream == 0x7770


def test_the_device_is_given_back_after_an_error(gpus):
    with pytest.raises(RuntimeError, match="launch failed"), launch.on(torch.device("cuda", 1)):
        raise RuntimeError("launch failed")
    assert gpus.current == 0


def test_kernels_are_those_of_the_native_module(monkeypatch):
    monkeypatch.setattr(native, "find", lambda device: (None, f"no {device} here"))
    with pytest.raises(RuntimeError, match="native module for cuda: no cuda here"):
        launch.kernels()
    module = SimpleNamespace()
    monkeypatch.setattr(native, "find", lambda device: (module, "built"))
    assert launch.kernels() is module


@pytest.fixture
def calls(monkeypatch):
    """What patch_scores hands to the kernels, by name; nothing runs."""
    names = (
        "activations", "activation_dtype", "activation_stride", "gradients", "gradient_dtype", "gradient_stride",
        "constant", "channels_last", "variant", "workspace", "scores", "batch", "channels", "height", "width", "rows",
        "cols", "stream",
    )  # fmt: skip
    found = []
    devices = []

    @contextmanager
    def on(device):
        devices.append(device)
        yield STREAM

    kernels = SimpleNamespace(
        patch_scores_workspace=lambda *shape: 5,
        patch_scores=lambda *values: found.append(dict(zip(names, values, strict=True))),
    )
    monkeypatch.setattr(launch, "kernels", lambda: kernels)
    monkeypatch.setattr(launch, "on", on)
    return SimpleNamespace(found=found, devices=devices)


def test_everything_is_where_the_activations_are(calls):
    a, g = torch.rand(2, 3, 4, 5, device="meta"), torch.rand(2, 3, device="meta")
    scores = patch_scores(a, g, 6, 7, 1)
    assert scores.device == a.device
    assert scores.dtype == torch.float32
    assert scores.shape == (2, 6, 7)
    assert calls.devices == [a.device]
    (call,) = calls.found
    assert call["stream"] == STREAM
    names = ("batch", "channels", "height", "width", "rows", "cols", "variant")
    assert [call[x] for x in names] == [2, 3, 4, 5, 6, 7, 1]


A = torch.rand(3, 10, 5, 6)
TOKENS = torch.rand(3, 1 + 30, 10)
WIDE = torch.rand(3, 10, 5, 9)
IMAGE = 10 * 5 * 6
IN_PLACE = {  # activations, whether they are channels last, elements from image to image
    "contiguous": (A, False, IMAGE),
    "channels last": (A.contiguous(memory_format=torch.channels_last), True, IMAGE),
    "every second image": (A.repeat_interleave(2, 0)[::2], False, 2 * IMAGE),
    "tokens": (TOKENS[:, 1:].unflatten(1, (5, 6)).permute(0, 3, 1, 2), True, 31 * 10),
    "one image for all": (A[:1].expand(3, -1, -1, -1), False, 0),
    "part of the channels": (A[:, 2:7], False, IMAGE),
    "one position": (A[:, :, :1, :1].contiguous(), False, 10),
}
COPIED = {
    "rows with gaps": WIDE[..., :6],
    "transposed": A.transpose(2, 3).contiguous().transpose(2, 3),
    "backwards": A.flip(3).permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "part of the channels, last": A.contiguous(memory_format=torch.channels_last)[:, 2:7],
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_read_where_they_lie(calls, name):
    a, channels_last, stride = IN_PLACE[name]
    patch_scores(a, torch.rand(a.shape[:2]), 2, 2, 0)
    (call,) = calls.found
    assert call["activations"] == a.data_ptr()
    assert (call["channels_last"], call["activation_stride"]) == (channels_last, stride)


@pytest.mark.parametrize("name", COPIED)
def test_copied_where_no_kernel_reads_them(calls, name):
    a = COPIED[name]
    patch_scores(a, torch.rand(a.shape[:2]), 2, 2, 0)
    (call,) = calls.found
    assert call["activations"] != a.data_ptr()
    assert (call["channels_last"], call["activation_stride"]) == (False, a[0].numel())


def test_gradients_follow_the_activations(calls):
    nhwc = A.contiguous(memory_format=torch.channels_last)
    g = torch.rand_like(A)
    for a, gradients, copied in ((A, g, False), (nhwc, g, True), (A, nhwc, True), (nhwc, nhwc * 2, False)):
        patch_scores(a, gradients, 2, 2, 0)
        assert (calls.found[-1]["gradients"] != gradients.data_ptr()) == copied
        assert calls.found[-1]["gradient_stride"] == IMAGE
    table = torch.rand(3, 25)
    patch_scores(A, table[:, ::2][:, :10], 2, 2, 0)  # constant ones with gaps
    assert calls.found[-1]["gradient_stride"] == 10
    assert calls.found[-1]["constant"]
    patch_scores(A.half(), g, 2, 2, 0)  # of two types: the wider one
    assert calls.found[-1]["activation_dtype"] == calls.found[-1]["gradient_dtype"] == 0
    patch_scores(A.half(), g[:, :, 0, 0].double(), 2, 2, 0)  # constant ones keep theirs
    assert (calls.found[-1]["activation_dtype"], calls.found[-1]["gradient_dtype"]) == (3, 1)


def test_gpus_older_than_the_kernels_are_served_by_torch(monkeypatch):
    serve = registry._where_supported(lambda *_, **__: "kernel", lambda *_, **__: "torch")
    x = torch.zeros(2, 2)
    for arguments in (([x], None, None, True), ([], x, None, 3), (x, x, 1, 1)):
        monkeypatch.setattr(launch, "supports", lambda device: device == x.device)
        assert serve(*arguments) == "kernel"
        monkeypatch.setattr(launch, "supports", lambda device: False)
        assert serve(*arguments, progress=None) == "torch"


@pytest.mark.parametrize(("capability", "serves"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_which_gpus_the_kernels_are_for(monkeypatch, capability, serves):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert launch.supports.__wrapped__(torch.device("cuda", 0)) is serves
    assert launch.supports(torch.device("cpu"))
