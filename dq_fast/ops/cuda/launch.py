"""Where kernels come from and where they go: the native module, and the stream of a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from dq_fast.ops import native

OLDEST = (8, 0)
"""Compute capability that the kernels are compiled for, and newer: csrc/cuda/CMakeLists.txt."""


@cache
def supports(device: torch.device) -> bool:
    """Whether the kernels are compiled for a device; older GPUs are served by the definitions in torch."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= OLDEST


def kernels() -> Any:
    """The native module; tests put the emulated one here."""
    return native.module("cuda")


@contextmanager
def on(device: torch.device) -> Iterator[int]:
    """The address of the device's current stream, the device being current meanwhile; 0 where there are no streams."""
    if device.type != "cuda":
        yield 0
        return
    with torch.cuda.device(device):
        yield torch.cuda.current_stream(device).cuda_stream


def capturing(device: torch.device) -> bool:
    """Whether the device's current stream is being captured into a CUDA graph: then nothing may wait for it."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


def free_bytes(device: torch.device) -> int:
    """Memory of the device that nobody has taken; 0 where that is not known."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
