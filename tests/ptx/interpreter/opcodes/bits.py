"""Bits: and, or, xor, not, shifts, bfi, bfe, lop3, shf, prmt, popc, clz, brev, bfind."""

from __future__ import annotations

import numpy as np

from ..formats import SIGNED, UNSIGNED, Array, size_of
from ..operands import reader, writer
from ..parse import Instruction, Kernel
from .table import Run, opcode


def _simple(one: Instruction, kernel: Kernel, function, types: tuple[str, ...], out: str) -> Run:
    """A function of all operands but the first."""
    read = [reader(x, t, kernel) for x, t in zip(one.operands[1:], types, strict=True)]
    write = writer(one.operands[0], out, kernel)
    return lambda machine, active: write(machine, active.sel, function(*(r(machine, active.sel) for r in read)))


@opcode("and", "or", "xor")
def _logic(one: Instruction, kernel: Kernel) -> Run:
    function = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[one.op]
    return _simple(one, kernel, function, (one.type, one.type), one.type)


@opcode("not")
def _not(one: Instruction, kernel: Kernel) -> Run:
    return _simple(one, kernel, np.invert, (one.type,), one.type)


@opcode("shl", "shr")
def _shift(one: Instruction, kernel: Kernel) -> Run:
    """Shifting by the width or more gives zero, or the sign of a signed number."""
    width = 8 * size_of(one.type)

    def function(a: Array, by: Array) -> Array:
        far = by >= width
        by = np.where(far, width - 1, by).astype(a.dtype)
        if one.op == "shr" and a.dtype.kind == "i":
            return a >> by
        return np.where(far, a.dtype.type(0), a << by if one.op == "shl" else a >> by)

    return _simple(one, kernel, function, (one.type, "u32"), one.type)


def _ones(count: Array, dtype: np.dtype) -> Array:
    """The lowest `count` bits of 64 or fewer."""
    width = np.uint64(64)
    count = np.minimum(count.astype(np.uint64), width)
    return np.where(count == 0, np.uint64(0), ~np.uint64(0) >> (width - np.maximum(count, np.uint64(1)))).astype(dtype)


def _lift(a: Array, by: Array) -> Array:
    """a << by, zero for 64 and more."""
    return np.where(by >= 64, np.uint64(0), a.astype(np.uint64) << np.minimum(by, 63).astype(np.uint64))


@opcode("bfi")
def _bfi(one: Instruction, kernel: Kernel) -> Run:
    """The lowest `length` bits of a in the place of those of b from `position` on."""

    def function(a: Array, b: Array, position: Array, length: Array) -> Array:
        position, length = position & 255, length & 255
        mask = _lift(_ones(length, np.dtype("u8")), position)
        return ((b.astype(np.uint64) & ~mask) | (_lift(a, position) & mask)).astype(b.dtype)

    return _simple(one, kernel, function, (one.type, one.type, "u32", "u32"), one.type)


@opcode("bfe")
def _bfe(one: Instruction, kernel: Kernel) -> Run:
    """`length` bits of a from `position` on; beyond the top a signed number goes on with its sign."""
    width, signed = 8 * size_of(one.type), one.type[0] == "s"

    def function(a: Array, position: Array, length: Array) -> Array:
        position, length = (position & 255).astype(np.int64), (length & 255).astype(np.int64)
        wide = a.astype(np.int64 if signed else np.uint64)
        moved = wide >> np.minimum(position, 63).astype(wide.dtype)
        if not signed:
            moved = np.where(position >= width, np.uint64(0), moved)
        field = moved.view(np.uint64) & _ones(length, np.dtype("u8"))
        if signed:  # the field's own top bit, which is a's sign where the field runs over the top
            top = np.minimum(position + length - 1, width - 1)
            negative = (wide >> np.clip(top, 0, 63)) & 1 == 1
            field = np.where(negative & (length > 0), field | ~_ones(length, np.dtype("u8")), field)
        return field.astype(UNSIGNED[width // 8]).view(SIGNED[width // 8] if signed else UNSIGNED[width // 8])

    return _simple(one, kernel, function, (one.type, "u32", "u32"), one.type)


@opcode("lop3")
def _lop3(one: Instruction, kernel: Kernel) -> Run:
    """Any function of three bits: bit 4a + 2b + c of the table is its value."""
    table = int(one.operands[4], 0)
    if one.type != "b32" or one.has("or", "and"):
        raise one.unsupported()
    read = [reader(x, "b32", kernel) for x in one.operands[1:4]]
    write = writer(one.operands[0], "b32", kernel)

    def run(machine, active):
        a, b, c = (r(machine, active.sel) for r in read)
        value = np.zeros(1, np.uint32)
        for k in range(8):
            if table >> k & 1:
                value = value | ((a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c))
        write(machine, active.sel, value)

    return run


@opcode("shf")
def _shf(one: Instruction, kernel: Kernel) -> Run:
    """The 64 bits of b above a, shifted: left gives the upper half, right the lower."""
    left, clamp = one.pick(("l", "r")) == "l", one.pick(("clamp", "wrap")) == "clamp"

    def function(a: Array, b: Array, by: Array) -> Array:
        both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
        by = (np.minimum(by, 32) if clamp else by & 31).astype(np.uint64)
        return ((both << by) >> np.uint64(32) if left else both >> by).astype(np.uint32)

    return _simple(one, kernel, function, ("b32", "b32", "u32"), "b32")


@opcode("prmt")
def _prmt(one: Instruction, kernel: Kernel) -> Run:
    """Four of the eight bytes of a and b, chosen by four bits each; with the fourth set a byte full of its sign."""
    if len(one.words) != 2:
        raise one.unsupported()

    def function(a: Array, b: Array, chosen: Array) -> Array:
        both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
        out = np.zeros(1, np.uint64)
        for k in range(4):
            nibble = (chosen.astype(np.uint64) >> np.uint64(4 * k)) & np.uint64(15)
            byte = (both >> ((nibble & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
            sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
            out = out | (np.where(nibble & np.uint64(8), sign, byte) << np.uint64(8 * k))
        return out.astype(np.uint32)

    return _simple(one, kernel, function, ("b32", "b32", "b32"), "b32")


def _smear(x: Array) -> Array:
    """All bits below the highest one set, too."""
    for by in (1, 2, 4, 8, 16, 32)[: 5 if x.dtype.itemsize == 4 else 6]:
        x = x | (x >> x.dtype.type(by))
    return x


@opcode("popc")
def _popc(one: Instruction, kernel: Kernel) -> Run:
    return _simple(one, kernel, lambda x: np.bitwise_count(x).astype(np.uint32), (one.type,), "u32")


@opcode("clz")
def _clz(one: Instruction, kernel: Kernel) -> Run:
    return _simple(one, kernel, lambda x: np.bitwise_count(~_smear(x)).astype(np.uint32), (one.type,), "u32")


@opcode("brev")
def _brev(one: Instruction, kernel: Kernel) -> Run:
    size = size_of(one.type)

    def function(x: Array) -> Array:
        bits = np.unpackbits(np.ascontiguousarray(x).view(np.uint8).reshape(-1, size), axis=1, bitorder="little")
        return np.packbits(bits[:, ::-1], axis=1, bitorder="little").reshape(-1).view(UNSIGNED[size])

    return _simple(one, kernel, function, (one.type,), one.type)


@opcode("bfind")
def _bfind(one: Instruction, kernel: Kernel) -> Run:
    """Place of the highest bit unlike the sign, 0xffffffff if there is none; .shiftamt: its distance from the top."""
    size = size_of(one.type)

    def function(x: Array) -> Array:
        bits = np.where(x < 0, ~x, x).view(UNSIGNED[size]) if x.dtype.kind == "i" else x
        place = np.bitwise_count(_smear(bits)).astype(np.int64) - 1
        if one.has("shiftamt"):
            place = np.where(place < 0, -1, 8 * size - 1 - place)
        return place.astype(np.uint32)

    return _simple(one, kernel, function, (one.type,), "u32")
