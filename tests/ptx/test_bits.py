"""Bit instructions against loops over bits, as the PTX manual defines them."""

from __future__ import annotations

import numpy as np
import pytest

from .interpreter import PtxError
from .snippets import bits, run

RNG = np.random.default_rng(0)


def words(size, seed, n=64):
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 1 << (8 * size), n, f"u{size}") if size < 8 else rng.integers(0, 2**64, n, np.uint64)
    top = 1 << (8 * size - 1)
    out[:6] = bits([0, 1, -1, top, top - 1, 2 * top - 2], f"u{size}")
    return out


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize(
    ("op", "definition"),
    [("and", lambda a, b: a & b), ("or", lambda a, b: a | b), ("xor", lambda a, b: a ^ b), ("not", lambda a, b: ~a)],
)
def test_logic(op, definition, size):
    a, b = words(size, 1), words(size, 2)[::-1]
    operands = "%a" if op == "not" else "%a, %b"
    got = run(f"{op}.b{8 * size} %o, {operands};", a, b, out=a.dtype)
    np.testing.assert_array_equal(got, bits([definition(int(x), int(y)) for x, y in zip(a, b, strict=True)], a.dtype))


@pytest.mark.parametrize(("op", "table"), [("and", [0, 0, 0, 1]), ("or", [0, 1, 1, 1]), ("xor", [0, 1, 1, 0])])
def test_logic_of_predicates(op, table):
    a, b = np.array([0, 0, 1, 1], "u4"), np.array([0, 1, 0, 1], "u4")
    body = f"""
    setp.ne.u32 %p1, %a, 0; setp.ne.u32 %p2, %b, 0;
    {op}.pred %p3, %p1, %p2; not.pred %p4, %p3; mov.pred %p5, %p4;
    selp.b32 %r1, 1, 0, %p3; selp.b32 %r2, 2, 0, %p5; add.u32 %o, %r1, %r2;"""
    np.testing.assert_array_equal(run(body, a, b, out="u4"), np.array([1 if t else 2 for t in table]))


@pytest.mark.parametrize("type_", ["b16", "b32", "b64"])
def test_shl(type_):
    size = int(type_[1:]) // 8
    a, by = words(size, 3), RNG.integers(0, 80, 64).astype("u4")
    got = run(f"shl.{type_} %o, %a, %b;", a, by, out=a.dtype)
    np.testing.assert_array_equal(got, bits([int(x) << int(s) for x, s in zip(a, by, strict=True)], a.dtype))


@pytest.mark.parametrize("type_", ["u16", "s16", "b32", "u32", "s32", "u64", "s64"])
def test_shr(type_):
    size = int(type_[1:]) // 8
    dtype = f"i{size}" if type_[0] == "s" else f"u{size}"
    a, by = words(size, 4).view(dtype), RNG.integers(0, 80, 64).astype("u4")
    got = run(f"shr.{type_} %o, %a, %b;", a, by, out=dtype)
    np.testing.assert_array_equal(got, bits([int(x) >> int(s) for x, s in zip(a, by, strict=True)], dtype))


@pytest.mark.parametrize("width", [32, 64])
def test_bfi(width):
    size = width // 8
    a, b = words(size, 5), words(size, 6)
    position, length = (np.random.default_rng(s).integers(0, width + 9, 64).astype("u4") for s in (7, 8))
    want = []
    for x, y, at, count in zip(a, b, position, length, strict=True):
        f = int(y)
        for i in range(int(count)):
            if at + i < width:
                f = f & ~(1 << int(at + i)) | ((int(x) >> i & 1) << int(at + i)) if i < width else f
        want.append(f)
    got = run(f"bfi.b{width} %o, %a, %b, %c, %d;", a, b, position, length, out=a.dtype)
    np.testing.assert_array_equal(got, np.array(want, a.dtype))


@pytest.mark.parametrize("type_", ["u32", "s32", "u64", "s64"])
def test_bfe(type_):
    width = int(type_[1:])
    a = words(width // 8, 9, 200)
    position, length = (np.random.default_rng(s).integers(0, width + 9, 200).astype("u4") for s in (10, 11))
    length[::9] = 0
    want = []
    for x, at, count in zip(a, position, length, strict=True):
        x, at, count, msb = int(x), int(at), int(count), width - 1
        sign = 0 if type_[0] == "u" or count == 0 else x >> min(at + count - 1, msb) & 1
        want.append(sum((x >> (at + i) & 1 if i < count and at + i <= msb else sign) << i for i in range(width)))
    got = run(f"bfe.{type_} %o, %a, %b, %c;", a, position, length, out=a.dtype)
    np.testing.assert_array_equal(got, np.array(want, a.dtype))


@pytest.mark.parametrize("table", [0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x1B, 0x00, 0xFF, 0x40, 0x02])
def test_lop3(table):
    a, b, c = words(4, 12), words(4, 13)[::-1], words(4, 14)
    want = []
    for x, y, z in zip(a, b, c, strict=True):
        each = [(int(x) >> i & 1) * 4 + (int(y) >> i & 1) * 2 + (int(z) >> i & 1) for i in range(32)]
        want.append(sum((table >> k & 1) << i for i, k in enumerate(each)))
    np.testing.assert_array_equal(run(f"lop3.b32 %o, %a, %b, %c, {table};", a, b, c, out="u4"), np.array(want, "u4"))


@pytest.mark.parametrize("way", ["l", "r"])
@pytest.mark.parametrize("over", ["wrap", "clamp"])
def test_shf(way, over):
    a, b, by = words(4, 15), words(4, 16), RNG.integers(0, 70, 64).astype("u4")
    want = []
    for x, y, s in zip(a, b, by, strict=True):
        s = int(s) % 32 if over == "wrap" else min(int(s), 32)
        both = int(y) << 32 | int(x)
        want.append((both << s) >> 32 if way == "l" else both >> s)
    got = run(f"shf.{way}.{over}.b32 %o, %a, %b, %c;", a, b, by, out="u4")
    np.testing.assert_array_equal(got, bits(want, "u4"))


def test_prmt():
    a, b, chosen = words(4, 17), words(4, 18), words(4, 19)
    want = []
    for x, y, c in zip(a, b, chosen, strict=True):
        stock = int(x).to_bytes(4, "little") + int(y).to_bytes(4, "little")
        out = []
        for i in range(4):
            nibble = int(c) >> 4 * i & 15
            byte = stock[nibble & 7]
            out.append((0xFF if byte & 0x80 else 0) if nibble & 8 else byte)
        want.append(int.from_bytes(bytes(out), "little"))
    np.testing.assert_array_equal(run("prmt.b32 %o, %a, %b, %c;", a, b, chosen, out="u4"), np.array(want, "u4"))
    np.testing.assert_array_equal(run("prmt.b32 %o, %a, 0, 0x0123U;", a, out="u4"), a.byteswap())


@pytest.mark.parametrize("width", [32, 64])
def test_counts(width):
    a = words(width // 8, 20)
    popc = run(f"popc.b{width} %o, %a;", a, out="u4")
    np.testing.assert_array_equal(popc, [bin(int(x)).count("1") for x in a])
    clz = run(f"clz.b{width} %o, %a;", a, out="u4")
    np.testing.assert_array_equal(clz, [width - int(x).bit_length() for x in a])


@pytest.mark.parametrize("width", [32, 64])
def test_brev(width):
    a = words(width // 8, 21)
    want = [int(f"{int(x):0{width}b}"[::-1], 2) for x in a]
    np.testing.assert_array_equal(run(f"brev.b{width} %o, %a;", a, out=a.dtype), np.array(want, a.dtype))


@pytest.mark.parametrize("type_", ["u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("shift", ["", ".shiftamt"])
def test_bfind(type_, shift):
    width = int(type_[1:])
    a = words(width // 8, 22)
    want = []
    for x in a.view(f"i{width // 8}") if type_[0] == "s" else a:
        place = (~int(x) if x < 0 else int(x)).bit_length() - 1
        want.append(-1 if place < 0 else width - 1 - place if shift else place)
    got = run(f"bfind{shift}.{type_} %o, %a;", a, out="u4")
    np.testing.assert_array_equal(got, bits(want, "u4"))


def test_unknown_instructions_raise_before_anything_runs():
    with pytest.raises(PtxError, match="not supported: fns"):
        run("fns.b32 %o, %a, 0, 1;", np.ones(2, "u4"), out="u4")
