"""float32 and float64: arithmetic with one rounding, approximate functions as good as their format allows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..formats import FLOAT, UNSIGNED, Array, decode, fused, size_of
from ..operands import reader, writer
from ..parse import Instruction, Kernel
from .table import Run, opcode

_TINY = np.finfo(np.float32).tiny  # the smallest normal float32


def flusher(one: Instruction) -> Callable[[Array], Array]:
    """With .ftz, float32 numbers that are not normal become zero, of the same sign."""
    if not one.has("ftz"):
        return lambda x: x
    return lambda x: np.where(np.abs(x) < _TINY, np.copysign(np.float32(0), x), x) if x.dtype == np.float32 else x


def least(a: Array, b: Array) -> Array:
    """min: the number, if one is NaN; -0 is less than +0."""
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a) | np.signbit(b), -a.dtype.type(0), a.dtype.type(0)), np.fmin(a, b))


def greatest(a: Array, b: Array) -> Array:
    """max: the number, if one is NaN; +0 is more than -0."""
    zeros = (a == 0) & (b == 0)
    return np.where(zeros, np.where(np.signbit(a) & np.signbit(b), -a.dtype.type(0), a.dtype.type(0)), np.fmax(a, b))


def extreme(one: Instruction) -> Callable[[Array, Array], Array]:
    function = least if one.op == "min" else greatest
    if one.has("NaN"):
        return lambda a, b: np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), function(a, b))
    return function


def build(one: Instruction, kernel: Kernel) -> Run:
    """add, sub, mul, fma, mad, div, min, max, abs, neg."""
    size = size_of(one.type)
    dtype = FLOAT[size]
    if one.has("rz", "rm", "rp", "xorsign") or one.op == "rem":
        raise one.unsupported()
    if one.op in ("abs", "neg"):
        return _sign(one, kernel)
    function: Callable[..., Array] = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "fma": lambda a, b, c: fused(a, b, c, dtype),
        "mad": lambda a, b, c: fused(a, b, c, dtype),
        "min": extreme(one),
        "max": extreme(one),
    }[one.op]
    return elementwise(one, kernel, function)


def elementwise(one: Instruction, kernel: Kernel, function: Callable[..., Array]) -> Run:
    """A function of all operands but the first, with .ftz and .sat."""
    read = [reader(x, one.type, kernel) for x in one.operands[1:]]
    write = writer(one.operands[0], one.type, kernel)
    flush, saturate = flusher(one), one.has("sat")
    dtype = FLOAT[size_of(one.type)]

    def run(machine, active):
        sel = active.sel
        value = flush(np.asarray(function(*(flush(r(machine, sel)) for r in read)), dtype))
        if saturate:  # NaN becomes 0
            value = np.clip(np.where(np.isnan(value), dtype.type(0), value), dtype.type(0), dtype.type(1))
        write(machine, sel, value)

    return run


def _sign(one: Instruction, kernel: Kernel) -> Run:
    bits = f"b{8 * size_of(one.type)}"
    read, write = reader(one.operands[1], bits, kernel), writer(one.operands[0], bits, kernel)
    dtype = UNSIGNED[size_of(one.type)]
    top = dtype.type(1 << (8 * dtype.itemsize - 1))
    flush = flusher(one)

    def run(machine, active):
        value = np.ascontiguousarray(flush(decode(read(machine, active.sel), one.type))).view(dtype)
        write(machine, active.sel, value ^ top if one.op == "neg" else value & ~top)

    return run


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "rcp": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
}


@opcode(*_FUNCTIONS)
def _function(one: Instruction, kernel: Kernel) -> Run:
    """In float64, then rounded: better than .approx promises, and exact for .rn (1/x and sqrt)."""
    if one.type not in ("f32", "f64") or one.has("rz", "rm", "rp"):
        raise one.unsupported()
    exact = _FUNCTIONS[one.op]
    if one.type == "f64":
        return elementwise(one, kernel, exact)
    return elementwise(one, kernel, lambda x: exact(x.astype(np.float64)))


@opcode("copysign")
def _copysign(one: Instruction, kernel: Kernel) -> Run:
    """Operand b with the sign of a."""
    return elementwise(one, kernel, lambda a, b: np.copysign(b, a))


@opcode("testp")
def _testp(one: Instruction, kernel: Kernel) -> Run:
    read, write = reader(one.operands[1], one.type, kernel), writer(one.operands[0], "pred", kernel)
    tiny = np.finfo(FLOAT[size_of(one.type)]).tiny
    function = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda x: ~np.isnan(x),
        "notanumber": np.isnan,
        "normal": lambda x: np.isfinite(x) & (np.abs(x) >= tiny),
        "subnormal": lambda x: (x != 0) & (np.abs(x) < tiny),
    }[one.words[1]]
    return lambda machine, active: write(machine, active.sel, function(read(machine, active.sel)))
