"""Rounding by the definition, in fractions: independent of numpy, for the tests."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: its digits, and the exponents of the smallest normal and the largest number."""

    name: str
    digits: int
    lowest: int
    highest: int

    @property
    def largest(self) -> Fraction:
        return (2 - Fraction(2) ** (1 - self.digits)) * Fraction(2) ** self.highest


FORMATS = {
    "f16": Format("f16", 11, -14, 15),
    "bf16": Format("bf16", 8, -126, 127),
    "f32": Format("f32", 24, -126, 127),
    "f64": Format("f64", 53, -1022, 1023),
}


def nearest(x: Fraction, type_: str, mode: str = "rn") -> float:
    """The number of a format that x rounds to; rn: ties to even, beyond the largest infinite; rz, rm, rp."""
    if x == 0:
        return 0.0
    form = FORMATS[type_]
    exponent = max(_exponent(abs(x)), form.lowest)
    unit = Fraction(2) ** (exponent - form.digits + 1)
    steps = {"rn": round, "rz": math.trunc, "rm": math.floor, "rp": math.ceil}[mode](x / unit)
    value, sign = steps * unit, -1 if x < 0 else 1
    if abs(value) > form.largest:
        up = mode == "rn" or (mode == "rp" and x > 0) or (mode == "rm" and x < 0)
        return sign * (math.inf if up else float(form.largest))
    return math.copysign(float(value), sign)


def _exponent(x: Fraction) -> int:
    """Floor of the logarithm to base 2."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def to_bits(x: float, type_: str) -> int:
    """Bit pattern of a number that the format has."""
    if type_ == "bf16":
        return struct.unpack("<I", struct.pack("<f", x))[0] >> 16
    code, integer = {"f16": ("e", "H"), "f32": ("f", "I"), "f64": ("d", "Q")}[type_]
    return struct.unpack("<" + integer, struct.pack("<" + code, x))[0]


def from_bits(bits: int, type_: str) -> float:
    """The number of a bit pattern."""
    if type_ == "bf16":
        return struct.unpack("<f", struct.pack("<I", bits << 16))[0]
    code, integer = {"f16": ("e", "H"), "f32": ("f", "I"), "f64": ("d", "Q")}[type_]
    return struct.unpack("<" + code, struct.pack("<" + integer, bits))[0]
