"""The patch grid of an image, and which of its patches are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from dq_fast.errors import InputError

SMALL_SIDE = 64  # pixels; images up to this are small (CIFAR, digits): 16-pixel patches would leave them four
SMALL_PATCH, LARGE_PATCH = 4, 16
_ROUNDING = 1e-9  # 10 * (1 - 0.3) is 7 patches, not the 6.999... of binary fractions


def patch_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """(rows, cols) of patches of `patch` x `patch` pixels that cover an image; the last may reach over its edge."""
    for name, value in (("height", height), ("width", width), ("patch", patch)):
        if value < 1:
            raise InputError(f"{name} must be at least 1 pixel, got {value}")
    return -(-height // patch), -(-width // patch)


def default_patch(height: int, width: int) -> int:
    """Side of a patch in pixels: 4 for images of up to 64 pixels (larger side), else 16, as in the paper."""
    return SMALL_PATCH if max(height, width) <= SMALL_SIDE else LARGE_PATCH


def kept_count(patches: int, drop: float) -> int:
    """How many of an image's patches are kept at drop ratio θ: floor(P · (1 − θ)), at least one; 156 of 196 at 0.2."""
    if patches < 1:
        raise InputError(f"patches must be at least 1, got {patches}")
    check_drop(drop)
    return max(1, int(patches * (1 - drop) + _ROUNDING))


def check_drop(drop: float) -> None:
    """Raise unless `drop` is a ratio of patches that leaves some."""
    if not 0 <= drop < 1:
        raise InputError(f"drop must be at least 0 and less than 1, got {drop!r}; 0.2 drops a fifth of the patches")


def keep_top(scores: Tensor, count: int) -> Tensor:
    """Positions int64 [b, count], ascending, of each row's `count` highest scores [b, P]; of equals the lowest."""
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices
    return order[:, :count].sort(dim=1).values
