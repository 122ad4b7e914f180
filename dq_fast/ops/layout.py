"""How maps [batch, channels, h, w] lie in memory, for the native kernels, which read two orders in place."""

from __future__ import annotations

import torch
from torch import Tensor

# numbers as in csrc/kernels.h
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


def dense(x: Tensor, channels_last: bool) -> bool:
    """Whether each image of x [b, c, h, w] is contiguous in the given order; strides between images are free."""
    _, channels, height, width = x.shape
    _, along_c, along_h, along_w = x.stride()
    if channels_last:
        return along_c == 1 and along_w == channels and along_h == width * channels
    return along_w == 1 and along_h == width and along_c == height * width


def as_dense(x: Tensor, channels_last: bool) -> Tensor:
    """The same tensor if its images are dense in the given order, else a copy."""
    if dense(x, channels_last):
        return x
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
