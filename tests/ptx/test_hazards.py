"""Accesses of shared memory that no barrier orders."""

from __future__ import annotations

import numpy as np
import pytest

from .interpreter import PtxError
from .snippets import run

SHARED = ".shared .align 16 .b8 s[1024];\n"
INDEX = "shl.b32 %r1, %i, 2; mov.u32 %r2, s; add.u32 %r3, %r2, %r1;\n"  # %r3: the thread's word in s

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
    "write of what the lanes of one warp read, by the last of them": (
        f"{INDEX} st.shared.u32 [%r3], %i; bar.sync 0; setp.lt.u32 %p2, %i, 32; @%p2 ld.shared.u32 %o, [s];"
        " setp.eq.u32 %p1, %i, 31; @%p1 st.shared.u32 [s], %i;",
        True,
    ),
    "write of what two warps read, ordered within the last one only": (
        f"{INDEX} st.shared.u32 [%r3], %i; bar.sync 0; ld.shared.u32 %o, [s]; bar.warp.sync 0xffffffff;"
        " setp.eq.u32 %p1, %i, 63; @%p1 st.shared.u32 [s], %i;",
        True,
    ),
    "write of what one warp read, ordered within it": (
        f"{INDEX} st.shared.u32 [%r3], %i; bar.sync 0; setp.lt.u32 %p2, %i, 32; @%p2 ld.shared.u32 %o, [s];"
        " bar.warp.sync 0xffffffff; setp.eq.u32 %p1, %i, 31; @%p1 st.shared.u32 [s], %i;",
        False,
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
