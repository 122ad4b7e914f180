"""Floating-point numbers that are hard: for the tests of single instructions."""

from __future__ import annotations

import numpy as np

from .exact import FORMATS, from_bits, to_bits

SIZE = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}


def finite(type_: str, seed: int, n: int = 96, spread: int = 6) -> np.ndarray:
    """Bit patterns of finite numbers: zeros, the extremes, small whole numbers, and others with exponents near zero."""
    rng = np.random.default_rng(seed)
    form = FORMATS[type_]
    digits = rng.integers(1 << (form.digits - 1), 1 << form.digits, n)
    spread = min(spread, form.highest)
    exponents = rng.integers(-spread, spread, n) - form.digits + 1
    values = [float(d) * 2.0 ** int(e) * s for d, e, s in zip(digits, exponents, rng.choice([-1, 1], n), strict=True)]
    tiny = 2.0 ** (form.lowest - form.digits + 1)
    values += [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, tiny, -tiny, 2.0**form.lowest, float(form.largest)]
    patterns = np.array([to_bits(v, type_) for v in values], f"u{SIZE[type_]}")
    return rng.permutation(patterns)


def special(type_: str) -> np.ndarray:
    """Bit patterns: both infinities, NaN, zeros, ones, the smallest and the largest."""
    form = FORMATS[type_]
    values = [
        np.inf,
        -np.inf,
        np.nan,
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0 ** (form.lowest - form.digits + 1),
        float(form.largest),
    ]
    return np.array([to_bits(v, type_) for v in values], f"u{SIZE[type_]}")


def pairs(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each with each."""
    return np.repeat(patterns, len(patterns)), np.tile(patterns, len(patterns))


def values(patterns: np.ndarray, type_: str) -> list[float]:
    """The numbers of bit patterns."""
    return [from_bits(int(p), type_) for p in patterns]


def same(got: np.ndarray, want: list[float], type_: str) -> None:
    """Bit patterns are those of these numbers; any NaN is as good as another."""
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        have = from_bits(int(g), type_)
        assert (np.isnan(have) and np.isnan(w)) or int(g) == to_bits(w, type_), f"number {k}: got {have!r}, want {w!r}"
