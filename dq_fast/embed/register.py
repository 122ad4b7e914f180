"""The networks of `resnet.py` under their names in timm's registry, without importing timm before somebody does."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from torch import nn

from dq_fast.embed import resnet
from dq_fast.errors import InputError

__all__: list[str] = []  # timm appends the names that it registers


class _WhenTimmIsImported(importlib.abc.MetaPathFinder):
    """Registers the networks right after the first ``import timm``.

    timm takes about two seconds to import, which everybody who uses only the small networks would pay.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("timm")
        if spec is None or spec.loader is None:
            return spec
        loader = spec.loader
        execute = loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register_with_timm()

        loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_with_timm() -> None:
    """Add the networks to timm's registry now, importing timm; a second call does nothing."""
    from timm.models import is_model, register_model

    for name, make in resnet.BUILTIN.items():
        if not is_model(name):
            register_model(_entry_point(name, make))


def register_lazily() -> None:
    """Add the networks to timm's registry now if timm is imported, otherwise as soon as it is."""
    if "timm.models" in sys.modules:
        register_with_timm()
    elif not any(isinstance(finder, _WhenTimmIsImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenTimmIsImported())


def _entry_point(name: str, make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """What timm calls: takes its extra arguments, and leaves the configuration that timm's data code reads."""

    def build(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        **kwargs: Any,
    ) -> nn.Module:
        if pretrained:
            raise InputError(f"{name} has no pretrained weights to download; pass a local file, or train it")
        model = make(**kwargs)
        model.pretrained_cfg = model.default_cfg = {  # type: ignore[assignment]
            "input_size": (3, 32, 32),
            "mean": resnet.MEAN,
            "std": resnet.STD,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "num_classes": model.num_classes,
            "first_conv": "conv1",
            "classifier": "linear",
            "architecture": name,
        }
        return model

    build.__name__ = build.__qualname__ = name
    build.__doc__ = make.__doc__
    build.__module__ = __name__
    return build
