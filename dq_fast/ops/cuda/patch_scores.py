"""Patch scores on CUDA tensors: one launch a batch, a second one for small batches of large images (csrc/cuda)."""

from __future__ import annotations

import torch
from torch import Tensor

from dq_fast.ops.cuda import launch
from dq_fast.ops.layout import DTYPES, as_dense, dense


def patch_scores(activations: Tensor, gradients: Tensor, rows: int, cols: int, variant: int) -> Tensor:
    """The op, arguments as its schema.

    Contiguous and channels-last tensors are read where they lie, and views that only skip between images; other strides
    are copied. Nothing is asked of the device, so it can be captured in a CUDA graph.
    """
    batch, channels, height, width = activations.shape
    # Some strides are both, those of one channel or one position; the order of the gradients then decides nothing.
    channels_last = not dense(activations, channels_last=False) and dense(activations, channels_last=True)
    constant = gradients.dim() == 2
    if constant:
        gradients = gradients.contiguous()
    else:
        if gradients.dtype != activations.dtype:
            wide = torch.promote_types(gradients.dtype, activations.dtype)
            gradients, activations = gradients.to(wide), activations.to(wide)
        gradients = as_dense(gradients, channels_last)
    activations = as_dense(activations, channels_last)
    scores = activations.new_empty((batch, rows, cols), dtype=torch.float32)
    shape = batch, channels, height, width, rows, cols
    types = DTYPES[activations.dtype], DTYPES[gradients.dtype]
    kernels = launch.kernels()
    with launch.on(activations.device) as stream:
        needed = kernels.patch_scores_workspace(*types, constant, channels_last, *shape)
        workspace = activations.new_empty(needed, dtype=torch.float64)
        kernels.patch_scores(
            activations.data_ptr(), types[0], activations.stride(0),
            gradients.data_ptr(), types[1], gradients.stride(0), constant, channels_last,
            variant, workspace.data_ptr(), scores.data_ptr(), *shape, stream,
        )  # fmt: skip
    return scores
