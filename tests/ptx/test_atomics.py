"""atom and red: what each thread gets back, and what is left."""

from __future__ import annotations

import numpy as np
import pytest

from .snippets import SCRATCH, machine, pointer, run

RNG = np.random.default_rng(0)
SHARED = ".shared .align 16 .b8 s[1024];\n"

ATOMICS = {
    "add.u32": lambda old, x: (old + x) & 0xFFFFFFFF,
    "add.u64": lambda old, x: (old + x) & (2**64 - 1),
    "min.s32": min,
    "max.u32": max,
    "max.u64": max,
    "exch.b32": lambda old, x: x,
    "and.b32": lambda old, x: old & x,
    "or.b32": lambda old, x: old | x,
    "xor.b32": lambda old, x: old ^ x,
    "inc.u32": lambda old, x: 0 if old >= x else old + 1,
    "dec.u32": lambda old, x: x if old == 0 or old > x else old - 1,
}


@pytest.mark.parametrize("space", ["global", "shared"])
@pytest.mark.parametrize("op", ATOMICS)
def test_atom(op, space):
    """Each thread gets what was there before it; all threads on one number."""
    dtype = {"u32": "u4", "b32": "u4", "s32": "i4", "u64": "u8"}[op.split(".")[1]]
    a = RNG.integers(0, 50, 40).astype(dtype)
    size = a.dtype.itemsize
    bank = "w" if size == 8 else "r"
    cell = np.array([17], dtype)
    place = "[%w3]" if space == "global" else "[s]"
    prepare = (
        f"ld.global.b{8 * size} %{bank}9, [%w3]; setp.eq.u32 %p1, %i, 0; @%p1 st.shared.b{8 * size} [s], %{bank}9;"
    )
    finish = f"bar.sync 0; ld.shared.b{8 * size} %{bank}9, [s]; @%p1 st.global.b{8 * size} [%w3], %{bank}9;"
    text = f"""
.entry atoms(.param .u64 p, .param .u64 q, .param .u64 c) {{ {SCRATCH} {SHARED} .reg .b32 %i;
    mov.u32 %i, %tid.x; ld.param.u64 %w1, [p]; ld.param.u64 %w2, [q]; ld.param.u64 %w3, [c];
    mad.wide.u32 %w1, %i, {size}, %w1; mad.wide.u32 %w2, %i, {size}, %w2; ld.global.b{8 * size} %{bank}7, [%w1];
    {prepare if space == "shared" else ""} bar.sync 0;
    atom.{space}.{op} %{bank}8, {place}, %{bank}7;
    st.global.b{8 * size} [%w2], %{bank}8; {finish if space == "shared" else ""} ret; }}"""
    before = np.zeros_like(a)
    machine(text, a, before, cell).launch("atoms", (1,), (40,), [pointer(x) for x in (a, before, cell)])
    old, seen = 17, []
    for x in a:
        seen.append(old)
        old = ATOMICS[op](old, int(x))
    np.testing.assert_array_equal(before, np.array(seen, dtype))
    assert int(cell[0]) == old


def test_compare_and_swap_and_red_of_floats():
    a = np.full(20, 0.25, "f8")
    body = """ld.param.u64 %w1, [p_b];
    red.global.add.f64 [%w1], %a;
    atom.global.cas.b32 %r1, [%w1+8], 5, %i;
    cvt.u64.u32 %o, %r1;"""
    b = np.zeros(20, "f8")
    b[1:2].view("u4")[0] = 5
    got = run(body, a, b, out="u8")
    assert b[0] == 5
    np.testing.assert_array_equal(got, [5] + [0] * 19)


def test_lost_updates_are_lost_here_too():
    """Read, add and write by all threads at once: not a sum."""
    b = np.zeros(20, "u4")
    run(
        "ld.param.u64 %w1, [p_b]; ld.global.u32 %r1, [%w1]; add.u32 %r1, %r1, 1; st.global.u32 [%w1], %r1;",
        b,
        b,
        out="u4",
    )
    assert b[0] == 1
