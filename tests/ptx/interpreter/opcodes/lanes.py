"""What the lanes of a warp do together: shfl, vote, redux, match, elect, bar.warp.sync.

`warps.gather` has seen to it that the lanes that the mask names are all here.
"""

from __future__ import annotations

import numpy as np

from .. import warps
from ..errors import PtxError
from ..formats import UNSIGNED, size_of
from ..operands import reader, writer
from ..parse import Instruction, Kernel
from .table import Run, opcode

ABSENT = np.uint32(0xFFFFFFFF)  # what a shuffle gets from a lane that is not here: undefined, so something conspicuous


@opcode("bar.warp")
def _bar_warp(one: Instruction, kernel: Kernel) -> Run:
    def run(machine, active):
        warp, _, _ = warps.present(machine, active)
        machine.warp_epoch[warp] += 1

    return run


@opcode("shfl")
def _shfl(one: Instruction, kernel: Kernel) -> Run:
    mode = one.pick(("up", "down", "bfly", "idx"))
    names = [x.strip() for x in one.operands[0].split("|")]
    write = writer(names[0], "b32", kernel)
    write_in_range = writer(names[1], "pred", kernel) if len(names) > 1 else None
    read, by, limits = (reader(x, "b32", kernel) for x in one.operands[1:4])

    def run(machine, active):
        sel = active.sel
        lane = machine.lane[sel]
        step, limit = by(machine, sel).astype(np.int64) & 31, limits(machine, sel).astype(np.int64)
        segment, clamp = (limit >> 8) & 31, limit & 31
        low = lane & segment
        high = low | (clamp & ~segment)
        source = {"up": lane - step, "down": lane + step, "bfly": lane ^ step, "idx": low | (step & ~segment)}[mode]
        in_range = source >= high if mode == "up" else source <= high
        source = np.where(in_range, source, lane)
        everybody = np.full(len(machine.lane) + 32, ABSENT, np.uint32)  # 32: lanes that the last warp does not have
        everybody[sel] = read(machine, sel)
        write(machine, sel, everybody[machine.first_of_warp[sel] + source])
        if write_in_range:
            write_in_range(machine, sel, in_range)

    return run


@opcode("vote")
def _vote(one: Instruction, kernel: Kernel) -> Run:
    mode = one.pick(("any", "all", "uni", "ballot"))
    read = reader(one.operands[1], "pred", kernel)
    write = writer(one.operands[0], "b32" if mode == "ballot" else "pred", kernel)

    def run(machine, active):
        sel = active.sel
        _, here, starts = warps.present(machine, active)
        yes = np.where(np.broadcast_to(read(machine, sel), active.n), machine.bit[sel], np.uint32(0))
        ballot = np.bitwise_or.reduceat(yes, starts)
        result = {
            "ballot": ballot,
            "any": ballot != 0,
            "all": ballot == here,
            "uni": (ballot == here) | (ballot == 0),
        }[mode]
        write(machine, sel, warps.spread(result, starts, active.n))

    return run


@opcode("redux")
def _redux(one: Instruction, kernel: Kernel) -> Run:
    function = {
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
    }[one.pick(("add", "min", "max", "and", "or", "xor"))]
    if one.type == "f32":
        raise one.unsupported()
    read, write = reader(one.operands[1], one.type, kernel), writer(one.operands[0], one.type, kernel)

    def run(machine, active):
        _, _, starts = warps.present(machine, active)
        value = np.broadcast_to(read(machine, active.sel), active.n)
        result = function.reduceat(value, starts, dtype=value.dtype)
        write(machine, active.sel, warps.spread(result, starts, active.n))

    return run


@opcode("match")
def _match(one: Instruction, kernel: Kernel) -> Run:
    """any: the lanes with the same value; all: all lanes if there is one value only, and whether that is so."""
    mode, size = one.pick(("any", "all")), size_of(one.type)
    names = [x.strip() for x in one.operands[0].split("|")]
    write = writer(names[0], "b32", kernel)
    write_all = writer(names[1], "pred", kernel) if len(names) > 1 else None
    read = reader(one.operands[1], one.type, kernel)

    def run(machine, active):
        sel = active.sel
        _, here, starts = warps.present(machine, active)
        total = len(machine.lane) + 32
        values, is_here = np.zeros(total, UNSIGNED[size]), np.zeros(total, bool)
        values[sel], is_here[sel] = read(machine, sel), True
        lanes = machine.first_of_warp[sel][:, None] + np.arange(32)
        equal = (values[lanes] == values[active.ix][:, None]) & is_here[lanes]
        same = (equal * (np.uint64(1) << np.arange(32, dtype=np.uint64))).sum(1).astype(np.uint32)
        if mode == "all":
            agree = same == warps.spread(here, starts, active.n)
            same = np.where(agree, same, np.uint32(0))
            if write_all:
                write_all(machine, sel, agree)
        write(machine, sel, same)

    return run


@opcode("elect")
def _elect(one: Instruction, kernel: Kernel) -> Run:
    """One lane of those the mask names; the lowest, as any choice is legal."""
    names = [x.strip() for x in one.operands[0].split("|")]
    write, write_is = writer(names[0], "b32", kernel), writer(names[1], "pred", kernel)

    def run(machine, active):
        _, _, starts = warps.present(machine, active)
        leader = warps.spread(machine.lane[active.sel][starts], starts, active.n)
        write(machine, active.sel, leader.astype(np.uint32))
        write_is(machine, active.sel, machine.lane[active.sel] == leader)

    return run


@opcode("activemask")
def _activemask(one: Instruction, kernel: Kernel) -> Run:
    raise PtxError("activemask: which lanes run together is the GPU's choice")
