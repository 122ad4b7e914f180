"""cvt against fractions rounded by the definition."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from .exact import nearest, to_bits
from .interpreter import PtxError
from .numbers import SIZE, finite, same, special, values
from .snippets import bits, run

INTEGERS = {"u8": "u1", "s8": "i1", "u16": "u2", "s16": "i2", "u32": "u4", "s32": "i4", "u64": "u8", "s64": "i8"}


def integers(type_, seed=0):
    info = np.iinfo(INTEGERS[type_])
    rng = np.random.default_rng(seed)
    some = [int(x) for x in rng.integers(info.min, info.max, 40, INTEGERS[type_], endpoint=True)]
    shifts = rng.integers(0, 8 * np.dtype(INTEGERS[type_]).itemsize, 40)
    small = [x >> int(s) for x, s in zip(some, shifts, strict=True)]
    return bits([0, 1, -1, 2, 127, 128, 255, info.min, info.max, *some, *small], INTEGERS[type_])


def register(dtype):
    """The type in a register: bytes are held in 16 bits."""
    return "u2" if np.dtype(dtype).itemsize == 1 else dtype


@pytest.mark.parametrize(("to", "from_"), [(t, f) for t in INTEGERS for f in INTEGERS if t != f and "8" not in t])
def test_between_integers(from_, to):
    a = integers(from_)
    got = run(f"cvt.{to}.{from_} %o, %a;", a, out=INTEGERS[to])
    np.testing.assert_array_equal(got, bits([int(x) for x in a], INTEGERS[to]))


@pytest.mark.parametrize(("to", "from_"), [("s8", "s32"), ("u8", "s32"), ("u8", "u32"), ("s16", "s64"), ("u32", "s32")])
def test_saturating(to, from_):
    a = integers(from_)
    info = np.iinfo(INTEGERS[to])
    want = [min(max(int(x), info.min), info.max) for x in a]
    wide = register(INTEGERS[to]) if to != "s8" else "i2"
    np.testing.assert_array_equal(run(f"cvt.sat.{to}.{from_} %o, %a;", a, out=wide), bits(want, wide))


@pytest.mark.parametrize("to", ["f16", "f32", "f64"])
@pytest.mark.parametrize("from_", ["s8", "u16", "s32", "u32", "s64", "u64"])
def test_integers_to_floats(from_, to):
    a = integers(from_)
    if to == "f16":
        a = a[np.abs(a.astype("f8")) < 2.0**53]
    got = run(f"cvt.rn.{to}.{from_} %o, %a;", a, out=f"u{SIZE[to]}")
    same(got, [nearest(Fraction(int(x)), to) for x in a], to)


ROUND = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


@pytest.mark.parametrize("to", ["s32", "u32", "s64", "u64", "s16", "u8"])
@pytest.mark.parametrize("from_", ["f16", "f32", "f64", "bf16"])
@pytest.mark.parametrize("mode", ROUND)
def test_floats_to_integers_take_the_nearest_there_is(mode, from_, to):
    big = [to_bits(v, from_) for v in (200.0, -200.0, 2.0**15, -(2.0**14))]
    if from_ != "f16":
        big += [to_bits(s * 2.0**e, from_) for e in (31, 32, 62, 63, 64, 100) for s in (1, -1)]
    a = np.concatenate([finite(from_, 1), special(from_), np.array(big, f"u{SIZE[from_]}")])
    info = np.iinfo(INTEGERS[to])
    want = []
    for x in values(a, from_):
        if math.isnan(x):
            want.append(0)
        elif math.isinf(x):
            want.append(info.max if x > 0 else info.min)
        else:
            want.append(min(max(ROUND[mode](Fraction(x)), info.min), info.max))
    wide = register(INTEGERS[to])
    np.testing.assert_array_equal(run(f"cvt.{mode}.{to}.{from_} %o, %a;", a, out=wide), bits(want, wide))


@pytest.mark.parametrize(
    ("to", "from_"),
    [("f32", "f16"), ("f64", "f32"), ("f64", "f16"), ("f32", "bf16"), ("f64", "bf16")],
)
def test_to_a_wider_float_is_exact(to, from_):
    a = np.concatenate([finite(from_, 2), special(from_)])
    same(run(f"cvt.{to}.{from_} %o, %a;", a, out=f"u{SIZE[to]}"), values(a, from_), to)


@pytest.mark.parametrize(
    ("to", "from_"),
    [("f32", "f64"), ("f16", "f32"), ("f16", "f64"), ("bf16", "f32"), ("bf16", "f64"), ("bf16", "f16")],
)
def test_to_a_narrower_float_rounds_once(to, from_):
    a = np.concatenate([finite(from_, 3, 300, 20), special(from_)])
    halfway = [
        to_bits(nearest(Fraction(v), from_), from_)
        for v in (1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-9, 1 + 2.0**-8 + 2.0**-40)
    ]
    a = np.concatenate([a, np.array(halfway, a.dtype)])
    want = [nearest(Fraction(x), to) if math.isfinite(x) else x for x in values(a, from_)]
    want = [math.copysign(w, x) for w, x in zip(want, values(a, from_), strict=True)]
    same(run(f"cvt.rn.{to}.{from_} %o, %a;", a, out=f"u{SIZE[to]}"), want, to)


@pytest.mark.parametrize("mode", ["rz", "rm", "rp"])
@pytest.mark.parametrize(("to", "from_"), [("f32", "f64"), ("f16", "f32")])
def test_directed_roundings(to, from_, mode):
    a = finite(from_, 4, 200, 10)
    a = np.array([p for p, x in zip(a, values(a, from_), strict=True) if abs(x) < 1e4], a.dtype)
    want = [math.copysign(nearest(Fraction(x), to, mode), x) for x in values(a, from_)]
    same(run(f"cvt.{mode}.{to}.{from_} %o, %a;", a, out=f"u{SIZE[to]}"), want, to)


@pytest.mark.parametrize("mode", ROUND)
def test_to_whole_floats(mode):
    a = finite("f32", 5)
    want = [math.copysign(float(ROUND[mode](Fraction(x))), x) for x in values(a, "f32")]
    same(run(f"cvt.{mode}.f32.f32 %o, %a;", a, out="u4"), want, "f32")


def test_sat_of_floats():
    x = np.array([-2, 0.25, 3, np.nan], "f4")
    np.testing.assert_array_equal(run("cvt.sat.f32.f32 %o, %a;", x, out="f4"), np.array([0, 0.25, 1, 0], "f4"))


@pytest.mark.parametrize("type_", ["f16", "bf16"])
def test_packing_puts_the_first_above(type_):
    a, b = finite("f32", 6), finite("f32", 7)
    got = run(f"cvt.rn.{type_}x2.f32 %o, %a, %b;", a, b, out="u4")
    for part, x in ((got >> 16, a), (got & 0xFFFF, b)):
        want = [math.copysign(nearest(Fraction(v), type_), v) for v in values(x, "f32")]
        same(part, want, type_)


@pytest.mark.parametrize("text", ["cvt.rna.tf32.f32 %o, %a;", "cvt.rn.relu.f16.f32 %h1, %a;"])
def test_what_is_not_supported_raises(text):
    with pytest.raises(PtxError, match="not supported"):
        run(text, np.ones(2, "f4"), out="f4")
