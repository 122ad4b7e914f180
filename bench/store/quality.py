"""How close images are to others: PSNR and SSIM."""

from __future__ import annotations

import numpy as np

_SIGMA, _REACH = 1.5, 5  # Wang, Bovik, Sheikh and Simoncelli 2004: Gaussian windows of 11 px
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LUMA = np.array([0.299, 0.587, 0.114])


def psnr(squared_error: float, values: int) -> float:
    """Peak signal-to-noise ratio in dB of a summed squared error over that many 8-bit values; inf for none."""
    return float("inf") if squared_error == 0 else float(10 * np.log10(255**2 * values / squared_error))


def squared_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared difference of uint8 arrays [..., c], summed over the channels, int32 [...]."""
    difference = a.astype(np.int32) - b
    return np.asarray(np.einsum("...c,...c->...", difference, difference))


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of images [..., h, w, 3], in [-1, 1]: of their luma, mean over the windows that fit."""
    x, y = a @ _LUMA, b @ _LUMA
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    product = mean_x * mean_y
    squares = mean_x**2 + mean_y**2
    both = _smoothed(x * y) - product
    variances = _smoothed(x * x + y * y) - squares
    top = (2 * product + _C1) * (2 * both + _C2)
    return np.asarray((top / ((squares + _C1) * (variances + _C2))).mean(axis=(-2, -1)))


def _smoothed(plane: np.ndarray) -> np.ndarray:
    """Gaussian windows where they fit whole [..., h, w]; images below 11 px get the largest window that fits."""
    for axis in (-2, -1):
        plane = np.moveaxis(plane, axis, 0)
        reach = min(_REACH, (plane.shape[0] - 1) // 2)
        weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * _SIGMA**2))
        weights /= weights.sum()
        length = plane.shape[0] - 2 * reach
        out = weights[reach] * plane[reach : reach + length]
        for k in range(reach):  # the window is symmetric
            out += weights[k] * (plane[k : k + length] + plane[2 * reach - k : 2 * reach - k + length])
        plane = np.moveaxis(out, 0, axis)
    return plane
