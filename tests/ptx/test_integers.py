"""Integer instructions against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest

from .interpreter import PtxError
from .snippets import bits, run

TYPES = {"u16": "u2", "s16": "i2", "u32": "u4", "s32": "i4", "u64": "u8", "s64": "i8"}
EDGES = [0, 1, 2, 3, -1, -2, -7, 5, 100]


def numbers(type_, seed):
    """Edges in all pairs' order, extremes and random bits."""
    dtype = np.dtype(TYPES[type_])
    info = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    values = [*EDGES, info.min, info.max, info.min + 1, info.max - 1]
    values += [int(x) for x in rng.integers(info.min, info.max, 51, dtype, endpoint=True)]
    return rng.permutation(bits(values, dtype))


def divide(a, b):
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize(
    ("op", "definition"),
    [
        ("add", lambda a, b: a + b),
        ("sub", lambda a, b: a - b),
        ("mul.lo", lambda a, b: a * b),
        ("min", min),
        ("max", max),
    ],
)
def test_two_operands(op, definition, type_):
    a, b = numbers(type_, 1), numbers(type_, 2)
    got = run(f"{op}.{type_} %o, %a, %b;", a, b, out=TYPES[type_])
    want = bits([definition(int(x), int(y)) for x, y in zip(a, b, strict=True)], TYPES[type_])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("type_", TYPES)
def test_mul_hi(type_):
    a, b = numbers(type_, 3), numbers(type_, 4)
    width = 8 * a.dtype.itemsize
    got = run(f"mul.hi.{type_} %o, %a, %b;", a, b, out=TYPES[type_])
    want = [int(x) * int(y) >> width for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(got, bits(want, TYPES[type_]))


@pytest.mark.parametrize(("type_", "wide"), [("u16", "u32"), ("s16", "s32"), ("u32", "u64"), ("s32", "s64")])
def test_wide_products(type_, wide):
    a, b, c = numbers(type_, 5), numbers(type_, 6), numbers(wide, 7)
    got = run(f"mul.wide.{type_} %o, %a, %b;", a, b, out=TYPES[wide])
    np.testing.assert_array_equal(got, bits([int(x) * int(y) for x, y in zip(a, b, strict=True)], TYPES[wide]))
    got = run(f"mad.wide.{type_} %o, %a, %b, %c;", a, b, c, out=TYPES[wide])
    want = [int(x) * int(y) + int(z) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(got, bits(want, TYPES[wide]))


@pytest.mark.parametrize("type_", ["s32", "u32", "s64", "u16"])
@pytest.mark.parametrize("part", ["lo", "hi"])
def test_mad(part, type_):
    a, b, c = (numbers(type_, seed) for seed in (8, 9, 10))
    shift = 8 * a.dtype.itemsize if part == "hi" else 0
    got = run(f"mad.{part}.{type_} %o, %a, %b, %c;", a, b, c, out=TYPES[type_])
    want = [(int(x) * int(y) >> shift) + int(z) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(got, bits(want, TYPES[type_]))


@pytest.mark.parametrize("type_", TYPES)
def test_division_rounds_to_zero(type_):
    a, b = numbers(type_, 11), numbers(type_, 12)
    a, b = a[b != 0], b[b != 0]
    quotient = run(f"div.{type_} %o, %a, %b;", a, b, out=TYPES[type_])
    remainder = run(f"rem.{type_} %o, %a, %b;", a, b, out=TYPES[type_])
    pairs = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(quotient, bits([divide(x, y) for x, y in pairs], TYPES[type_]))
    np.testing.assert_array_equal(remainder, bits([x - divide(x, y) * y for x, y in pairs], TYPES[type_]))


def test_division_by_zero_raises():
    with pytest.raises(PtxError, match="division by zero"):
        run("div.u32 %o, %a, 0;", np.ones(3, "u4"), out="u4")


@pytest.mark.parametrize("type_", ["s16", "s32", "s64"])
def test_abs_and_neg(type_):
    a = numbers(type_, 13)
    np.testing.assert_array_equal(
        run(f"neg.{type_} %o, %a;", a, out=TYPES[type_]), bits([-int(x) for x in a], TYPES[type_])
    )
    np.testing.assert_array_equal(
        run(f"abs.{type_} %o, %a;", a, out=TYPES[type_]), bits([abs(int(x)) for x in a], TYPES[type_])
    )


COMPARISONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("how", COMPARISONS)
def test_setp(how, type_):
    a, b = numbers(type_, 14), numbers(type_, 15)
    b[::4] = a[::4]
    got = run(f"setp.{how}.{type_} %p1, %a, %b; selp.b32 %o, 1, 0, %p1;", a, b, out="u4")
    want = [COMPARISONS[how](int(x), int(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(got, np.array(want, "u4"))


@pytest.mark.parametrize(("how", "like"), [("lo", "lt"), ("ls", "le"), ("hi", "gt"), ("hs", "ge")])
def test_setp_of_unsigned_words(how, like):
    a, b = numbers("u32", 16), numbers("u32", 17)
    got = run(f"setp.{how}.u32 %p1, %a, %b; selp.u32 %o, 1, 0, %p1;", a, b, out="u4")
    want = [COMPARISONS[like](int(x), int(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(got, np.array(want, "u4"))


@pytest.mark.parametrize(
    ("word", "join"), [("and", lambda x, y: x & y), ("or", lambda x, y: x | y), ("xor", lambda x, y: x ^ y)]
)
@pytest.mark.parametrize("negation", ["", "!"])
def test_setp_joins_a_predicate_and_gives_the_opposite_too(word, join, negation):
    a, b, c = (np.random.default_rng(seed).integers(0, 3, 64).astype("i4") for seed in (1, 2, 3))
    body = f"""
    setp.ne.s32 %p3, %c, 0;
    setp.lt.{word}.s32 %p1|%p2, %a, %b, {negation}%p3;
    selp.b32 %r1, 1, 0, %p1;
    selp.b32 %r2, 2, 0, %p2;
    or.b32 %o, %r1, %r2;"""
    got = run(body, a, b, c, out="u4")
    third = (c != 0) ^ bool(negation)
    want = join(a < b, third).astype("u4") + 2 * join(~(a < b), third).astype("u4")
    np.testing.assert_array_equal(got, want)


def test_carries_are_refused():
    with pytest.raises(PtxError, match="not supported"):
        run("add.cc.u32 %o, %a, %a;", np.ones(2, "u4"), out="u4")
