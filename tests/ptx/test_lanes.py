"""Warp instructions against loops over lanes, as the PTX manual defines them."""

from __future__ import annotations

import numpy as np
import pytest

from .interpreter import PtxError
from .snippets import bits, run

FULL = "0xffffffff"
LANES = np.arange(96, dtype="u4")


def shuffled(mode, values, step, clamp):
    """shfl.sync of one warp by the manual's pseudo-code; and whether each lane's source was in range."""
    out, in_range = [], []
    for lane in range(32):
        segment, limit = clamp >> 8 & 31, clamp & 31
        low = lane & segment
        high = low | (limit & ~segment & 31)
        j = {"up": lane - step, "down": lane + step, "bfly": lane ^ step, "idx": low | (step & ~segment & 31)}[mode]
        good = j >= high if mode == "up" else j <= high
        in_range.append(good)
        out.append(values[j if good else lane])
    return out, in_range


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 16, 8])
@pytest.mark.parametrize("step", [0, 1, 3, 16, 31])
def test_shfl(mode, width, step):
    a = np.random.default_rng(0).integers(0, 1 << 32, 64, "u4")
    clamp = (32 - width) << 8 | (0 if mode == "up" else 31)
    body = f"""
    shfl.sync.{mode}.b32 %r1|%p1, %a, {step}, {clamp}, {FULL};
    selp.b64 %w1, 0x100000000, 0, %p1; cvt.u64.u32 %w2, %r1; or.b64 %o, %w1, %w2;"""
    got = run(body, a, out="u8")
    for warp in (slice(0, 32), slice(32, 64)):
        values, in_range = shuffled(mode, a[warp], step, clamp)
        np.testing.assert_array_equal(got[warp] & 0xFFFFFFFF, values)
        np.testing.assert_array_equal(got[warp] >> 32, in_range)


def test_shfl_with_a_source_of_each_lane_and_some_lanes_only():
    """Lanes below 16 shuffle with a mask of their own; a lane that is not there gives something conspicuous."""
    source = np.random.default_rng(1).integers(0, 20, 64).astype("u4")
    body = """
    and.b32 %r5, %i, 31; mov.u32 %o, 77;
    setp.ge.u32 %p1, %r5, 16;
    @%p1 bra END;
    shfl.sync.idx.b32 %o, %i, %a, 31, 0xffff;
END:"""
    got = run(body, source, out="u4")
    for t in range(64):
        there = t // 32 * 32 + int(source[t])
        want = 77 if t % 32 >= 16 else there if source[t] < 16 else 0xFFFFFFFF
        assert got[t] == want


def test_lanes_that_come_later_are_waited_for():
    """Half of the lanes take a longer way to the same shuffle."""
    body = f"""
    and.b32 %r1, %i, 1; setp.eq.u32 %p1, %r1, 0; mov.u32 %r2, %i;
    @%p1 bra SHORT;
    add.u32 %r2, %r2, 1000;
    bra.uni MEET;
SHORT:
    add.u32 %r2, %r2, 2000;
MEET:
    shfl.sync.bfly.b32 %o, %r2, 1, 31, {FULL};"""
    got = run(body, LANES, out="u4")
    np.testing.assert_array_equal(got, (LANES ^ 1) + np.where(LANES % 2, 2000, 1000))


def test_lanes_that_never_come_are_reported():
    body = f"""
    setp.eq.u32 %p1, %i, 3; mov.u32 %o, 0;
    @%p1 bra END;
    shfl.sync.bfly.b32 %o, %i, 1, 31, {FULL};
    bra.uni OUT;
END:
    shfl.sync.bfly.b32 %o, %i, 2, 31, {FULL};
OUT:"""
    with pytest.raises(PtxError, match="never come"):
        run(body, LANES[:32], out="u4")


def test_lanes_that_have_ended_are_not_waited_for():
    """Whichever comes first: lanes that end before the others shuffle, or after they began to wait."""
    for condition in ("lt", "ge"):
        body = f"""
        mov.u32 %o, 5;
        setp.{condition}.u32 %p1, %i, 16;
        @%p1 bra LEAVE;
        shfl.sync.bfly.b32 %o, %i, 1, 31, {FULL};
        bra.uni END;
    LEAVE:
        add.u32 %r1, %i, 1;
        st.global.b32 [%po], %r1;
        exit;
    END:"""
        got = run(body, LANES[:32], out="u4")
        leaves = (LANES[:32] < 16) if condition == "lt" else (LANES[:32] >= 16)
        np.testing.assert_array_equal(got, np.where(leaves, LANES[:32] + 1, LANES[:32] ^ 1))


@pytest.mark.parametrize(("mask", "message"), [("0xfffffffe", "not in its own mask"), ("%b", "different masks")])
def test_wrong_masks(mask, message):
    masks = np.where(LANES < 5, 0xFFFFFFFF, 0x7FFFFFFF).astype("u4")
    with pytest.raises(PtxError, match=message):
        run(f"shfl.sync.bfly.b32 %o, %i, 1, 31, {mask};", LANES[:31], masks[:31], out="u4")


@pytest.mark.parametrize("pattern", ["none", "all", "some", "first warp"])
def test_vote(pattern):
    a = {
        "none": np.zeros(64, "u4"),
        "all": np.ones(64, "u4"),
        "some": np.random.default_rng(2).integers(0, 2, 64).astype("u4"),
        "first warp": (np.arange(64) < 32).astype("u4"),
    }[pattern]
    body = f"""
    setp.ne.u32 %p1, %a, 0;
    vote.sync.any.pred %p2, %p1, {FULL}; vote.sync.all.pred %p3, %p1, {FULL};
    vote.sync.uni.pred %p4, %p1, {FULL}; vote.sync.ballot.b32 %r1, %p1, {FULL};
    vote.sync.ballot.b32 %r2, !%p1, {FULL};
    selp.b32 %r3, 1, 0, %p2; selp.b32 %r4, 2, 0, %p3; selp.b32 %r5, 4, 0, %p4;
    or.b32 %r3, %r3, %r4; or.b32 %r3, %r3, %r5;
    not.b32 %r2, %r2; setp.ne.u32 %p5, %r1, %r2; @%p5 trap;
    mov.b64 %o, {{%r1, %r3}};"""
    got = run(body, a, out="u8")
    for begin in (0, 32):
        warp = a[begin : begin + 32] != 0
        ballot = sum(int(v) << k for k, v in enumerate(warp))
        answers = warp.any() + 2 * warp.all() + 4 * (warp.all() or not warp.any())
        np.testing.assert_array_equal(got[begin : begin + 32], ballot | int(answers) << 32)


def test_vote_of_some_lanes():
    """Lanes below 16 ask each other only."""
    body = """
    and.b32 %r5, %i, 31; mov.u32 %o, 9; setp.ge.u32 %p1, %r5, 16;
    @%p1 bra END;
    setp.lt.u32 %p2, %r5, 16; vote.sync.all.pred %p3, %p2, 0xffff; vote.sync.ballot.b32 %r1, %p2, 0xffff;
    selp.b32 %o, %r1, 0, %p3;
END:"""
    np.testing.assert_array_equal(run(body, LANES[:64], out="u4"), np.where(LANES[:64] % 32 < 16, 0xFFFF, 9))


@pytest.mark.parametrize(
    ("op", "fold"),
    [
        ("add.u32", lambda v: sum(v)),
        ("add.s32", lambda v: sum(v)),
        ("min.u32", min),
        ("max.u32", max),
        ("min.s32", min),
        ("max.s32", max),
        ("and.b32", lambda v: np.bitwise_and.reduce(v)),
        ("or.b32", lambda v: np.bitwise_or.reduce(v)),
        ("xor.b32", lambda v: np.bitwise_xor.reduce(v)),
    ],
)
def test_redux(op, fold):
    a = np.random.default_rng(3).integers(0, 1 << 32, 64, "u4").view("i4" if "s32" in op else "u4")
    got = run(f"redux.sync.{op} %o, %a, {FULL};", a, out=a.dtype)
    want = [fold([int(x) for x in a[w : w + 32]]) for w in (0, 32)]
    np.testing.assert_array_equal(got, np.repeat(bits(want, a.dtype), 32))


@pytest.mark.parametrize("type_", ["b32", "b64"])
def test_match(type_):
    dtype = "u4" if type_ == "b32" else "u8"
    a = np.random.default_rng(4).integers(0, 5, 64).astype(dtype) << dtype_shift(dtype)
    a[32:] = 9
    got = run(f"match.any.sync.{type_} %o, %a, {FULL};", a, out="u4")
    for t in range(64):
        begin = t // 32 * 32
        assert got[t] == sum(1 << k for k in range(32) if a[begin + k] == a[t])
    body = f"match.all.sync.{type_} %r1|%p1, %a, {FULL}; selp.b32 %r2, %r1, 1, %p1; mov.u32 %o, %r2;"
    np.testing.assert_array_equal(run(body, a, out="u4"), np.where(np.arange(64) < 32, 1, 0xFFFFFFFF))


def dtype_shift(dtype):
    return np.dtype(dtype).type(40 if dtype == "u8" else 3)


def test_elect_chooses_one_lane():
    body = f"elect.sync %r1|%p1, {FULL}; selp.b32 %o, 1, 0, %p1;"
    got = run(body, LANES[:64], out="u4")
    assert got[:32].sum() == got[32:].sum() == 1


def test_which_lanes_run_together_is_not_asked():
    with pytest.raises(PtxError, match="activemask"):
        run("activemask.b32 %o;", LANES[:32], out="u4")


def test_special_registers():
    for name, want in {
        "laneid": LANES % 48 % 32,
        "warpid": LANES % 48 // 32,
        "tid.x": LANES % 48,
        "ctaid.x": LANES // 48,
        "ntid.x": LANES * 0 + 48,
        "nctaid.x": LANES * 0 + 2,
        "ntid.y": LANES * 0 + 1,
        "tid.z": LANES * 0,
    }.items():
        got = run(f"mov.u32 %o, %{name};", LANES, out="u4", blocks=2)
        np.testing.assert_array_equal(got, want, err_msg=name)
    lane = LANES[:32].astype("i8")
    for name, want in {
        "eq": 1 << lane,
        "lt": (1 << lane) - 1,
        "le": (2 << lane) - 1,
        "gt": 0xFFFFFFFF - ((2 << lane) - 1),
        "ge": 0xFFFFFFFF - ((1 << lane) - 1),
    }.items():
        got = run(f"mov.u32 %o, %lanemask_{name};", LANES[:32], out="u4")
        np.testing.assert_array_equal(got, want.astype("u4"), err_msg=name)
