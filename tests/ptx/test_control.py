"""Branches, barriers, the schedule, and what a kernel must not do with them."""

from __future__ import annotations

import numpy as np
import pytest

from .interpreter import PtxError, parse
from .snippets import HEAD, SCRATCH, machine, pointer, run


def test_a_loop_of_a_different_length_in_each_thread():
    a = np.random.default_rng(0).integers(0, 20, 70).astype("u4")
    body = """
    mov.u32 %r1, 0; mov.u32 %o, 0;
AGAIN:
    setp.ge.u32 %p1, %r1, %a;
    @%p1 bra DONE;
    add.u32 %r1, %r1, 1; add.u32 %o, %o, %r1;
    bra.uni AGAIN;
DONE:"""
    np.testing.assert_array_equal(run(body, a, out="u4"), a * (a + 1) // 2)


@pytest.mark.parametrize("order", [None, 0, 1])
def test_both_sides_of_a_branch(order):
    body = """
    and.b32 %r1, %i, 3; setp.lt.u32 %p1, %r1, 2;
    @!%p1 bra ELSE;
    mul.lo.u32 %o, %i, 10;
    bra.uni END;
ELSE:
    neg.s32 %o, %i;
END:
    add.u32 %o, %o, 1;"""
    i = np.arange(96)
    got = run(body, out="i4", threads=32, blocks=3, order=order)
    np.testing.assert_array_equal(got, np.where(i % 4 < 2, 10 * i, -i) + 1)


def test_a_jump_by_a_table():
    body = """
    rem.u32 %r1, %i, 3;
TABLE: .branchtargets L0, L1, L2;
    brx.idx %r1, TABLE;
L0: mov.u32 %o, 10; bra.uni END;
L1: mov.u32 %o, 11; bra.uni END;
L2: mov.u32 %o, 12;
END:"""
    np.testing.assert_array_equal(run(body, out="u4", threads=9), 10 + np.arange(9) % 3)
    with pytest.raises(PtxError, match="past the end of its table"):
        run(body.replace("%i, 3", "%i, 4"), out="u4", threads=9)


@pytest.mark.parametrize("op", ["popc.u32", "and.pred", "or.pred"])
def test_barriers_that_answer(op):
    """__syncthreads_count, _and, _or."""
    a = np.array([1] * 40 + [0] * 24, "u4")
    answer = "%r1, 0, %p1; mov.u32 %o, %r1;" if op == "popc.u32" else "%p2, 0, %p1; selp.b32 %o, 1, 0, %p2;"
    for values in (a, 0 * a, 0 * a + 1):
        got = run(f"setp.ne.u32 %p1, %a, 0; bar.red.{op} {answer}", values, out="u4")
        want = {"popc.u32": values.sum(), "and.pred": values.all(), "or.pred": values.any()}[op]
        np.testing.assert_array_equal(got, np.full(64, want, "u4"))
    got = run("setp.ne.u32 %p1, %a, 0; bar.red.popc.u32 %o, 0, !%p1;", a, out="u4")
    np.testing.assert_array_equal(got, np.full(64, 24))


def test_a_barrier_that_some_threads_leave_out():
    with pytest.raises(PtxError, match="exited before a barrier"):
        run("setp.eq.u32 %p1, %i, 5; @%p1 exit; bar.sync 0; mov.u32 %o, 0;", out="u4", threads=64)
    with pytest.raises(PtxError, match="exited before a barrier"):  # the other way round
        run("setp.eq.u32 %p1, %i, 5; @!%p1 bra END; bar.sync 0; END: mov.u32 %o, 0;", out="u4", threads=64)


def test_barriers_in_two_places():
    body = """
    setp.lt.u32 %p1, %i, 32;
    @%p1 bra ONE;
    bar.sync 0; bra.uni END;
ONE:
    bar.sync 0;
END:
    mov.u32 %o, 0;"""
    with pytest.raises(PtxError, match="different barriers"):
        run(body, out="u4", threads=64)


@pytest.mark.parametrize("text", ["bar.sync 1;", "bar.sync 0, 32;", "barrier.cluster.arrive;", "call foo;"])
def test_what_is_not_supported_raises(text):
    with pytest.raises(PtxError, match="not supported"):
        run(text + " mov.u32 %o, 0;", out="u4", threads=64)


def test_a_trap_and_a_loop_without_end():
    with pytest.raises(PtxError, match="trap"):
        run("setp.eq.u32 %p1, %i, 7; @%p1 trap; mov.u32 %o, 0;", out="u4", threads=8)
    it = machine(f".entry k() {{ {SCRATCH} AGAIN: bra AGAIN; }}", most_steps=1000)
    with pytest.raises(PtxError, match="without end"):
        it.launch("k", (1,), (1,), [])


@pytest.mark.parametrize("order", [None, 0, 5])
def test_blocks_that_wait_for_each_other(order):
    """Each block spins until all have come: as a cooperative grid's barrier does."""
    out = np.zeros(8, "u4")
    count = np.zeros(1, "u4")
    text = f"""
.entry meet(.param .u64 p, .param .u64 c) {{ {SCRATCH}
    ld.param.u64 %w1, [p]; ld.param.u64 %w2, [c]; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x;
    setp.ne.u32 %p1, %r2, 0; @%p1 bra READY;
    fence.acq_rel.gpu; atom.global.add.u32 %r3, [%w2], 1;
WAIT:
    nanosleep.u32 20; ld.acquire.gpu.global.u32 %r4, [%w2]; mov.u32 %r5, %nctaid.x; setp.lt.u32 %p2, %r4, %r5;
    @%p2 bra WAIT;
READY:
    bar.sync 0; membar.gl;
    mad.wide.u32 %w3, %r1, 4, %w1; ld.volatile.global.u32 %r6, [%w2]; @!%p1 st.global.u32 [%w3], %r6; ret; }}"""
    machine(text, out, count, order=order).launch("meet", (8,), (40,), [pointer(out), pointer(count)])
    np.testing.assert_array_equal(out, np.full(8, 8))


@pytest.mark.parametrize(
    ("grid", "block"), [((1,), (1025,)), ((1,), (0,)), ((0,), (1,)), ((1, 70000), (1,)), ((1,), (1, 1, 65))]
)
def test_launches_that_a_gpu_refuses(grid, block):
    it = machine(".entry k() { ret; }")
    with pytest.raises(PtxError, match=r"grid|block"):
        it.launch("k", grid, block, [])


def test_launch_bounds():
    it = machine(".entry k() .maxntid 8, 4, 1 .minnctapersm 2 { ret; }")
    it.launch("k", (1,), (32,), [])
    with pytest.raises(PtxError, match="allows 32"):
        it.launch("k", (1,), (33,), [])


def test_three_dimensions():
    grid, block = (2, 3, 2), (3, 2, 4)
    total = 12 * 24
    out = np.zeros((total, 6), "u4")
    stores = "".join(
        f"mov.u32 %r2, %{name}.{axis}; st.global.u32 [%w2+{4 * k}], %r2;"
        for k, (name, axis) in enumerate((n, a) for n in ("tid", "ctaid") for a in "xyz")
    )
    text = f"""
.entry k(.param .u64 p) {{ {SCRATCH} ld.param.u64 %w1, [p];
    mov.u32 %r1, %ctaid.z; mad.lo.u32 %r1, %r1, 3, 0; mov.u32 %r2, %ctaid.y; add.u32 %r1, %r1, %r2;
    mov.u32 %r2, %ctaid.x; mad.lo.u32 %r1, %r1, 2, %r2; mov.u32 %r2, %tid.z; mad.lo.u32 %r1, %r1, 4, %r2;
    mov.u32 %r2, %tid.y; mad.lo.u32 %r1, %r1, 2, %r2; mov.u32 %r2, %tid.x; mad.lo.u32 %r1, %r1, 3, %r2;
    mad.wide.u32 %w2, %r1, 24, %w1; {stores} ret; }}"""
    machine(text, out).launch("k", grid, block, [pointer(out)])
    want = [
        (x, y, z, bx, by, bz)
        for bz in range(2) for by in range(3) for bx in range(2) for z in range(4) for y in range(2) for x in range(3)
    ]  # fmt: skip
    np.testing.assert_array_equal(out, np.array(want))


def test_parsing():
    module = parse(
        HEAD
        + """
    // a comment with .entry fake() { }
    .visible .entry _ZN7dq_fast5twicePfl(
        .param .u64 .ptr .global .align 4 _ZN7dq_fast5twicePfl_param_0, /* n */ .param .u64 p1
    )
    .maxntid 64, 2
    {
        .reg .pred %p<2>; .reg .b32 %r<3>, %f; .shared .align 8 .f64 part[4];
        .loc 1 20 3
        { // a scope of inline assembly
        { .reg .b32 low; mov.u32 low, 1; }
        }
        LABEL: $L__2:
        @!%p1 ld.global.nc.L1::no_allocate.v2.b32 {%r1, %r2}, [p1+8];
        ret;
    }"""
    )
    kernel = module.kernels[module.find("twice")].read()
    assert kernel.max_threads == 128
    assert list(kernel.parameters.values()) == [(0, 8), (8, 8)]
    assert kernel.registers == {
        "%p0": "pred",
        "%p1": "pred",
        "%r0": "b32",
        "%r1": "b32",
        "%r2": "b32",
        "%f": "b32",
        "low": "b32",
    }
    assert kernel.variables["part"].size == 32
    assert kernel.labels == {"LABEL": 1, "$L__2": 1}
    load = kernel.code[1]
    assert (load.op, load.type, load.guard, load.negated) == ("ld", "b32", "%p1", True)
    assert load.operands == ("{%r1, %r2}", "[p1+8]")
    with pytest.raises(PtxError, match="0 kernels are called once"):
        module.find("once")
