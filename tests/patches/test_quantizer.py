"""PixelQuantizer against GradCAM++ by plain autograd through the whole model, in float64."""

from __future__ import annotations

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dq_fast as dq
from dq_fast.patches import patch_grid

from .patch_models import Head, SmallNet


def whole_model_gradcam(model, images, labels, layer, layout, prefix, grid_of_map):
    """float64 activations and gradients [b, c, h, w] at a layer, by autograd through all of the model."""
    model = copy.deepcopy(model).double().eval()
    kept = []
    module = model.get_submodule(layer)
    # a copy goes on, because the head may write into it in place
    module.register_forward_hook(lambda m, i, output: (kept.append(output), output.clone())[1])
    logits = model(images.double().requires_grad_())
    output = kept[-1]
    (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), output)
    found = []
    for x in (output.detach(), gradient):
        if layout == "tokens":
            x = x[:, prefix:].reshape(len(x), *grid_of_map, x.shape[2])
        found.append(x if layout == "nchw" else x.permute(0, 3, 1, 2))
    return found


def score_float64(a, g, grid, variant):
    total = a.sum((2, 3), keepdim=True)
    positive = g.clamp(min=0)
    if variant == "torchcam":
        terms = positive**3
    else:
        eps = 1e-6 if variant == "grad-cam" else 0.0
        alpha = torch.where(g != 0, g**2 / (2 * g**2 + total * g**3 + eps), 0)
        terms = positive * alpha
    attention = (terms.sum((2, 3), keepdim=True) * a).sum(1, keepdim=True).relu()
    big = F.interpolate(attention, (16 * grid[0], 16 * grid[1]), mode="bilinear", align_corners=False)
    return F.avg_pool2d(big, 16).flatten(1)


def check_against_autograd(model, images, grid, *, closed_form, layer, tolerance=2e-3):
    labels = torch.arange(len(images))
    reference = None
    pq = dq.PixelQuantizer(model, grid=grid)
    for variant in ("paper", "torchcam", "grad-cam"):
        pq.variant = variant
        scores, kept = pq(images, labels)
        plan = pq.plan(images)
        assert (plan.layer.name, plan.closed_form) == (layer, closed_form)
        if reference is None:
            reference = whole_model_gradcam(
                model, images, labels, layer, plan.layer.layout, plan.layer.prefix, plan.layer.grid
            )
        expected = score_float64(*reference, grid, variant)
        scale = expected.amax(1, keepdim=True)
        if not (scale > 0).any():  # signed activations: the map may be negative everywhere
            assert not scores.any()
            continue
        scale = scale.clamp(min=1e-3 * scale.max())
        assert ((scores.double() - expected).abs() / scale).max() < tolerance
        count = kept.shape[1]
        assert count == int(grid[0] * grid[1] * 0.8 + 1e-9)
        for row, chosen in zip(expected / scale, kept, strict=True):  # the dropped are the lowest, up to rounding
            rest = np.setdiff1d(np.arange(len(row)), chosen)
            assert (chosen.diff() > 0).all()
            assert row[chosen].min() >= row[rest].max() - 2 * tolerance
    maps = pq.maps(images, labels)
    assert maps.gradients.dim() == (2 if closed_form else 4)
    gradients = maps.gradients.double() if not closed_form else maps.gradients.double()[:, :, None, None]
    assert (gradients - reference[1]).abs().max() < 1e-4 * reference[1].abs().max()
    assert (maps.activations - reference[0]).abs().max() < 1e-4 * reference[0].abs().max()


def state_of(model):
    return (
        {
            name: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for name, m in model.named_modules()
        },
        {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()},
        {name: v.clone() for name, v in model.state_dict().items()},
    )


def assert_same_state(model, before):
    after = state_of(model)
    assert after[:2] == before[:2]
    assert all(torch.equal(value, before[2][name]) for name, value in after[2].items())


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_small_net(images):
    torch.manual_seed(0)
    check_against_autograd(SmallNet(), images, (8, 8), closed_form=True, layer="activation")


@pytest.mark.parametrize("kind", ["relu", "relu6", "norm", "max", "flatten", "two linears", "softmax", "inplace"])
def test_other_heads_are_not_taken_for_the_closed_form(images, kind):
    torch.manual_seed(0)
    check_against_autograd(Head(kind), images, (8, 8), closed_form=False, layer="body")


def test_one_linear_layer_is(images):
    check_against_autograd(Head("plain"), images, (8, 8), closed_form=True, layer="body")


SMALL_VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}
SMALL_SWIN = {"img_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 4)}
TIMM = [  # name, input, layer, closed form, changes to the model
    ("resnet18", 64, "layer4", True, {}),
    ("mobilenetv3_small_100", 64, "blocks", False, {}),
    ("mobilenetv2_050", 64, "bn2", True, {}),
    ("efficientnet_b0", 64, "bn2", True, {}),
    ("convnext_atto", 64, "norm_pre", False, {}),
    ("swin_tiny_patch4_window7_224", 64, "norm", True, SMALL_SWIN),
    ("vit_tiny_patch16_224", 32, "blocks.1.norm1", False, SMALL_VIT),
    ("deit_tiny_distilled_patch16_224", 32, "blocks.1.norm1", False, SMALL_VIT),
    ("vit_tiny_patch16_224", 32, "blocks.1.norm1", False, {**SMALL_VIT, "global_pool": "avg"}),
    ("vit_tiny_patch16_224", 224, "blocks.11.norm1", False, {}),
    ("mixer_s32_224", 64, "norm", True, {"img_size": 64}),
    ("densenet121", 64, "features", True, {}),
]


@pytest.mark.parametrize(("name", "size", "layer", "closed_form", "changes"), TIMM)
def test_timm_models(name, size, layer, closed_form, changes):
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=5, **changes)
    images = torch.randn(2, 3, size, size)
    for module in model.modules():  # statistics as of a trained net: untrained ones let a map explode or vanish
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.bias)
        if isinstance(module, nn.Linear) and module.out_features == 5:  # timm starts some heads at zero
            nn.init.normal_(module.weight)
    with torch.no_grad():
        model.train()(images)
    before = state_of(model)
    grid = patch_grid(size, size, 16 if size > 64 else 8)
    check_against_autograd(model, images, grid, closed_form=closed_form, layer=layer)
    assert_same_state(model, before)


def test_torchvision_models():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    vit = models.VisionTransformer(32, 8, 2, 3, 48, 96, num_classes=5)
    nn.init.normal_(vit.heads.head.weight)
    found = dq.PixelQuantizer(vit)
    found.maps(torch.randn(2, 3, 32, 32), [0, 1])
    plan = found.plan(torch.randn(2, 3, 32, 32))
    assert (plan.layer.name, plan.layer.prefix, plan.layer.grid) == ("encoder.layers.encoder_layer_1.ln_1", 1, (4, 4))
    check_against_autograd(vit, torch.randn(2, 3, 32, 32), (8, 8), closed_form=False, layer=plan.layer.name)
    swin = models.SwinTransformer([4, 4], 24, [1, 1], [2, 2], [4, 4], num_classes=5)
    check_against_autograd(swin, torch.randn(2, 3, 64, 64), (4, 4), closed_form=True, layer="permute")


def test_layer_by_name(images):
    torch.manual_seed(0)
    net = nn.Sequential(
        OrderedDict(
            a=nn.Conv2d(3, 6, 4, 4),
            b=nn.ReLU(),
            c=nn.Conv2d(6, 8, 2, 2),
            d=nn.AdaptiveAvgPool2d(1),
            e=nn.Flatten(),
            f=nn.Linear(8, 4),
        )
    )
    pq = dq.PixelQuantizer(net, layer="b")
    maps = pq.maps(images, [0, 1, 2])
    assert maps.activations.shape == (3, 6, 8, 8)
    reference = whole_model_gradcam(net, images, torch.tensor([0, 1, 2]), "b", "nchw", 0, None)
    torch.testing.assert_close(maps.gradients.double(), reference[1], rtol=1e-4, atol=1e-7)
    assert dq.PixelQuantizer(net).maps(images, [0, 1, 2]).activations.shape == (3, 8, 4, 4)
    with pytest.raises(dq.InputError, match="layer must name a module of the model, got 'nothing'; the last ones are"):
        dq.PixelQuantizer(net, layer="nothing")(images, [0, 1, 2])
    with pytest.raises(dq.InputError, match=r"layer must return a map .*, got 'f'"):
        dq.PixelQuantizer(net, layer="f")(images, [0, 1, 2])


def test_the_body_is_never_differentiated(images):
    model = SmallNet()
    tracked = []
    model.body.register_forward_hook(lambda m, i, output: tracked.append(output.requires_grad or i[0].requires_grad))
    for net, wanted in ((model, True), (nn.Sequential(model, nn.Softmax(1)), False)):
        pq = dq.PixelQuantizer(net)
        pq(images, [0, 1, 2])
        assert pq.plan(images).closed_form is wanted
    assert tracked
    assert not any(tracked)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["plain", "norm"])
def test_model_is_left_as_found(images, kind):
    model = Head(kind).train()
    model.body.eval()
    model.linear.weight.requires_grad_(False)
    before = state_of(model)
    pq = dq.PixelQuantizer(model)
    first = pq(images, [0, 1, 2])
    assert_same_state(model, before)
    with torch.no_grad():
        assert torch.equal(pq(images, [0, 1, 2])[0], first[0])
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert torch.equal(dq.PixelQuantizer(model)(images * 1, [0, 1, 2])[0], first[0])
    assert torch.is_grad_enabled()
    assert torch.equal(first[0], dq.PixelQuantizer(model.eval())(images, [0, 1, 2])[0])  # it was run in evaluation mode


def test_exceptions_leave_nothing_behind(images):
    class Breaks(Head):
        armed = False

        def forward(self, x):
            logits = super().forward(x)
            if self.armed:
                raise RuntimeError("out of order")
            return logits

    for kind in ("plain", "norm"):
        model = Breaks(kind).train()
        before = state_of(model)
        pq = dq.PixelQuantizer(model)
        for prepared in (False, True):
            if prepared:
                model.armed = False
                pq(images, [0, 1, 2])
            model.armed = True
            with pytest.raises(RuntimeError, match="out of order"):
                pq(images, [0, 1, 2])
            assert_same_state(model, before)
            assert torch.is_grad_enabled()
        model.armed = False
        with pytest.raises(dq.InputError, match="labels must be classes of the model, 0 to 6, got 0 to 7"):
            pq(images, [0, 7, 2])
        assert_same_state(model, before)


def test_target_prediction(images):
    model = Head("norm").eval()
    with torch.no_grad():
        predicted = model(images).argmax(1)
    scores, kept = dq.PixelQuantizer(model, target="prediction")(images)
    expected = dq.PixelQuantizer(model)(images, predicted)
    assert torch.equal(scores, expected[0])
    assert torch.equal(kept, expected[1])
    other = dq.PixelQuantizer(model)(images, (predicted + 1) % 7)
    assert not torch.equal(scores, other[0])


def test_grids_of_one_batch(images):
    model = SmallNet().eval()
    pq = dq.PixelQuantizer(model, drop=0.4)
    grids = [(8, 8), (3, 5), (8, 8)]
    scores = pq.scores(images, [0, 1, 2], grids)
    kept = pq.keep(images, np.array([0, 1, 2]), grids)
    for i, grid in enumerate(grids):
        alone, chosen = dq.PixelQuantizer(model, grid=grid, drop=0.4)(images, [0, 1, 2])
        assert torch.equal(scores[i], alone[i])
        assert kept[i].dtype == np.int64
        assert kept[i].tolist() == chosen[i].tolist()
    assert len(kept[1]) == 9
    same = pq.scores(images, [0, 1, 2], [(4, 4)] * 3)
    assert torch.equal(torch.stack(same), dq.PixelQuantizer(model, grid=(4, 4))(images, [0, 1, 2])[0])
    assert pq.scores(images[:0], [], []) == []
    with pytest.raises(dq.InputError, match=r"grids must have one \(rows, cols\) an image, 3, got 1"):
        pq.scores(images, [0, 1, 2], [(4, 4)])


@pytest.mark.parametrize(("drop", "kept"), [(0.0, 64), (0.2, 51), (0.5, 32), (0.999, 1)])
def test_drop_ratios(images, drop, kept):
    found = dq.PixelQuantizer(SmallNet(), drop=drop)(images, [0, 1, 2])[1]
    assert found.shape == (3, kept)
    assert found.dtype == torch.int64


def test_drop_ratios_of_classes_and_images(images):
    net, grids = SmallNet(), [(8, 8), (3, 5), (8, 8)]
    for drop in ({0: 0.5, 3: 0.0, 2: 0.9}, [0.5, 0.1, 0.9, 0.0]):
        pq = dq.PixelQuantizer(net, drop=drop)
        kept = pq.keep(images, [0, 3, 2], grids)
        assert [len(k) for k in kept] == [32, 15, 6]
    scores = pq.scores(images, [0, 3, 2], grids)
    for k, s in zip(kept, scores, strict=True):  # no dropped patch is above a kept one
        assert s[k].min() >= np.delete(s.numpy(), k).max(initial=0)
    assert [len(k) for k in pq.keep(images, [0, 3, 2], grids, drop=[0.0, 0.2, 0.75])] == [64, 12, 16]
    with pytest.raises(dq.InputError, match="drop must have a ratio for every class, got none for label 4"):
        pq.keep(images, [0, 4, 2], grids)
    with pytest.raises(dq.InputError, match="drop must have one ratio an image, 3, got 1"):
        pq.keep(images, [0, 3, 2], grids, drop=[0.1])
    with pytest.raises(dq.InputError, match=r"one for each class; call keep\(\)"):
        pq(images, [0, 3, 2])


def test_energy_is_the_mean_square_of_the_map(images):
    model = SmallNet().eval()
    pq = dq.PixelQuantizer(model, grid=(3, 5), score="energy", drop=0.4)
    scores, kept = pq(images)  # no labels
    power = dq.PixelQuantizer(model).maps(images, [0, 1, 2]).activations.double().square().mean(1, keepdim=True)
    big = F.interpolate(power, (48, 80), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scores.double(), F.avg_pool2d(big, 16).flatten(1), rtol=1e-5, atol=1e-7)
    assert kept.shape == (3, 9)
    assert not torch.equal(scores.argsort(1), dq.PixelQuantizer(model, grid=(3, 5))(images, [0, 1, 2])[0].argsort(1))


def test_random_patches_depend_on_seed_and_id_alone(images):
    class NoModel(nn.Module):
        def forward(self, x):
            raise AssertionError("the model was run")

    pq = dq.PixelQuantizer(NoModel(), score="random", seed=4)
    scores, kept = pq(images, ids=["a", "b", "c"])
    assert torch.equal(pq(images[1:2], ids=["b"])[0][0], scores[1])
    assert pq.keep(images[2:], None, [(8, 8)], ids=["c"])[0].tolist() == kept[2].tolist()
    assert not torch.equal(dq.PixelQuantizer(NoModel(), score="random", seed=5)(images, ids=["a", "b", "c"])[0], scores)
    many = torch.cat([pq.scores(images[:1], None, [(14, 14)], ids=[str(i)])[0] for i in range(300)])
    assert abs(float(many.mean()) - 0.5) < 0.005
    assert abs(float(many.var()) - 1 / 12) < 0.002
    first, second = pq(images)[0], pq(images)[0]  # without ids every image is another one
    assert not torch.equal(first, second)


def test_default_grid_is_the_papers_for_224():
    scores, kept = dq.PixelQuantizer(SmallNet())(torch.randn(1, 3, 224, 224), [0])
    assert (scores.shape, kept.shape) == ((1, 196), (1, 156))


def test_ties_keep_the_lowest_positions(images):
    model = SmallNet()
    nn.init.zeros_(model.body.weight)  # a flat map
    nn.init.ones_(model.body.bias)
    scores, kept = dq.PixelQuantizer(model)(images, [0, 1, 2])
    assert (scores == scores[:, :1]).all()
    assert torch.equal(kept, torch.arange(51).expand(3, -1))


def test_batches_and_memory_formats_agree(images):
    for model in (SmallNet().eval(), Head("norm").eval()):
        pq = dq.PixelQuantizer(model)
        scores, _ = pq(images, [0, 1, 2])
        for i in range(3):
            alone, _ = dq.PixelQuantizer(model)(images[i : i + 1], [i])
            torch.testing.assert_close(alone[0], scores[i], rtol=1e-4, atol=1e-6)
        nhwc = copy.deepcopy(model).to(memory_format=torch.channels_last)
        found, _ = dq.PixelQuantizer(nhwc)(images.contiguous(memory_format=torch.channels_last), [0, 1, 2])
        torch.testing.assert_close(found, scores, rtol=1e-4, atol=1e-6)
        empty = pq(images[:0], torch.zeros(0, dtype=torch.int64))
        assert (empty[0].shape, empty[1].shape) == ((0, 64), (0, 51))


@pytest.mark.parametrize("kind", ["plain", "norm"])
def test_autocast_and_half_precision_models(images, kind):
    torch.manual_seed(0)
    model = Head(kind).eval()
    exact, _ = dq.PixelQuantizer(model)(images, [0, 1, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pq = dq.PixelQuantizer(model)
        mixed, _ = pq(images, [0, 1, 2])
        assert pq.plan(images).closed_form is (kind == "plain")
    torch.testing.assert_close(mixed / mixed.max(), exact / exact.max(), rtol=0.1, atol=0.05)
    for dtype in (torch.bfloat16, torch.float16):
        pq = dq.PixelQuantizer(copy.deepcopy(model).to(dtype))
        half, _ = pq(images.to(dtype), [0, 1, 2])
        torch.testing.assert_close(half / half.max(), exact / exact.max(), rtol=0.1, atol=0.05)


def test_wrapped_models(images):
    model = SmallNet().eval()
    expected, _ = dq.PixelQuantizer(model)(images, [0, 1, 2])
    for wrapped in (torch.compile(model, backend="eager"), nn.DataParallel(model)):
        assert torch.equal(dq.PixelQuantizer(wrapped)(images, [0, 1, 2])[0], expected)


def test_mistakes_are_named(images):
    net = SmallNet()
    with pytest.raises(dq.InputError, match="drop must be at least 0"):
        dq.PixelQuantizer(net, drop=1.0)
    with pytest.raises(dq.InputError, match=r"drop must be a ratio, or one for each class, got \{\}"):
        dq.PixelQuantizer(net, drop={})
    with pytest.raises(dq.InputError, match="score must be one of 'gradcam\\+\\+', 'energy', 'random', got 'best'"):
        dq.PixelQuantizer(net, score="best")
    with pytest.raises(dq.InputError, match="variant must be one of"):
        dq.PixelQuantizer(net, variant="cam")
    with pytest.raises(dq.InputError, match="target must be one of 'label', 'prediction', got 'both'"):
        dq.PixelQuantizer(net, target="both")
    with pytest.raises(dq.InputError, match=r"model must be a torch\.nn\.Module, got str"):
        dq.PixelQuantizer("resnet18")
    with pytest.raises(dq.InputError, match=r"grid must be \(rows, cols\)"):
        dq.PixelQuantizer(net, grid=(3,))
    pq = dq.PixelQuantizer(net)
    with pytest.raises(dq.InputError, match="labels must be given"):
        pq(images)
    with pytest.raises(dq.InputError, match=r"labels must be integers \[3\], got torch.int64 of shape \(2,\)"):
        pq(images, [1, 2])
    with pytest.raises(dq.InputError, match="images must be a float tensor"):
        pq((images * 9).byte(), [1, 2, 0])
    with pytest.raises(dq.InputError, match=r"NaN or infinity for 1 of 3 \(first: number 1\)"):
        pq(torch.where(torch.arange(3)[:, None, None, None] == 1, torch.nan, images), [0, 1, 2])
    with pytest.raises(dq.InputError, match="model must have a layer that returns a map"):
        dq.PixelQuantizer(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)))(images, [0, 1, 2])
    with pytest.raises(dq.InputError, match=r"model must return logits \[b, classes\], got shape"):
        dq.PixelQuantizer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))(images, [0, 1, 2])
