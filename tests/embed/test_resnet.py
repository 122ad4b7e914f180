"""Networks for small images: sizes of the paper, shortcuts, published weights, timm's registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dq_fast.embed import load_classifier
from dq_fast.embed.resnet import BUILTIN, PadShortcut


@pytest.mark.parametrize(
    ("name", "parameters", "features"),
    # He et al. 2016, table 6 (0.27 M, 0.46 M, 0.66 M, 0.85 M); ResNet-18 with a 3 x 3 stem: 11.17 M
    [
        ("resnet20_cifar", 269_722, 64),
        ("resnet32_cifar", 464_154, 64),
        ("resnet44_cifar", 658_586, 64),
        ("resnet56_cifar", 853_018, 64),
        ("resnet18_cifar", 11_173_962, 512),
    ],
)
def test_sizes_of_the_paper(name: str, parameters: int, features: int) -> None:
    net = BUILTIN[name](num_classes=10)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net.num_features == features
    assert net(torch.zeros(1, 3, 17, 9)).shape == (1, 10)


def test_option_a_shortcut() -> None:
    x = torch.arange(2 * 5 * 4, dtype=torch.float32).reshape(1, 2, 5, 4)
    y = PadShortcut(2, 4, 2)(x)
    assert y.shape == (1, 4, 3, 2)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, 0].any()
    assert not y[:, 3].any()


def test_head_parts_compose() -> None:
    net = BUILTIN["resnet20_cifar"](num_classes=3).eval()
    x = torch.randn(2, 3, 12, 12)
    pooled = net.forward_features(x).mean((2, 3))
    assert torch.allclose(net(x), net.get_classifier()(pooled), atol=1e-6)
    assert torch.allclose(net.forward_head(net.forward_features(x), pre_logits=True), pooled)
    net.reset_classifier(7)
    assert net(x).shape == (2, 7)


def test_timm_makes_them_without_being_imported_for_it() -> None:
    pytest.importorskip("timm")
    program = """
import sys
import dq_fast.embed
assert "timm" not in sys.modules, "timm was imported"
import timm
net = timm.create_model("resnet20_cifar", num_classes=7)
assert net.linear.out_features == 7
assert timm.create_model("resnet18_cifar").num_classes == 10
assert timm.data.resolve_data_config({}, model=net)["input_size"] == (3, 32, 32)
assert "resnet56_cifar" in timm.list_models("*_cifar")
try:
    timm.create_model("resnet20_cifar", pretrained=True)
except ValueError as error:
    assert "no pretrained weights" in str(error)
else:
    raise AssertionError("made weights up")
"""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], check=True)


def test_registered_where_timm_came_first() -> None:
    pytest.importorskip("timm")
    program = "import timm, dq_fast.embed, importlib\nassert timm.is_model('resnet32_cifar')"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("file", "name", "least"),
    [("resnet20-12fca82f.th", "resnet20_cifar", 0.90), ("resnet56-4bfd9763.th", "resnet56_cifar", 0.92)],
)
def test_published_weights(real_data: Path, file: str, name: str, least: float) -> None:
    classifier = load_classifier(name, num_classes=10, weights=real_data.parent / "weights" / file)
    assert classifier.state == "ready"
    data = np.load(real_data / "cifar10_ci_2000_500.npz")
    images, labels = torch.from_numpy(data["x_test"]), torch.from_numpy(data["y_test"]).long()
    with torch.inference_mode():
        right = sum(
            int((classifier.features_and_logits(classifier.normalize(x))[1].argmax(1) == y).sum())
            for x, y in zip(images.split(125), labels.split(125), strict=True)
        )
    assert right / 500 >= least
