"""What patches can be ranked by: GradCAM++, or what it is compared with. Each gives scores of a grid; higher is kept.

"gradcam++" is the paper's. "random" is the baseline of its Table 3. "energy" needs neither labels nor a gradient: the
mean square of the map's channels, as activation-based attention has it (Zagoruyko and Komodakis, "Paying More Attention
to Attention", ICLR 2017, F²_sum), and serves where labels are missing or the classifier is not to be trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dq_fast.ops.patch_scores import resize_matrix

Grid = tuple[int, int]
SCORES = ("gradcam++", "energy", "random")


def energy(activations: Tensor, grid: Grid) -> Tensor:
    """Mean square over the channels [b, c, h, w], upsampled and averaged like a GradCAM++ map: float32 [b, P]."""
    power = activations.float().square().mean(1)
    height, width = power.shape[1:]
    in_rows = resize_matrix(height, grid[0], power.device).float()
    in_cols = resize_matrix(width, grid[1], power.device).float()
    return (in_rows @ power @ in_cols.T).flatten(1)


def uniform(seed: int, ids: Sequence[str], grid: Grid) -> Tensor:
    """Random scores float32 [b, P] that depend on the seed and an image's id alone, not on its batch."""
    scores = np.empty((len(ids), grid[0] * grid[1]), dtype=np.float32)
    for row, identity in zip(scores, ids, strict=True):
        key = hashlib.sha256(f"dq_fast random patches\0{seed}\0{identity}".encode(errors="surrogateescape")).digest()
        row[:] = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little"))).random(row.shape)
    return torch.from_numpy(scores)
