"""Types of PTX as numpy has them: sizes, bit patterns, float16 and bfloat16, exact rounding.

Registers hold bit patterns in unsigned integers of their size (predicates: bool). `decode` gives the numbers that an
instruction's type sees in them, `encode` the way back, with one rounding to nearest even.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

Array = np.ndarray

UNSIGNED = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8"), 16: np.dtype("c16")}
SIGNED = {1: np.dtype("i1"), 2: np.dtype("i2"), 4: np.dtype("i4"), 8: np.dtype("i8")}
FLOAT = {2: np.dtype("f2"), 4: np.dtype("f4"), 8: np.dtype("f8")}  # 16 bytes above: two numbers moved as one
PACKED = ("f16x2", "bf16x2")


@cache
def size_of(type_: str) -> int:
    """Bytes of a type: 4 for f32, b32 or bf16x2; predicates take one."""
    if type_ == "pred":
        return 1
    match = re.fullmatch(r"(?:bf|[busf])(\d+)(x2)?", type_)
    if not match:
        raise ValueError(f"not a type of PTX: {type_}")
    return int(match[1]) // 8 * (2 if match[2] else 1)


def is_float(type_: str) -> bool:
    return type_.startswith(("f", "bf"))


def decode(bits: Array, type_: str) -> Array:
    """Numbers of a type from unsigned integers of its size; bfloat16 as float32, packed types stay bits."""
    kind, size = type_[0], size_of(type_)
    if type_ == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if kind == "s":
        return bits.view(SIGNED[size])
    if kind == "f" and type_ not in PACKED:
        return bits.view(FLOAT[size])
    return bits


def encode(numbers: Array, type_: str) -> Array:
    """Bit patterns, unsigned, of numbers of any floating or integer dtype in a type of PTX."""
    size = size_of(type_)
    if type_ == "bf16":
        return to_bfloat16(numbers)
    if type_[0] == "f":
        return np.ascontiguousarray(numbers.astype(FLOAT[size], copy=False)).view(UNSIGNED[size])
    if numbers.dtype.itemsize != size:
        numbers = numbers.astype(SIGNED[size] if numbers.dtype.kind == "i" else UNSIGNED[size])
    return numbers.view(UNSIGNED[size])


def halves(bits: Array) -> tuple[Array, Array]:
    """The low and the high 16 bits of 32."""
    return bits.astype(np.uint16), (bits >> np.uint32(16)).astype(np.uint16)


def join(low: Array, high: Array) -> Array:
    """32 bits of two times 16."""
    return low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))


def to_bfloat16(x: Array) -> Array:
    """Bits of the nearest bfloat16, ties to even, from float16, float32 or float64; any NaN becomes 0x7fff."""
    u = odd_float32(x).view(np.uint32).astype(np.uint64)
    rounded = (u + np.uint64(0x7FFF) + ((u >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), 0x7FFF, rounded).astype(np.uint16)


def odd_float32(x: Array) -> Array:
    """Float32 of numbers, rounded to odd: rounding it again to fewer digits is as good as rounding once."""
    y = x.astype(np.float32)
    back = y.astype(x.dtype)
    inexact = (back != x) & np.isfinite(y) & ((y.view(np.uint32) & np.uint32(1)) == 0)
    return np.where(inexact, np.nextafter(y, np.where(back < x, np.inf, -np.inf).astype(np.float32)), y)


def narrow(x: Array, dtype: np.dtype, mode: str) -> Array:
    """Numbers in a smaller floating dtype; mode rn (nearest even), rz (to zero), rm (down) or rp (up)."""
    y = x.astype(dtype)
    if mode == "rn":
        return y
    back = y.astype(x.dtype)
    up = np.isfinite(x) & (back < x) & ((mode == "rp") | ((mode == "rz") & (x < 0)))
    down = np.isfinite(x) & (back > x) & ((mode == "rm") | ((mode == "rz") & (x > 0)))
    y = np.where(up, np.nextafter(y, dtype.type(np.inf)), y)
    return np.where(down, np.nextafter(y, dtype.type(-np.inf)), y)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """fl(a + b) and its error, exact (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """fl(a * b) and its error, exact in float64 where nothing over- or underflows (Dekker)."""
    p = a * b
    ah, bh = _upper(a), _upper(b)
    al, bl = a - ah, b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _upper(a: Array) -> Array:
    c = a * 134217729.0  # 2^27 + 1
    return c - (c - a)


def odd_sum(a: Array, b: Array) -> Array:
    """A + b in float64 rounded to odd: rounding the result to two digits less, or adding more, rounds correctly."""
    s, e = two_sum(a, b)
    fix = (e != 0) & np.isfinite(s) & ((s.view(np.uint64) & np.uint64(1)) == 0) & np.isfinite(e)
    if not fix.any():
        return s
    return np.where(fix, np.nextafter(s, np.where(e > 0, np.inf, -np.inf)), s)


def fused(a: Array, b: Array, c: Array, dtype: np.dtype) -> Array:
    """A * b + c rounded once to a floating dtype.

    float64: Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to
    odd", 2008; exact unless something over- or underflows on the way. The others: the product is exact in float64.
    """
    if dtype.itemsize < 8:
        return odd_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)).astype(dtype)
    uh, ul = two_product(a, b)
    th, tl = two_sum(c, ul)
    vh, vl = two_sum(uh, th)
    z = vh + odd_sum(tl, vl)
    plain = a * b + c
    return np.where(np.isfinite(z) & (a * b != 0), z, plain)
