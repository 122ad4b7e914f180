"""Scores in lower precision: right within what they round, decided by the processor or a clock, and without traces."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dq_fast as dq
from dq_fast.embed import precision as precisions
from dq_fast.embed.precision import choose, native_bfloat16, resolve
from dq_fast.errors import InputError

from .patch_models import Head, SmallNet
from .test_quantizer import assert_same_state, score_float64, state_of, whole_model_gradcam

LABELS = torch.tensor([0, 1, 2])
TOLERANCE = 0.04  # of an image's largest score: bfloat16 rounds by 2^-9, several times on the way


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def vision_transformer():
    timm = pytest.importorskip("timm")
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=4, embed_dim=48, depth=2, num_heads=3, num_classes=7
    )


MODELS = {"closed form": SmallNet, "norm in the head": lambda: Head("norm"), "ViT": vision_transformer}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("score", ["gradcam++", "energy"])
def test_bfloat16_agrees_with_float64_definitions_and_leaves_no_traces(images, kind, score):
    torch.manual_seed(0)
    model = MODELS[kind]()
    before, given = state_of(model), images.clone()
    pq = dq.PixelQuantizer(model, grid=(8, 8), score=score, precision="bfloat16")
    with torch.enable_grad():
        scores, _ = pq(images, LABELS)
        assert (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")) == (True, False)
    assert_same_state(model, before)
    assert torch.equal(images, given)
    layer = pq.plan(images).layer
    assert pq.plan(images).closed_form is (kind == "closed form")  # as in float32
    activations, gradients = whole_model_gradcam(
        model, images, LABELS, layer.name, layer.layout, layer.prefix, layer.grid
    )
    if score == "energy":
        power = activations.square().mean(1, keepdim=True)
        grown = nn.functional.interpolate(power, (128, 128), mode="bilinear", align_corners=False)
        expected = nn.functional.avg_pool2d(grown, 16).flatten(1)
    else:
        expected = score_float64(activations, gradients, (8, 8), "paper")
    scale = expected.amax(1, keepdim=True).clamp(min=1e-3 * expected.max())
    assert expected.max() > 0
    error = ((scores.double() - expected).abs() / scale).max()
    assert error < TOLERANCE
    if kind != "ViT" or score != "energy":  # the mean square of a norm's output is 1 everywhere
        assert error > 1e-5  # more than float32 rounds: it did run in bfloat16


def test_an_error_in_the_forward_pass_leaves_no_traces(images):
    model = SmallNet()
    pq = dq.PixelQuantizer(model, precision="bfloat16")
    pq(images, LABELS)
    before = state_of(model)
    with pytest.raises(InputError, match="labels must be classes"):
        pq(images, [0, 1, 99])
    handle = model.linear.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pq(images, LABELS)
    handle.remove()
    assert_same_state(model, before)
    assert (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")) == (True, False)


@pytest.mark.parametrize("precision", [None, "bfloat16", "float32"])
def test_training_goes_on_inside_the_callers_autocast(images, precision):
    """Nothing of how scores are made, without a graph, reaches the training step after it."""
    model = SmallNet().train()
    with torch.autocast("cpu", torch.bfloat16):
        found = dq.PixelQuantizer(model, precision=precision).maps(images, LABELS)
        loss = model(images).float().square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert found.activations.dtype == (torch.float32 if precision == "float32" else torch.bfloat16)


def test_auto_follows_from_what_the_processor_can_do(images, monkeypatch):
    flags: dict[str, bool] = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    for found, expected in (
        ({}, "float32"),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
    ):
        flags.clear()
        flags.update(found)
        assert resolve("auto", "cpu")[0] == expected
        pq = dq.PixelQuantizer(SmallNet(), precision="auto")
        assert pq.chosen_precision(images) == expected
        assert (pq.maps(images, LABELS).activations.dtype == torch.bfloat16) is (expected == "bfloat16")
        # weights that somebody converted on purpose stay what they are
        assert dq.PixelQuantizer(SmallNet().double(), precision="auto").chosen_precision(images.double()) is None
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not native_bfloat16("cpu")
    for capability, expected in (((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert resolve("auto", "cuda:1")[0] == expected
    assert resolve("float16", "cuda") == ("float16", "asked for")
    assert resolve("auto", "meta")[0] == "float32"


class Clocked(nn.Module):
    """A convolution that takes as long as a table says for how it is run."""

    def __init__(self, costs):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.costs, self.now, self.runs = costs, 0.0, 0

    def forward(self, x):
        memory = {
            y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous() for y in (x, self.conv.weight)
        }
        assert len(memory) == 1
        assert not torch.is_grad_enabled()
        precision = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        self.now += self.costs[precision, "channels_last" if memory.pop() else "contiguous"] + (not self.runs)
        self.runs += 1
        return self.conv(x).mean((2, 3))


WAYS = [(p, m) for p in ("float32", "bfloat16") for m in ("channels_last", "contiguous")]


@pytest.mark.parametrize("best", WAYS)
def test_fastest_takes_what_the_clock_says_once(images, best):
    model = Clocked({way: 1.0 if way == best else 1.5 + k for k, way in enumerate(WAYS)})
    found, times = choose("fastest", model, lambda: images, clock=lambda: model.now)
    assert (found.precision, found.memory_format, found.why) == (*best, "measured")
    assert times == pytest.approx(model.costs)  # not the first pass, which took a second more
    runs = model.runs
    assert runs == 4 * (1 + precisions.ROUNDS)
    assert choose("fastest", model, lambda: images, clock=lambda: model.now)[0] == found
    assert model.runs == runs  # remembered
    choose("fastest", model, lambda: images[:1], clock=lambda: model.now)
    assert model.runs == 2 * runs  # another shape
    found.place(model)
    with torch.no_grad(), precisions.computing("cpu", found.precision):
        model(found.images(images))
    assert model.now - model.runs > 0


def test_fastest_of_the_quantizer_times_a_batch_and_leaves_the_memory_format(images, monkeypatch):
    seen = []

    def measured(model, x, ways):
        seen.append((tuple(x.shape), model.training))
        return {("float32", ""): 2.0, ("bfloat16", ""): 1.0}

    monkeypatch.setattr("dq_fast.patches.quantizer.measure", measured)
    model = SmallNet().train()
    strides = model.body.weight.stride()
    fast = dq.PixelQuantizer(model, precision="fastest")(images, LABELS)[0]
    assert torch.equal(fast, dq.PixelQuantizer(copy.deepcopy(model), precision="bfloat16")(images, LABELS)[0])
    assert seen == [((3, 3, 32, 32), False)]
    assert (model.training, model.body.weight.stride()) == (True, strides)
    monkeypatch.undo()
    assert dq.PixelQuantizer(model, precision="fastest").chosen_precision(images) in ("float32", "bfloat16")


def test_precisions_that_there_are_not(images):
    with pytest.raises(InputError, match=r"precision must be one of 'auto', 'fastest', 'float32'.*got 'half'"):
        dq.PixelQuantizer(SmallNet(), precision="half")
    with pytest.raises(InputError, match='"bfloat16" on cpu, got "float16"'):
        dq.PixelQuantizer(SmallNet(), precision="float16")(images, LABELS)
