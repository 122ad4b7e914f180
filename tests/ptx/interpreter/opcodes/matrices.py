"""mma.sync m16n8k16, ldmatrix, wmma m16n16k16: float16 or bfloat16 in, float32 out, sums in float64.

Layouts: PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type" and "ldmatrix". Those of wmma are not
specified: any fixed one is legal, and this one is scrambled so that a program which looks inside is found out.
"""

from __future__ import annotations

import numpy as np

from ..errors import PtxError
from ..formats import UNSIGNED, Array, decode, halves, join, size_of
from ..operands import Place, elements, load, reader, store, writer
from ..parse import Instruction, Kernel
from ..threads import Active
from .table import Run, opcode

_FORMATS = {("f32", "bf16", "bf16", "f32"): "bf16", ("f32", "f16", "f16", "f32"): "f16"}


def _whole_warps(machine, active: Active) -> tuple[Array, Array]:
    """For each thread the number of its warp among the active ones, and its lane; all 32 must be there."""
    lane = machine.lane[active.sel]
    if active.n % 32 or (lane != np.arange(active.n) % 32).any():
        raise PtxError(f"not all lanes of a warp are here: {machine.text}")
    return np.arange(active.n) // 32, lane


def _pairs(bits: Array, type_: str) -> list[Array]:
    return [decode(h, type_).astype(np.float64) for h in halves(bits)]


@opcode("mma")
def _mma(one: Instruction, kernel: Kernel) -> Run:
    type_ = _FORMATS.get(one.words[-4:])
    if type_ is None or not one.has("m16n8k16") or not (one.has("row") and one.has("col")):
        raise one.unsupported()
    d, a, b, c = (elements(x) for x in one.operands)
    read_a, read_b, read_c = ([reader(x, t, kernel) for x in y] for y, t in ((a, "b32"), (b, "b32"), (c, "f32")))
    write = [writer(x, "f32", kernel) for x in d]

    def run(machine, active):
        sel = active.sel
        warp, lane = _whole_warps(machine, active)
        group, pair = lane >> 2, 2 * (lane & 3)
        left, right = np.zeros((active.n // 32, 16, 16)), np.zeros((active.n // 32, 16, 8))
        for k, r in enumerate(read_a):
            for q, value in enumerate(_pairs(r(machine, sel), type_)):
                left[warp, group + 8 * (k & 1), pair + q + 8 * (k >> 1)] = value
        for k, r in enumerate(read_b):
            for q, value in enumerate(_pairs(r(machine, sel), type_)):
                right[warp, pair + q + 8 * k, group] = value
        product = left @ right
        out = []
        for k, r in enumerate(read_c):
            out.append(product[warp, group + 8 * (k >> 1), pair + (k & 1)] + r(machine, sel).astype(np.float64))
        for w, value in zip(write, out, strict=True):
            w(machine, sel, value.astype(np.float32))

    return run


@opcode("ldmatrix")
def _ldmatrix(one: Instruction, kernel: Kernel) -> Run:
    count = {"x1": 1, "x2": 2, "x4": 4}[one.pick(("x1", "x2", "x4"))]
    if not one.has("m8n8") or one.type != "b16":
        raise one.unsupported()
    place = Place(one.operands[1], one, kernel)
    write = [writer(x, "b32", kernel) for x in elements(one.operands[0])]

    def run(machine, active):
        warp, lane = _whole_warps(machine, active)
        giving = lane < 8 * count  # the lanes whose addresses count
        rows = np.zeros((active.n // 32, 32, 8), np.uint16)
        values = load(machine, Active(active.ix[giving]), place, 16)
        rows[warp[giving], lane[giving]] = values.view(np.uint16).reshape(-1, 8)
        matrices = rows.reshape(-1, 4, 8, 8)
        if one.has("trans"):
            matrices = matrices.transpose(0, 1, 3, 2)
        for k, w in enumerate(write):
            low, high = (matrices[warp, k, lane // 4, 2 * (lane % 4) + q] for q in (0, 1))
            w(machine, active.sel, join(low, high))

    return run


@opcode("wmma")
def _wmma(one: Instruction, kernel: Kernel) -> Run:
    if not one.has("m16n16k16"):
        raise one.unsupported()
    if one.words[1] == "load":
        return _wmma_load(one, kernel)
    if one.words[1] == "store":
        return _wmma_store(one, kernel)
    if one.words[1] != "mma":
        raise one.unsupported()
    type_ = "bf16" if one.has("bf16") else "f16"
    fragments = [elements(x) for x in one.operands]
    read = [
        [reader(x, "b32" if len(f) != 8 or (k < 3 and type_ == "f16") else "f32", kernel) for x in f]
        for k, f in enumerate(fragments[1:], 1)
    ]
    write = [writer(x, "f32", kernel) for x in fragments[0]]

    def run(machine, active):
        warp, lane = _whole_warps(machine, active)
        row, column = _fragment(lane)
        matrices = []
        for readers in read:
            m = np.zeros((active.n // 32, 16, 16))
            values = [r(machine, active.sel) for r in readers]
            if values[0].dtype != np.float32:  # A or B: pairs; float16 holds each number twice
                values = [h for v in values[:4] for h in _pairs(v, type_)]
            for k, value in enumerate(values):
                m[warp, row[:, k], column[:, k]] = value
            matrices.append(m)
        product = matrices[0] @ matrices[1] + matrices[2]
        for k, w in enumerate(write):
            w(machine, active.sel, product[warp, row[:, k], column[:, k]].astype(np.float32))

    return run


def _fragment(lane: Array) -> tuple[Array, Array]:
    """Row and column of the eight numbers that each lane holds, [lanes, 8]."""
    element = (lane[:, None] * 8 + np.arange(8)) * 37 % 256  # 37 is odd: one to one
    return element // 16, element % 16


def _wmma_places(one: Instruction, kernel: Kernel, address: str, stride: str | None):
    place = Place(address, one, kernel)
    size = size_of(one.type)
    read_stride = reader(stride, "u32", kernel) if stride else None

    def places(machine, active):
        _, lane = _whole_warps(machine, active)
        row, column = _fragment(lane)
        step = 16 if read_stride is None else read_stride(machine, active.sel).astype(np.int64)[:, None]
        return size * (column * step + row if one.has("col") else row * step + column)

    return place, places


class _Shifted:
    """A place and a number of bytes further on for each thread."""

    def __init__(self, place: Place, by: Array) -> None:
        self.place, self.by = place, by

    def __call__(self, machine, active: Active, size: int) -> tuple[str, Array]:
        space, address = self.place(machine, active, 1)
        return space, address + self.by


def _wmma_load(one: Instruction, kernel: Kernel) -> Run:
    size = size_of(one.type)
    stride = one.operands[2] if len(one.operands) > 2 else None
    place, places = _wmma_places(one, kernel, one.operands[1], stride)
    names = elements(one.operands[0])
    write = [writer(x, "b32", kernel) for x in names]

    def run(machine, active):
        offset = places(machine, active)
        values = [load(machine, active, _Shifted(place, offset[:, k]), size) for k in range(8)]
        if size == 2:
            values = [join(values[2 * k], values[2 * k + 1]) for k in range(4)]
            values = values * (len(names) // 4)
        for w, value in zip(write, values, strict=True):
            w(machine, active.sel, value)

    return run


def _wmma_store(one: Instruction, kernel: Kernel) -> Run:
    size = size_of(one.type)
    stride = one.operands[2] if len(one.operands) > 2 else None
    place, places = _wmma_places(one, kernel, one.operands[0], stride)
    read = [reader(x, "b32", kernel) for x in elements(one.operands[1])]
    if size != 4:
        raise one.unsupported()

    def run(machine, active):
        offset = places(machine, active)
        for k, r in enumerate(read):
            value = np.ascontiguousarray(np.broadcast_to(r(machine, active.sel), active.n)).view(UNSIGNED[4])
            store(machine, active, _Shifted(place, offset[:, k]), value)

    return run
