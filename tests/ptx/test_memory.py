"""Loads, stores and address spaces: what they do, and what is refused."""

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


def test_a_register_without_a_declaration_raises():
    with pytest.raises(PtxError, match="%missing"):
        machine(f".entry k() {{ {SCRATCH} add.u32 %r1, %r1, %missing; ret; }}").launch("k", (1,), (1,), [])
    with pytest.raises(PtxError, match="no kernel"):
        machine(HEAD).launch("k", (1,), (1,), [])
