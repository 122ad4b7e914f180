"""cvt between integers, float16, bfloat16, float32 and float64."""

from __future__ import annotations

import numpy as np

from ..formats import FLOAT, PACKED, SIGNED, UNSIGNED, Array, encode, is_float, join, narrow, size_of
from ..operands import reader, writer
from ..parse import Instruction, Kernel
from . import floating
from .table import Run, opcode

_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_ROUND = ("rn", "rz", "rm", "rp")


@opcode("cvt")
def _cvt(one: Instruction, kernel: Kernel) -> Run:
    if one.has("relu", "rna", "rs", "satfinite", "pack") or len(one.words) < 3:
        raise one.unsupported()
    to, from_ = one.words[-2], one.words[-1]
    if to in PACKED:
        return _pack(one, kernel)
    read, write = reader(one.operands[1], from_, kernel), writer(one.operands[0], to, kernel)
    if is_float(to):
        convert = _to_float(one, to, from_)
    elif is_float(from_):
        rounding = _TO_INTEGER[one.pick(tuple(_TO_INTEGER))]
        dtype = (SIGNED if to[0] == "s" else UNSIGNED)[size_of(to)]
        flush = floating.flusher(one)

        def convert(x: Array) -> Array:
            return to_integer(rounding(flush(x).astype(np.float64)), dtype)
    else:
        dtype = (SIGNED if to[0] == "s" else UNSIGNED)[size_of(to)]

        def convert(x: Array) -> Array:
            return clamp(x, dtype) if one.has("sat") else x.astype(dtype)

    return lambda machine, active: write(machine, active.sel, convert(read(machine, active.sel)))


def to_integer(x: Array, dtype: np.dtype) -> Array:
    """Integers of whole float64 numbers: the nearest there is, 0 for NaN."""
    info = np.iinfo(dtype)
    low, high = float(info.min), float(info.max)  # for 64 bits `high` is one too many
    inside = (x >= low) & (x < high) if dtype.itemsize == 8 else (x >= low) & (x <= high)
    out = np.where(inside, x, 0).astype(dtype)
    out = np.where(x >= high, dtype.type(info.max), out)
    return np.where(x < low, dtype.type(info.min), out)


def clamp(x: Array, dtype: np.dtype) -> Array:
    """The nearest integer of a dtype."""
    info, have = np.iinfo(dtype), np.iinfo(x.dtype)
    low, high = max(info.min, have.min), min(info.max, have.max)
    return np.clip(x, x.dtype.type(low), x.dtype.type(high)).astype(dtype)


def _to_float(one: Instruction, to: str, from_: str):
    mode = one.pick(_ROUND, "rn")
    flush, saturate = floating.flusher(one), one.has("sat")
    whole = one.pick(tuple(_TO_INTEGER), "")
    if mode != "rn" and ("bf16" in (to, from_) or not is_float(from_)):
        raise one.unsupported()

    def convert(x: Array) -> Array:
        x = flush(x)
        if whole:
            x = _TO_INTEGER[whole](x)
        if saturate:
            x = np.clip(np.where(np.isnan(x), x.dtype.type(0), x), x.dtype.type(0), x.dtype.type(1))
        if to == "bf16":  # encode rounds: from float64, where an integer fits
            return x if x.dtype.kind == "f" else x.astype(np.float64)
        dtype = FLOAT[size_of(to)]
        if x.dtype.kind != "f":  # via float64 only where that is exact
            return x.astype(dtype) if dtype.itemsize >= 4 else x.astype(np.float64).astype(dtype)
        return flush(narrow(x, dtype, mode) if dtype.itemsize < x.dtype.itemsize else x.astype(dtype))

    return convert


def _pack(one: Instruction, kernel: Kernel) -> Run:
    """cvt.rn.bf16x2.f32 d, a, b: a in the upper half, b in the lower."""
    if one.type != "f32" or not one.has("rn"):
        raise one.unsupported()
    half = one.words[-2].removesuffix("x2")
    high, low = (reader(x, "f32", kernel) for x in one.operands[1:3])
    write = writer(one.operands[0], "b32", kernel)
    return lambda machine, active: write(
        machine, active.sel, join(encode(low(machine, active.sel), half), encode(high(machine, active.sel), half))
    )
