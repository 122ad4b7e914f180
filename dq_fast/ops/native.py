"""Finding the native modules, and saying why one is not used."""

from __future__ import annotations

import importlib
import os
import re
from functools import cache
from types import ModuleType

import torch  # before the native modules: they then share its OpenMP and CUDA runtimes

INTERFACE = {"cpu": 3, "cuda": 2}
"""Raised whenever the arguments of a native function change; a module built for another number is refused."""

INVALID = -2
"""What a native function returns, instead of a row, for offsets or sizes that it refuses: csrc/kernels.h, kInvalid."""

DISABLE = "DQ_FAST_DISABLE_NATIVE"

_OTHER_CUDA = (
    "this torch runs CUDA {0}: build dq_fast with the nvcc of the same major release, or install torch for the other"
)


@cache
def find(device: str) -> tuple[ModuleType | None, str]:
    """The native module of a device type ("cpu" or "cuda"), and why it is missing (or else what it was built with).

    Never raises: without a module the torch definitions serve, which `backends()` and `dq-fast doctor` report.
    """
    if os.environ.get(DISABLE) == "1":
        return None, f"switched off by {DISABLE}=1"
    if device == "cuda" and not torch.version.cuda:
        return None, "this torch was built without CUDA"
    name = f"dq_fast._{device}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            return None, f"{name} could not be loaded: {error}"
        return None, f"{name} was not built; `pip install -v .` shows why"
    except (ImportError, OSError) as error:  # built for another Python, or a shared library is missing
        return None, f"{name} could not be loaded: {error}{_runtime_hint(str(error))}"
    built = getattr(module, "interface", None)
    if built != INTERFACE[device]:
        return None, f"{name} has interface {built}, this package needs {INTERFACE[device]}; reinstall dq_fast"
    built_with = str(getattr(module, "built_with", "native"))
    if device == "cuda" and _major(built_with) != _major(str(torch.version.cuda)):
        return None, f"{name} was built with {built_with}, {_OTHER_CUDA.format(torch.version.cuda)}"
    return module, built_with


def _major(release: str) -> str:
    """The first number of "CUDA 13.0" or "13.0"."""
    return release.removeprefix("CUDA ").partition(".")[0]


def _runtime_hint(error: str) -> str:
    """More words where the CUDA runtime of another major release is what could not be found."""
    wanted = re.search(r"libcudart\.so\.(\d+)", error)
    if wanted is None or wanted[1] == _major(str(torch.version.cuda)):
        return ""
    return f"; it was built with CUDA {wanted[1]}, {_OTHER_CUDA.format(torch.version.cuda)}"


def module(device: str) -> ModuleType:
    """The native module of a device that `find` found."""
    found, reason = find(device)
    if found is None:
        raise RuntimeError(f"native module for {device}: {reason}")
    return found
