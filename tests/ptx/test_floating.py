"""float32, float64, float16 and bfloat16 arithmetic against fractions rounded by the definition."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from .exact import from_bits, nearest, to_bits
from .interpreter import PtxError
from .numbers import SIZE, finite, pairs, same, special, values
from .snippets import run

FORMATS = ("f32", "f64", "f16", "bf16")
ARITHMETIC = {"add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y}


def signed_zero(op, x, y):
    """What x op y is, where the exact result is 0."""
    if op == "mul":
        return math.copysign(1, x) * math.copysign(1, y) * 0.0
    y = -y if op == "sub" else y
    return -0.0 if math.copysign(1, x) == math.copysign(1, y) == -1 else 0.0


@pytest.mark.parametrize("type_", FORMATS)
@pytest.mark.parametrize("op", ARITHMETIC)
def test_arithmetic_rounds_once(op, type_):
    a, b = finite(type_, 1), finite(type_, 2)
    got = run(f"{op}.{type_} %o, %a, %b;", a, b, out=a.dtype)
    want = []
    for x, y in zip(values(a, type_), values(b, type_), strict=True):
        exact = ARITHMETIC[op](Fraction(x), Fraction(y))
        want.append(nearest(exact, type_) if exact else signed_zero(op, x, y))
    same(got, want, type_)


@pytest.mark.parametrize("type_", FORMATS)
def test_arithmetic_of_infinities_and_nan(type_):
    a, b = pairs(special(type_)[:7])  # not the largest, whose sums round
    x, y = (np.array(values(v, type_)) for v in (a, b))
    with np.errstate(all="ignore"):
        for op, function in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply)):
            same(run(f"{op}.{type_} %o, %a, %b;", a, b, out=a.dtype), list(function(x, y)), type_)


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_division(type_):
    a, b = finite(type_, 3), finite(type_, 4)
    keep = np.array([v != 0 for v in values(a, type_)]) & np.array([v != 0 for v in values(b, type_)])
    a, b = a[keep], b[keep]
    want = [nearest(Fraction(x) / Fraction(y), type_) for x, y in zip(values(a, type_), values(b, type_), strict=True)]
    same(run(f"div.rn.{type_} %o, %a, %b;", a, b, out=a.dtype), want, type_)


@pytest.mark.parametrize("type_", FORMATS)
def test_fma_rounds_once(type_):
    """Sums that cancel, too: there two roundings show."""
    a, b = finite(type_, 5, 400), finite(type_, 6, 400)
    x, y = values(a, type_), values(b, type_)
    product = [nearest(Fraction(u) * Fraction(v), type_) for u, v in zip(x, y, strict=True)]
    usable = np.array([math.isfinite(p) and (p == 0 or abs(p) > 1e-30) for p in product])
    a, b = a[usable], b[usable]
    near = np.array([to_bits(-p, type_) for p, u in zip(product, usable, strict=True) if u], a.dtype)
    c = np.where(np.arange(len(a)) % 2 == 0, near, finite(type_, 7, 400)[: len(a)])
    got = run(f"fma.rn.{type_} %o, %a, %b, %c;", a, b, c, out=a.dtype)
    for k, (u, v, w) in enumerate(zip(values(a, type_), values(b, type_), values(c, type_), strict=True)):
        exact = Fraction(u) * Fraction(v) + Fraction(w)
        have = from_bits(int(got[k]), type_)
        assert have == nearest(exact, type_), (u, v, w)


def test_fma_of_float64_is_not_two_roundings():
    """(1 + e)(1 - e) - 1 = -e^2, which a product rounded on its own loses."""
    e = 2.0**-30
    a, b, c = (np.array([v]).view("u8") for v in (1 + e, 1 - e, -1.0))
    assert run("fma.rn.f64 %o, %a, %b, %c;", a, b, c, out="f8")[0] == -(e**2)


def test_fma_of_float64_just_below_a_tie():
    """What decides is 2^-104 of the product: the sum of errors must not be rounded to the tie."""
    a, b, c = (np.array([v]) for v in (1 + 2.0**-52, (1 - 2.0**-52) * 2.0**-43, 1024 + 2.0**-42))
    exact = Fraction(a[0]) * Fraction(b[0]) + Fraction(c[0])
    assert run("fma.rn.f64 %o, %a, %b, %c;", a, b, c, out="f8")[0] == nearest(exact, "f64") == c[0]


@pytest.mark.parametrize("type_", FORMATS)
@pytest.mark.parametrize("nan", ["", ".NaN"])
def test_min_and_max(type_, nan):
    a, b = pairs(special(type_))
    for op in ("min", "max"):
        want = []
        for x, y in zip(values(a, type_), values(b, type_), strict=True):
            if math.isnan(x) or math.isnan(y):
                want.append(math.nan if nan or (math.isnan(x) and math.isnan(y)) else y if math.isnan(x) else x)
            else:  # -0 < +0
                first, second = sorted([x, y], key=lambda v: (v, math.copysign(1, v)))
                want.append(first if op == "min" else second)
        same(run(f"{op}{nan}.{type_} %o, %a, %b;", a, b, out=a.dtype), want, type_)


@pytest.mark.parametrize("type_", FORMATS)
def test_signs(type_):
    a = np.concatenate([finite(type_, 8), special(type_)])
    same(run(f"neg.{type_} %o, %a;", a, out=a.dtype), [-v for v in values(a, type_)], type_)
    same(run(f"abs.{type_} %o, %a;", a, out=a.dtype), [abs(v) for v in values(a, type_)], type_)


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_copysign_takes_the_sign_of_the_first(type_):
    a, b = pairs(special(type_))
    want = [math.copysign(y, x) for x, y in zip(values(a, type_), values(b, type_), strict=True)]
    same(run(f"copysign.{type_} %o, %a, %b;", a, b, out=a.dtype), want, type_)


@pytest.mark.parametrize("type_", ["f16x2", "bf16x2"])
@pytest.mark.parametrize("op", ["add", "mul", "fma", "max", "neg"])
def test_two_halves_are_as_each_alone(type_, op):
    half = type_[:-2]
    low, high = ([finite(half, seed)[:96] for seed in seeds] for seeds in ((1, 2, 3), (4, 5, 6)))
    count = {"neg": 1, "fma": 3}.get(op, 2)
    operands = ", ".join("%" + name for name in "abc"[:count])
    dot = ".rn" if op == "fma" else ""
    both = [x.astype("u4") | y.astype("u4") << 16 for x, y in zip(low, high, strict=True)][:count]
    got = run(f"{op}{dot}.{type_} %o, {operands};", *both, out="u4")
    for part, inputs in ((got & 0xFFFF, low), (got >> 16, high)):
        alone = run(f"{op}{dot}.{half} %o, {operands};", *inputs[:count], out="u2")
        np.testing.assert_array_equal(part, alone)


FUNCTIONS = {
    "rcp.approx.ftz.f32": (lambda x: 1 / x, (0.1, 100)),
    "rcp.rn.f32": (lambda x: 1 / x, (-100, -0.1)),
    "rsqrt.approx.f32": (lambda x: 1 / mpmath.sqrt(x), (0.01, 100)),
    "sqrt.approx.f32": (mpmath.sqrt, (0, 100)),
    "ex2.approx.ftz.f32": (lambda x: mpmath.mpf(2) ** x, (-20, 20)),
    "lg2.approx.f32": (lambda x: mpmath.log(x, 2), (0.01, 100)),
    "sin.approx.f32": (mpmath.sin, (-3, 3)),
    "cos.approx.f32": (mpmath.cos, (-3, 3)),
    "tanh.approx.f32": (mpmath.tanh, (-3, 3)),
    "rcp.approx.ftz.f64": (lambda x: 1 / x, (0.1, 100)),
    "rsqrt.approx.f64": (lambda x: 1 / mpmath.sqrt(x), (0.01, 100)),
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(op):
    function, (low, high) = FUNCTIONS[op]
    dtype = np.dtype("f4" if op.endswith("32") else "f8")
    x = np.random.default_rng(9).uniform(low, high, 64).astype(dtype)
    want = np.array([float(function(mpmath.mpf(float(v)))) for v in x])
    got = run(f"{op} %o, %a;", x, out=dtype)
    np.testing.assert_allclose(got, want, rtol=2e-7 if dtype == "f4" else 1e-15, atol=1e-7 if dtype == "f4" else 0)


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_sqrt_rounds_once(type_):
    a = np.array([p for p in finite(type_, 10) if from_bits(int(p), type_) > 0])
    got = values(run(f"sqrt.rn.{type_} %o, %a;", a, out=a.dtype), type_)
    for x, root in zip(values(a, type_), got, strict=True):  # half a unit more or less is beyond the root, on each side
        unit = Fraction(abs(float(np.spacing(np.dtype(f"f{SIZE[type_]}").type(root)))))
        assert (Fraction(root) - unit / 2) ** 2 <= Fraction(x) <= (Fraction(root) + unit / 2) ** 2


def test_ftz_and_sat():
    tiny = np.array([1e-39, -1e-39, 1e-37, 0.25], "f4")
    got = run("add.ftz.f32 %o, %a, 0f00000000;", tiny, out="f4")
    np.testing.assert_array_equal(got, np.array([0, 0, 1e-37, 0.25], "f4"))
    np.testing.assert_array_equal(np.signbit(run("mul.ftz.f32 %o, %a, 0f3F800000;", tiny, out="f4")), tiny < 0)
    x = np.array([-2, 0.5, 7, np.nan, np.inf], "f4")
    np.testing.assert_array_equal(
        run("add.sat.f32 %o, %a, 0f00000000;", x, out="f4"), np.array([0, 0.5, 1, 0, 1], "f4")
    )


@pytest.mark.parametrize("type_", ["f32", "f64"])
def test_testp(type_):
    a = special(type_)
    x = np.array(values(a, type_))
    lowest = 2.0 ** (-126 if type_ == "f32" else -1022)
    normal = np.isfinite(x) & (abs(x) >= lowest)
    for word, want in {
        "finite": np.isfinite(x),
        "infinite": np.isinf(x),
        "number": ~np.isnan(x),
        "notanumber": np.isnan(x),
        "normal": normal,
        "subnormal": np.isfinite(x) & (x != 0) & ~normal,
    }.items():
        got = run(f"testp.{word}.{type_} %p1, %a; selp.u32 %o, 1, 0, %p1;", a, out="u4")
        np.testing.assert_array_equal(got != 0, want, err_msg=word)


@pytest.mark.parametrize("type_", FORMATS)
@pytest.mark.parametrize("how", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons_with_nan(type_, how):
    a, b = pairs(special(type_))
    plain = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[how]
    for unordered in (False, True):
        want = []
        for x, y in zip(values(a, type_), values(b, type_), strict=True):
            apart = math.isnan(x) or math.isnan(y)
            want.append(unordered if apart else eval(f"x {plain} y", {"x": x, "y": y}))
        word = how + ("u" if unordered else "")
        got = run(f"setp.{word}.{type_} %p1, %a, %b; selp.b32 %o, 1, 0, %p1;", a, b, out="u4")
        np.testing.assert_array_equal(got != 0, np.array(want), err_msg=word)


def test_num_and_nan():
    a, b = pairs(special("f64"))
    nan = np.isnan(values(a, "f64")) | np.isnan(values(b, "f64"))
    got = run("setp.num.f64 %p1, %a, %b; selp.b32 %o, 1, 0, %p1;", a, b, out="u4")
    np.testing.assert_array_equal(got != 0, ~nan)
    got = run("setp.nan.f64 %p1, %a, %b; selp.b32 %o, 1, 0, %p1;", a, b, out="u4")
    np.testing.assert_array_equal(got != 0, nan)


def test_selp_moves_bits():
    a, b, c = np.array([1, 2], "u8"), np.array([3, 4], "u8"), np.array([0, 1], "u4")
    got = run("setp.ne.u32 %p1, %c, 0; selp.f64 %o, %a, %b, %p1;", a, b, c, out="u8")
    np.testing.assert_array_equal(got, [3, 2])


@pytest.mark.parametrize("text", ["add.rz.f32 %o, %a, %a;", "add.rm.f64 %w1, %w1, %w1;", "sqrt.rp.f32 %o, %a;"])
def test_other_roundings_are_refused(text):
    with pytest.raises(PtxError, match="not supported"):
        run(text, np.ones(2, "f4"), out="f4")
