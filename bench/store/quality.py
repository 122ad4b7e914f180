"""How close images are to others: PSNR and SSIM."""

from __future__ import annotations

import numpy as np

_SIGMA, _REACH = 1.5, 5  # Wang, Bovik, Sheikh and Simoncelli 2004: Gaussian windows of 11 px
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LUMA = np.array([0.299, 0.587, 0.114])


def psnr(squared_error: float, values: int) -> float:
    """Peak signal-to-noise ratio in dB of a summed squared error over that many 8-bit values; inf for none."""
    return float("inf") if squared_error == 0 else float(10 * np.log10(255**2 * values / squared_error))


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    """Summed squared difference of two uint8 arrays."""
    return float(((a.astype(np.int32) - b) ** 2).sum(dtype=np.int64))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two images [h, w, 3]: of their luma, mean over the windows that fit; in [-1, 1]."""
    x, y = a @ _LUMA, b @ _LUMA
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    var_x = _smoothed(x * x) - mean_x**2
    var_y = _smoothed(y * y) - mean_y**2
    both = _smoothed(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * both + _C2)
    return float((top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))).mean())


def _smoothed(plane: np.ndarray) -> np.ndarray:
    """Gaussian windows where they fit whole; images below 11 px get the largest window that fits."""
    for axis in (0, 1):
        reach = min(_REACH, (plane.shape[axis] - 1) // 2)
        weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * _SIGMA**2))
        weights /= weights.sum()
        length = plane.shape[axis] - 2 * reach
        plane = sum(  # type: ignore[assignment]
            weight * np.take(plane, range(k, k + length), axis=axis) for k, weight in enumerate(weights)
        )
    return plane
