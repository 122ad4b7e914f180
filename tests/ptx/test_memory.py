"""Loads, stores, atomics and address spaces: what they do, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from .interpreter import PtxError
from .snippets import HEAD, SCRATCH, bits, machine, pointer, run

RNG = np.random.default_rng(0)
SHARED = ".shared .align 16 .b8 s[1024];\n"
INDEX = "shl.b32 %r1, %i, 2; mov.u32 %r2, s; add.u32 %r3, %r2, %r1;\n"  # %r3: the thread's word in s


@pytest.mark.parametrize("type_", ["u8", "s8", "u16", "s16", "u32", "s32"])
def test_loads_extend_to_the_register(type_):
    size = int(type_[1:]) // 8
    a = RNG.integers(0, 256, 64 * size).astype("u1").view(f"{'i' if type_[0] == 's' else 'u'}{size}")
    body = f"ld.param.u64 %w1, [p_a]; mad.wide.u32 %w1, %i, {size}, %w1; ld.global.{type_} %o, [%w1];"
    np.testing.assert_array_equal(run(body, a, out="u8"), bits([int(x) for x in a], "u8"))


@pytest.mark.parametrize(("type_", "count"), [("b8", 4), ("b16", 2), ("b32", 2), ("b32", 4), ("b64", 2), ("b16", 4)])
def test_vectors(type_, count):
    """Read as a vector, write it the other way round in shared memory, read that as single numbers."""
    size = int(type_[1:]) // 8
    a = RNG.integers(0, 256, 16 * size * count).astype("u1").view(f"u{size}")
    out = np.zeros_like(a)
    bank = {1: "h", 2: "h", 4: "r", 8: "w"}[size]
    names = [f"%{bank}{k + 8}" for k in range(count)]
    singles = "".join(
        f"ld.shared.{type_} %{bank}1, [%w4+{k * size}]; st.global.{type_} [%w3+{k * size}], %{bank}1;\n"
        for k in range(count)
    )
    text = f"""
.entry vectors(.param .u64 p, .param .u64 q) {{ {SCRATCH} .shared .align 16 .b8 s[512];
    mov.u32 %r1, %tid.x; ld.param.u64 %w1, [p]; ld.param.u64 %w2, [q];
    mad.wide.u32 %w1, %r1, {size * count}, %w1; mad.wide.u32 %w3, %r1, {size * count}, %w2;
    ld.global.v{count}.{type_} {{{", ".join(names)}}}, [%w1];
    mov.u64 %w4, s; mad.wide.u32 %w4, %r1, {size * count}, %w4;
    st.shared.v{count}.{type_} [%w4], {{{", ".join(reversed(names))}}};
    {singles} ret; }}"""
    machine(text, a, out).launch("vectors", (1,), (16,), [pointer(a), pointer(out)])
    np.testing.assert_array_equal(out.reshape(16, count), a.reshape(16, count)[:, ::-1])


def test_moves_split_and_join():
    a = RNG.integers(0, 2**63, 40).astype("u8")
    body = "mov.b64 {%r1, %r2}, %a; mov.b32 {%h1, %h2}, %r1; mov.b32 %r3, {%h2, %h1}; mov.b64 %o, {%r2, %r3};"
    low, high = a & 0xFFFFFFFF, a >> 32
    swapped = (low >> 16) | ((low & 0xFFFF) << 16)
    np.testing.assert_array_equal(run(body, a, out="u8"), high | (swapped << 32))
    got = run("mov.b64 {_, %r2}, %a; mov.b32 %o, {0, %h1}; mov.u32 %o, %r2;", a, out="u4")
    np.testing.assert_array_equal(got, high)


@pytest.mark.parametrize("text", ["0f3F800000", "1.0"])
def test_numbers_in_the_text(text):
    assert run(f"mov.f32 %o, {text};", out="f4", threads=1)[0] == 1
    assert run("mov.f64 %o, 0dC000000000000000;", out="f8", threads=1)[0] == -2
    assert run("mov.u32 %o, WARP_SZ;", out="u4", threads=1)[0] == 32
    assert run("mov.s32 %o, -5;", out="i4", threads=1)[0] == -5


def test_generic_addresses():
    """Shared, local and global memory through cvta and plain ld and st."""
    a = np.arange(10, 42, dtype="u4")
    body = f"""{SHARED} .local .align 4 .b8 mine[4];
    {INDEX}
    cvt.u64.u32 %w1, %r3; cvta.shared.u64 %w2, %w1; st.u32 [%w2], %a;
    mov.u64 %w3, mine; cvta.local.u64 %w4, %w3; ld.u32 %r4, [%w2]; add.u32 %r4, %r4, 1; st.u32 [%w4], %r4;
    ld.local.u32 %r5, [%w3]; cvta.to.global.u64 %w5, %pa; ld.u32 %r6, [%w5]; cvta.to.shared.u64 %w6, %w2;
    ld.shared.u32 %r7, [%w6]; add.u32 %o, %r5, %r6; add.u32 %o, %o, %r7;
    isspacep.shared %p1, %w2; isspacep.local %p2, %w4; isspacep.global %p3, %w5; isspacep.shared %p4, %w4;
    @!%p1 trap; @!%p2 trap; @!%p3 trap; @%p4 trap;"""
    np.testing.assert_array_equal(run(body, a, out="u4"), 3 * a + 1)


def test_structures_as_parameters():
    out = np.zeros(4, "u8")
    text = f"""
.visible .entry _Z3oneP4Args(.param .align 8 .b8 p[24], .param .u8 q, .param .u64 r) {{ {SCRATCH}
    ld.param.u64 %w1, [r]; ld.param.u32 %r1, [p+8]; ld.param.u8 %h1, [q]; ld.param.v2.u32 {{%r2, %r3}}, [p];
    ld.param.u64 %w2, [p+16]; cvt.u32.u16 %r4, %h1;
    mov.b64 %w3, p; cvta.param.u64 %w4, %w3; ld.u64 %w5, [%w4+16]; setp.ne.u64 %p1, %w5, %w2; @%p1 trap;
    add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4; cvt.u64.u32 %w6, %r1; add.u64 %w6, %w6, %w2;
    st.global.u64 [%w1], %w6; ret; }}"""
    args = np.array([1, 20, 300, 0], "u4").tobytes() + np.array([40000], "u8").tobytes()
    it = machine(text, out)
    name = it.module.find("one")
    it.launch(name, (1,), (1,), [args, b"\x05", pointer(out)])
    assert out[0] == 40326
    with pytest.raises(PtxError, match="arguments"):
        it.launch(name, (1,), (1,), [args, b"\x05\x00", pointer(out)])


def test_variables_with_a_first_value():
    outside = (
        ".const .align 4 .b32 table[3] = {7, 8, 0x10};\n.visible .global .align 8 .f64 scale = 0d4000000000000000;\n"
    )
    body = """mul.wide.u32 %w1, %i, 4; mov.u64 %w2, table; add.s64 %w1, %w1, %w2; ld.const.u32 %r1, [%w1];
    cvt.rn.f64.u32 %w3, %r1; ld.global.f64 %w4, [scale]; mul.f64 %o, %w3, %w4;"""
    np.testing.assert_array_equal(run(body, out="f8", threads=3, outside=outside), [14, 16, 32])


# ---- what is refused


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.global.u32 %r1, [%pa+4];", "global memory out of bounds"),
        ("ld.global.u32 %r1, [%pa+-4];", "global memory out of bounds"),
        ("st.global.u32 [%pa+4], %i;", "global memory out of bounds"),
        ("mov.u64 %w1, 64; ld.global.u32 %r1, [%w1];", "global memory out of bounds"),
        ("red.global.add.u32 [%pa+4], 1;", "global memory out of bounds"),
        ("ld.global.u32 %r1, [%pa+2];", "misaligned: 4 bytes"),
        ("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%pa+-4];", "misaligned: 16 bytes"),
    ],
)
def test_global_memory_is_checked(body, message):
    whole = np.arange(96, dtype="u4")
    first = (-whole.ctypes.data // 4) % 4  # aligned to 16 bytes
    a = whole[first : first + 32]
    with pytest.raises(PtxError, match=message) as error:
        run(body, a, out="u4")
    assert "thread" in str(error.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("mov.u32 %r1, 1024; st.shared.u32 [%r1], %i;", "shared memory out of bounds"),
        ("mov.u32 %r1, -4; st.shared.u32 [%r1], %i;", "shared memory out of bounds"),
        ("st.shared.u32 [s+1022], %i;", "misaligned"),
        ("ld.shared.u32 %r1, [s];", "nobody wrote"),
        ("atom.shared.add.u32 %r1, [s], 1;", "nobody wrote"),
        ("mov.u64 %w1, mine; ld.local.u32 %r1, [%w1+8];", "local memory out of bounds"),
        ("st.param.u32 [p_o], %i;", "store to param"),
        ("ld.param.u32 %r1, [p_o+8];", "param memory out of bounds"),
    ],
)
def test_other_memory_is_checked(body, message):
    with pytest.raises(PtxError, match=message):
        run(SHARED + ".local .align 4 .b8 mine[8];\n" + body, out="u4", threads=32, hazards=False)


def test_running_over_the_end_of_a_shared_array_into_the_next_is_seen():
    two = ".shared .align 4 .b8 first[16]; .shared .align 4 .b8 second[16];\n"
    run(two + "st.shared.u32 [first+12], %i;", out="u4", threads=1)
    with pytest.raises(PtxError, match="shared memory out of bounds"):
        run(two + "st.shared.u32 [first+16], %i;", out="u4", threads=1)


def test_dynamic_shared_memory_is_as_long_as_the_launch_says():
    outside = ".extern .shared .align 16 .b8 dynamic[];\n"
    body = "mov.u32 %r1, dynamic; mad.lo.u32 %r1, %i, 4, %r1; st.shared.u32 [%r1], %i; ld.shared.u32 %o, [%r1];"
    np.testing.assert_array_equal(run(body, out="u4", threads=8, outside=outside, shared_bytes=32), np.arange(8))
    with pytest.raises(PtxError, match="out of bounds"):
        run(body, out="u4", threads=9, outside=outside, shared_bytes=32)


HAZARDS = {
    "read of what another thread wrote": (f"{INDEX} st.shared.u32 [%r3], %i; ld.shared.u32 %o, [s];", True),
    "a barrier between": (f"{INDEX} st.shared.u32 [%r3], %i; bar.sync 0; ld.shared.u32 %o, [s];", False),
    "own": (f"{INDEX} st.shared.u32 [%r3], %i; ld.shared.u32 %o, [%r3];", False),
    "write of what others read": (
        f"{INDEX} st.shared.u32 [%r3], %i; bar.sync 0; ld.shared.u32 %o, [s]; st.shared.u32 [%r3], %i;",
        True,
    ),
    "write of what others read, by the last reader": (
        f"{INDEX} st.shared.u32 [%r3], %i; bar.sync 0; ld.shared.u32 %o, [s]; setp.eq.u32 %p1, %i, 63;"
        " @%p1 st.shared.u32 [s], %i;",
        True,
    ),
    "two writers": ("st.shared.u32 [s], %i;", True),
    "a word of two halves": (
        "mov.u32 %r2, s; mad.lo.u32 %r3, %i, 2, %r2; st.shared.u16 [%r3], %h1; bar.sync 0; ld.shared.u16 %h2, [%r3];"
        " st.shared.u16 [%r3], %h1;",
        False,
    ),
    "__syncwarp between lanes": (
        f"{INDEX} st.shared.u32 [%r3], %i; bar.warp.sync 0xffffffff; xor.b32 %r5, %r1, 4; add.u32 %r5, %r2, %r5;"
        " ld.shared.u32 %o, [%r5];",
        False,
    ),
    "no __syncwarp between lanes": (
        f"{INDEX} st.shared.u32 [%r3], %i; xor.b32 %r5, %r1, 4; add.u32 %r5, %r2, %r5; ld.shared.u32 %o, [%r5];",
        True,
    ),
    "__syncwarp between warps": (
        f"{INDEX} st.shared.u32 [%r3], %i; bar.warp.sync 0xffffffff; xor.b32 %r5, %r1, 128; add.u32 %r5, %r2, %r5;"
        " ld.shared.u32 %o, [%r5];",
        True,
    ),
    "a shuffle orders no memory": (
        f"{INDEX} st.shared.u32 [%r3], %i; shfl.sync.bfly.b32 %r6, %i, 1, 31, 0xffffffff;"
        " xor.b32 %r5, %r1, 4; add.u32 %r5, %r2, %r5; ld.shared.u32 %o, [%r5];",
        True,
    ),
    "atomics": (
        "setp.eq.u32 %p1, %i, 0; @%p1 st.shared.u32 [s], 0; bar.sync 0; atom.shared.add.u32 %r4, [s], 1;"
        " atom.shared.add.u32 %r4, [s], 1; bar.sync 0; ld.shared.u32 %o, [s];",
        False,
    ),
    "an atomic and a read": (
        "setp.eq.u32 %p1, %i, 0; @%p1 st.shared.u32 [s], 0; bar.sync 0; atom.shared.add.u32 %r4, [s], 1;"
        " ld.shared.u32 %o, [s];",
        True,
    ),
    "an atomic and an earlier read": (
        "setp.eq.u32 %p1, %i, 0; @%p1 st.shared.u32 [s], 0; bar.sync 0; ld.shared.u32 %o, [s];"
        " atom.shared.add.u32 %r4, [s], 1;",
        True,
    ),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_hazards_in_shared_memory(name):
    body, bad = HAZARDS[name]
    if bad:
        with pytest.raises(PtxError, match="hazard"):
            run(SHARED + body, out="u4", threads=64)
    else:
        run(SHARED + body, out="u4", threads=64)


def test_blocks_have_shared_memory_of_their_own():
    body = f"{SHARED} {INDEX} st.shared.u32 [%r3], %i; bar.sync 0; xor.b32 %r4, %r3, 4; ld.shared.u32 %o, [%r4];"
    body = body.replace("shl.b32 %r1, %i, 2", "mov.u32 %r1, %tid.x; shl.b32 %r1, %r1, 2")
    np.testing.assert_array_equal(run(body, out="u4", threads=32, blocks=3), np.arange(96) ^ 1)


# ---- atomics


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


def test_a_register_without_a_declaration_raises():
    with pytest.raises(PtxError, match="%missing"):
        machine(f".entry k() {{ {SCRATCH} add.u32 %r1, %r1, %missing; ret; }}").launch("k", (1,), (1,), [])
    with pytest.raises(PtxError, match="no kernel"):
        machine(HEAD).launch("k", (1,), (1,), [])
