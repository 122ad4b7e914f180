"""mma, ldmatrix, wmma and cp.async: products of two different matrices, against the tables of the manual."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from .exact import from_bits, nearest, to_bits
from .interpreter import PtxError
from .snippets import SCRATCH, machine, pointer, run

LANES = np.arange(32)


def halves(shape, type_, seed):
    """Random numbers with few digits, as bits and as float64."""
    x = np.random.default_rng(seed).integers(-8, 9, shape) / 4
    patterns = np.array([to_bits(nearest(Fraction(v), type_), type_) for v in x.ravel()], "u2")
    return patterns.reshape(shape), x


@pytest.mark.parametrize("type_", ["f16", "bf16"])
def test_mma(type_):
    """A [16, 16] row-major, B [16, 8] column-major, C [16, 8]; the manual's figures, element by element."""
    (a_bits, a), (b_bits, b) = halves((16, 16), type_, 0), halves((16, 8), type_, 1)
    c = np.random.default_rng(2).integers(-9, 9, (16, 8)).astype("f4")
    packed_a, packed_b, packed_c = np.zeros((32, 4, 2), "u2"), np.zeros((32, 2, 2), "u2"), np.zeros((32, 4), "f4")
    for lane in range(32):
        group, in_group = lane // 4, lane % 4
        for i in range(8):  # a_i
            row = group if i < 2 or 4 <= i < 6 else group + 8
            column = in_group * 2 + (i & 1) + (0 if i < 4 else 8)
            packed_a[lane, i // 2, i % 2] = a_bits[row, column]
        for i in range(4):  # b_i
            packed_b[lane, i // 2, i % 2] = b_bits[in_group * 2 + (i & 1) + (0 if i < 2 else 8), group]
        for i in range(4):  # c_i
            packed_c[lane, i] = c[group if i < 2 else group + 8, in_group * 2 + (i & 1)]
    out = np.zeros((32, 4), "f4")
    text = f"""
.entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 o) {{ {SCRATCH}
    mov.u32 %r1, %tid.x; ld.param.u64 %w1, [a]; ld.param.u64 %w2, [b]; ld.param.u64 %w3, [c]; ld.param.u64 %w4, [o];
    mad.wide.u32 %w1, %r1, 16, %w1; mad.wide.u32 %w2, %r1, 8, %w2; mad.wide.u32 %w3, %r1, 16, %w3;
    mad.wide.u32 %w4, %r1, 16, %w4;
    ld.global.v4.b32 {{%r2, %r3, %r4, %r5}}, [%w1]; ld.global.v2.b32 {{%r6, %r7}}, [%w2];
    ld.global.v4.b32 {{%r8, %r9, %r10, %r11}}, [%w3];
    mma.sync.aligned.m16n8k16.row.col.f32.{type_}.{type_}.f32
        {{%r8,%r9,%r10,%r11}}, {{%r2,%r3,%r4,%r5}}, {{%r6,%r7}}, {{%r8,%r9,%r10,%r11}};
    st.global.v4.b32 [%w4], {{%r8, %r9, %r10, %r11}}; ret; }}"""
    arrays = [aligned(x) for x in (packed_a, packed_b, packed_c, out)]
    machine(text, *arrays).launch("k", (1,), (32,), [pointer(x) for x in arrays])
    want = a @ b + c
    for lane in range(32):
        for i in range(4):
            row, column = lane // 4 + (0 if i < 2 else 8), lane % 4 * 2 + (i & 1)
            assert arrays[3][lane, i] == want[row, column]
    with pytest.raises(PtxError, match="not all lanes"):
        machine(text, *arrays).launch("k", (1,), (16,), [pointer(x) for x in arrays])


def aligned(x):
    """A copy at an address that is a multiple of 64."""
    raw = np.zeros(x.nbytes + 64, "u1")
    first = -raw.ctypes.data % 64
    out = raw[first : first + x.nbytes].view(x.dtype).reshape(x.shape)
    out[...] = x
    return out


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_ldmatrix(count, trans):
    """Row r of matrix m begins at the address of lane 8 m + r; lane l gets elements 2 (l % 4) and + 1 of row l / 4."""
    rows = np.arange(32 * 8, dtype="u2").reshape(32, 8) * 7
    order = np.random.default_rng(0).permutation(32)
    names = ", ".join(f"%r{k + 8}" for k in range(count))
    body = f"""
    .shared .align 16 .b8 s[512];
    shl.b32 %r1, %i, 4; mov.u32 %r2, s; add.u32 %r2, %r2, %r1;
    ld.param.u64 %w1, [p_a]; mad.wide.u32 %w1, %i, 16, %w1;
    ld.global.v2.b64 {{%w2, %w3}}, [%w1]; st.shared.v2.b64 [%r2], {{%w2, %w3}};
    bar.sync 0;
    shl.b32 %r3, %b, 4; mov.u32 %r4, s; add.u32 %r4, %r4, %r3;
    ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{names}}}, [%r4];
    ld.param.u64 %w4, [p_c]; mad.wide.u32 %w4, %i, 16, %w4;
    {" ".join(f"st.global.b32 [%w4+{4 * k}], %r{k + 8};" for k in range(count))}
    mov.u32 %o, 0;"""
    a, c = aligned(rows), np.zeros((32, 4), "u4")
    run(body, a.view("u8").reshape(-1), order.astype("u4"), c.reshape(-1), out="u4", threads=32)
    for matrix in range(count):
        m = rows[order[8 * matrix : 8 * matrix + 8]]
        m = m.T if trans else m
        for lane in range(32):
            low, high = m[lane // 4, 2 * (lane % 4)], m[lane // 4, 2 * (lane % 4) + 1]
            assert c[lane, matrix] == int(low) | int(high) << 16


@pytest.mark.parametrize("type_", ["bf16", "f16"])
@pytest.mark.parametrize(("layout_a", "layout_b"), [("row", "col"), ("row", "row"), ("col", "row")])
def test_wmma(type_, layout_a, layout_b):
    (a_bits, a), (b_bits, b) = halves((16, 16), type_, 3), halves((16, 16), type_, 4)
    stride = 24
    stored = []
    for patterns, layout in ((a_bits, layout_a), (b_bits, layout_b)):
        wide = np.zeros((16, stride), "u2")
        wide[:, :16] = patterns if layout == "row" else patterns.T
        stored.append(wide)
    c = np.random.default_rng(5).integers(-9, 9, (16, 16)).astype("f4")
    out = np.zeros((16, 16), "f4")
    count = 8 if type_ == "f16" else 4
    fragment_a, fragment_b = (", ".join(f"%r{k + first}" for k in range(count)) for first in (0, 8))
    fragment_c = ", ".join(f"%r{k + 16}" for k in range(8))
    types = "f32.f32" if type_ == "f16" else "f32.bf16.bf16.f32"
    text = f"""
.entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 o) {{ {SCRATCH} .reg .b32 %s;
    ld.param.u64 %w1, [a]; ld.param.u64 %w2, [b]; ld.param.u64 %w3, [c]; ld.param.u64 %w4, [o]; mov.u32 %s, {stride};
    wmma.load.a.sync.aligned.{layout_a}.m16n16k16.global.{type_} {{{fragment_a}}}, [%w1], %s;
    wmma.load.b.sync.aligned.{layout_b}.m16n16k16.global.{type_} {{{fragment_b}}}, [%w2], %s;
    wmma.load.c.sync.aligned.row.m16n16k16.global.f32 {{{fragment_c}}}, [%w3];
    wmma.mma.sync.aligned.{layout_a}.{layout_b}.m16n16k16.{types}
        {{{fragment_c}}}, {{{fragment_a}}}, {{{fragment_b}}}, {{{fragment_c}}};
    wmma.store.d.sync.aligned.col.m16n16k16.global.f32 [%w4], {{{fragment_c}}}; ret; }}"""
    arrays = [*stored, c, out]
    machine(text, *arrays).launch("k", (1,), (32,), [pointer(x) for x in arrays])
    np.testing.assert_array_equal(out.T, a @ b + c)


COPY = """
    .shared .align 16 .b8 s[1024];
    mov.u32 %r2, s; mad.lo.u32 %r2, %i, 8, %r2;
    cp.async.ca.shared.global [%r2], [%pa], 8;
    cp.async.commit_group;
"""


def test_an_asynchronous_copy_arrives_at_the_wait():
    a = np.arange(32, dtype="u8") + 100
    read = "ld.shared.b64 %o, [%r2];"
    np.testing.assert_array_equal(run(COPY + "cp.async.wait_group 0;" + read, a, out="u8"), a)
    np.testing.assert_array_equal(run(COPY + "cp.async.wait_all;" + read, a, out="u8"), a)
    with pytest.raises(PtxError, match="nobody wrote"):
        run(COPY + "cp.async.wait_group 1;" + read, a, out="u8")
    with pytest.raises(PtxError, match="nobody wrote"):
        run(COPY + read, a, out="u8")
    with pytest.raises(PtxError, match="nobody waited"):
        run(COPY + "mov.u64 %o, 0;", a, out="u8")
    with pytest.raises(PtxError, match="hazard"):  # another thread's copy
        run(COPY + "cp.async.wait_group 0; ld.shared.b64 %o, [s];", a, out="u8")


def test_a_copy_to_what_others_still_read_is_a_hazard():
    a = np.arange(32, dtype="u8") + 100
    read = "cp.async.wait_all; {} xor.b32 %r3, %r2, 8; ld.shared.b64 %o, [%r3];"
    again = "{} cp.async.ca.shared.global [%r2], [%pa], 8; cp.async.wait_all;"
    sync = "bar.warp.sync 0xffffffff;"
    got = run(COPY + read.format(sync) + again.format(sync), a, out="u8")
    np.testing.assert_array_equal(got, a[np.arange(32) ^ 1])
    for first, second in (("", sync), (sync, "")):
        with pytest.raises(PtxError, match="hazard"):
            run(COPY + read.format(first) + again.format(second), a, out="u8")


def test_groups_of_copies_arrive_in_order():
    a = np.arange(32, dtype="u8") + 100
    second = "add.u32 %r3, %r2, 512; cp.async.ca.shared.global [%r3], [%pa], 8; cp.async.commit_group;"
    got = run(COPY + second + "cp.async.wait_group 1; ld.shared.b64 %o, [%r2]; cp.async.wait_all;", a, out="u8")
    np.testing.assert_array_equal(got, a)
    with pytest.raises(PtxError, match="nobody wrote"):
        run(COPY + second + "cp.async.wait_group 1; ld.shared.b64 %o, [%r3]; cp.async.wait_all;", a, out="u8")


@pytest.mark.parametrize(
    ("copy", "message"),
    [
        ("cp.async.cg.shared.global [%r2], [%pa], 16;", "misaligned"),
        ("cp.async.ca.shared.global [%r2+1024], [%pa], 8;", "shared memory out of bounds"),
        ("cp.async.ca.shared.global [%r2], [%pa+8], 8;", "global memory out of bounds"),
    ],
)
def test_copies_are_checked(copy, message):
    a = aligned(np.arange(32, dtype="u8"))
    with pytest.raises(PtxError, match=message):
        run(COPY.replace("cp.async.ca.shared.global [%r2], [%pa], 8;", copy), a, out="u8")


def test_only_shapes_that_are_known():
    with pytest.raises(PtxError, match="not supported"):
        run("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%w1,%w2}, {%w3}, {%w4}, {%w5,%w6};", out="u4", threads=32)


def test_the_numbers_of_these_tests_have_few_digits():
    assert from_bits(int(halves((1,), "bf16", 0)[0][0]), "bf16") == halves((1,), "bf16", 0)[1][0]
