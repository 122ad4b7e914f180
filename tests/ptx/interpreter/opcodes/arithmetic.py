"""Integer arithmetic and comparisons; the same words with floating types go to `floating` and `halves`."""

from __future__ import annotations

import numpy as np

from ..errors import PtxError
from ..formats import SIGNED, UNSIGNED, Array, is_float, size_of
from ..operands import reader, writer
from ..parse import Instruction, Kernel
from . import floating, halves
from .table import Run, opcode

_CARRY = ("cc",)  # add.cc and the like: not supported


@opcode("add", "sub", "mul", "mad", "fma", "div", "rem", "min", "max", "abs", "neg")
def _arithmetic(one: Instruction, kernel: Kernel) -> Run:
    if one.type in ("f16", "bf16", "f16x2", "bf16x2"):
        return halves.build(one, kernel)
    if is_float(one.type):
        return floating.build(one, kernel)
    if one.has(*_CARRY, "sat"):
        raise one.unsupported()
    if one.op in ("mul", "mad"):
        return _product(one, kernel)
    read = [reader(x, one.type, kernel) for x in one.operands[1:]]
    write = writer(one.operands[0], one.type, kernel)
    function = {
        "add": np.add,
        "sub": np.subtract,
        "min": np.minimum,
        "max": np.maximum,
        "abs": np.abs,
        "neg": np.negative,
        "div": lambda a, b: divide(a, b, one.text)[0],
        "rem": lambda a, b: divide(a, b, one.text)[1],
    }[one.op]
    return lambda machine, active: write(machine, active.sel, function(*(r(machine, active.sel) for r in read)))


def divide(a: Array, b: Array, text: str) -> tuple[Array, Array]:
    """Quotient, rounded to zero, and remainder, of the sign of a."""
    if (b == 0).any():
        raise PtxError(f"integer division by zero: {text}")
    if a.dtype.kind == "u":
        return a // b, a % b
    size = a.dtype.itemsize
    magnitude = [np.where(x < 0, np.negative(x), x).view(UNSIGNED[size]) for x in (a, b)]
    quotient = (magnitude[0] // magnitude[1]).view(SIGNED[size])
    quotient = np.where((a < 0) != (b < 0), np.negative(quotient), quotient)
    return quotient, a - quotient * b


def high_product(a: Array, b: Array) -> Array:
    """The upper half of the product, in the inputs' dtype."""
    size, kind = a.dtype.itemsize, a.dtype.kind
    if size < 8:
        wide = (SIGNED if kind == "i" else UNSIGNED)[2 * size]
        return (a.astype(wide) * b.astype(wide) >> wide.type(8 * size)).astype(a.dtype)
    x, y, low, s = a.view(np.uint64), b.view(np.uint64), np.uint64(0xFFFFFFFF), np.uint64(32)
    (xl, xh), (yl, yh) = (x & low, x >> s), (y & low, y >> s)
    middle = xh * yl + (xl * yl >> s)
    other = xl * yh + (middle & low)
    high = xh * yh + (middle >> s) + (other >> s)
    if kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)


def _product(one: Instruction, kernel: Kernel) -> Run:
    size, part = size_of(one.type), one.pick(("lo", "hi", "wide"))
    out = one.type if part != "wide" else f"{one.type[0]}{16 * size}"
    wide = (SIGNED if one.type[0] == "s" else UNSIGNED)[size_of(out)]
    a, b = (reader(x, one.type, kernel) for x in one.operands[1:3])
    add = reader(one.operands[3], out, kernel) if one.op == "mad" else None
    write = writer(one.operands[0], out, kernel)
    multiply = {"lo": np.multiply, "hi": high_product, "wide": lambda x, y: x.astype(wide) * y.astype(wide)}[part]

    def run(machine, active):
        sel = active.sel
        value = multiply(*np.broadcast_arrays(a(machine, sel), b(machine, sel)))
        write(machine, sel, value if add is None else value + add(machine, sel))

    return run


COMPARE = {
    **{
        "eq": np.equal,
        "ne": np.not_equal,
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
    },
    **{"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal},
}


def compare(how: str, a: Array, b: Array) -> Array:
    """setp's comparisons: unordered numbers are true with u, else false; num and nan ask for that alone."""
    if a.dtype.kind != "f":
        return COMPARE[how](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    if how in ("num", "nan"):
        return unordered if how == "nan" else ~unordered
    if how[-1] == "u" and how[:-1] in COMPARE:
        return unordered | COMPARE[how[:-1]](a, b)
    return ~unordered & COMPARE[how](a, b)


@opcode("setp")
def _setp(one: Instruction, kernel: Kernel) -> Run:
    how = one.words[1]
    known = how in COMPARE or (is_float(one.type) and (how in ("num", "nan") or how[:-1] in COMPARE))
    if not known or one.type in ("f16x2", "bf16x2"):
        raise one.unsupported()
    combine = one.pick(("and", "or", "xor"), "")
    a, b = (reader(x, one.type, kernel) for x in one.operands[1:3])
    extra = reader(one.operands[3], "pred", kernel) if combine else None
    names = [x.strip() for x in one.operands[0].split("|")]
    write = [writer(name, "pred", kernel) for name in names]
    flush = floating.flusher(one)

    def join(x: Array, c: Array) -> Array:
        return {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[combine](x, c)

    def run(machine, active):
        sel = active.sel
        holds = compare(how, flush(a(machine, sel)), flush(b(machine, sel)))
        also = None if extra is None else extra(machine, sel).copy()
        write[0](machine, sel, holds if also is None else join(holds, also))
        if len(write) > 1:
            write[1](machine, sel, ~holds if also is None else join(~holds, also))

    return run
