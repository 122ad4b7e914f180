"""Fixed sine-cosine positions of MAE (He et al. 2022), for any grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dq_fast.errors import InputError

BASE = 10000.0  # of the frequencies, as in the Transformer's paper


def sincos_positions(grid: tuple[int, int], dim: int) -> NDArray[np.float64]:
    """Positions float64 [1 + rows·cols, dim]: first the class token's, zeros, then the patches', row by row.

    A patch at (row, column) has [sin(column·ω), cos(column·ω), sin(row·ω), cos(row·ω)] with dim/4 frequencies
    ω_k = 10000^(-k / (dim/4)). The column comes first: so it is in the published weights.

    Raises:
        InputError: dim is no multiple of 4.
    """
    if dim < 4 or dim % 4:
        raise InputError(f"dim must be a multiple of 4 for sine-cosine positions, got {dim}")
    omega = BASE ** -(np.arange(dim // 4) / (dim / 4))
    rows, cols = (axis.reshape(-1, 1) * omega for axis in np.mgrid[: grid[0], : grid[1]])
    patches = np.concatenate([np.sin(cols), np.cos(cols), np.sin(rows), np.cos(rows)], axis=1)
    return np.concatenate([np.zeros((1, dim)), patches])
