"""float16 and bfloat16, alone or two in 32 bits: computed in float64, rounded once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..formats import UNSIGNED, Array, decode, encode, halves, join, odd_sum, size_of
from ..operands import reader, writer
from ..parse import Instruction, Kernel
from .floating import extreme
from .table import Run


def build(one: Instruction, kernel: Kernel) -> Run:
    """add, sub, mul, fma, min, max, abs, neg."""
    if one.has("ftz", "xorsign", "relu", "sat", "rz", "rm", "rp"):
        raise one.unsupported()
    bits = f"b{8 * size_of(one.type)}"
    read = [reader(x, bits, kernel) for x in one.operands[1:]]
    write = writer(one.operands[0], bits, kernel)
    if one.op in ("abs", "neg"):
        top = 0x8000 if size_of(one.type) == 2 else 0x80008000
        mask = UNSIGNED[size_of(one.type)].type(top)
        if one.op == "neg":
            return lambda machine, active: write(machine, active.sel, read[0](machine, active.sel) ^ mask)
        return lambda machine, active: write(machine, active.sel, read[0](machine, active.sel) & ~mask)
    function: Callable[..., Array] = {
        "add": odd_sum,
        "sub": lambda a, b: odd_sum(a, -b),
        "mul": np.multiply,
        "fma": lambda a, b, c: odd_sum(a * b, c),
        "min": extreme(one),
        "max": extreme(one),
    }[one.op]
    type_ = one.type.removesuffix("x2")

    def compute(*values: Array) -> Array:
        return encode(function(*(decode(v, type_).astype(np.float64) for v in values)), type_)

    def run(machine, active):
        values = [r(machine, active.sel) for r in read]
        if one.type == type_:
            result = compute(*values)
        else:
            pairs = [halves(v) for v in values]
            result = join(compute(*(p[0] for p in pairs)), compute(*(p[1] for p in pairs)))
        write(machine, active.sel, result)

    return run
