"""mov, cvta, isspacep, selp, ld, st."""

from __future__ import annotations

import numpy as np

from ..formats import SIGNED, UNSIGNED, size_of
from ..memory import WINDOW
from ..operands import Place, elements, load, reader, store, writer
from ..parse import Instruction, Kernel
from .table import Run, opcode


@opcode("mov")
def _mov(one: Instruction, kernel: Kernel) -> Run:
    type_ = "pred" if one.type == "pred" else f"b{8 * size_of(one.type)}"
    read, write = reader(one.operands[1], type_, kernel), writer(one.operands[0], type_, kernel)
    return lambda machine, active: write(machine, active.sel, read(machine, active.sel))


@opcode("cvta")
def _cvta(one: Instruction, kernel: Kernel) -> Run:
    space = one.pick(("global", "shared", "local", "param", "const"))
    read, write = reader(one.operands[1], "u64", kernel), writer(one.operands[0], "u64", kernel)
    base = np.uint64(WINDOW.get(space, 0))
    if one.has("to"):
        return lambda machine, active: write(machine, active.sel, read(machine, active.sel) - base)
    return lambda machine, active: write(machine, active.sel, read(machine, active.sel) + base)


@opcode("isspacep")
def _isspacep(one: Instruction, kernel: Kernel) -> Run:
    read, write = reader(one.operands[1], "u64", kernel), writer(one.operands[0], "pred", kernel)
    window = np.uint64({"global": 0, "shared": 1, "local": 2, "param": 3}[one.words[1].split("::")[0]])
    return lambda machine, active: write(machine, active.sel, (read(machine, active.sel) >> np.uint64(60)) == window)


@opcode("selp")
def _selp(one: Instruction, kernel: Kernel) -> Run:
    type_ = f"b{8 * size_of(one.type)}"
    a, b = (reader(x, type_, kernel) for x in one.operands[1:3])
    p, write = reader(one.operands[3], "pred", kernel), writer(one.operands[0], type_, kernel)

    def run(machine, active):
        sel = active.sel
        write(machine, sel, np.where(p(machine, sel), a(machine, sel), b(machine, sel)))

    return run


def _count(one: Instruction) -> int:
    return next((int(w[1:]) for w in one.words if w in ("v2", "v4", "v8")), 1)


@opcode("ld")
def _ld(one: Instruction, kernel: Kernel) -> Run:
    if len(one.operands) != 2:  # a cache policy
        raise one.unsupported()
    size, count = size_of(one.type), _count(one)
    place = Place(one.operands[1], one, kernel)
    names = elements(one.operands[0])
    kind = one.type if one.type[0] == "s" else f"b{8 * size}"
    write = [writer(name, kind, kernel) for name in names]
    dtype = SIGNED[size] if kind[0] == "s" else UNSIGNED[size]
    if len(names) != count or size * count not in UNSIGNED:
        raise one.unsupported()

    def run(machine, active):
        values = load(machine, active, place, size * count).view(dtype).reshape(-1, count)
        for k, one_write in enumerate(write):
            one_write(machine, active.sel, np.ascontiguousarray(values[:, k]))

    return run


@opcode("st")
def _st(one: Instruction, kernel: Kernel) -> Run:
    if len(one.operands) != 2:
        raise one.unsupported()
    size, count = size_of(one.type), _count(one)
    place = Place(one.operands[0], one, kernel)
    read = [reader(name, f"b{8 * size}", kernel) for name in elements(one.operands[1])]
    if len(read) != count or size * count not in UNSIGNED:
        raise one.unsupported()

    def run(machine, active):
        values = np.empty((active.n, count), UNSIGNED[size])
        for k, one_read in enumerate(read):
            values[:, k] = one_read(machine, active.sel)
        store(machine, active, place, values.reshape(-1).view(UNSIGNED[size * count]))

    return run
