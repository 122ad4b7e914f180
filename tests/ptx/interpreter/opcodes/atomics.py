"""atom and red: one thread after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..formats import FLOAT, SIGNED, UNSIGNED, size_of
from ..operands import Place, reader, writer
from ..parse import Instruction, Kernel
from .table import Run, opcode

_FUNCTIONS: dict[str, Callable] = {
    "add": lambda old, x: old + x,
    "min": lambda old, x: min(old, x),
    "max": lambda old, x: max(old, x),
    "exch": lambda old, x: x,
    "and": lambda old, x: old & x,
    "or": lambda old, x: old | x,
    "xor": lambda old, x: old ^ x,
    "inc": lambda old, x: 0 if old >= x else old + 1,
    "dec": lambda old, x: x if old == 0 or old > x else old - 1,
    "cas": lambda old, expected, x: x if old == expected else old,
}


@opcode("atom", "red")
def _atom(one: Instruction, kernel: Kernel) -> Run:
    function = _FUNCTIONS[one.pick(tuple(_FUNCTIONS))]
    size, first = size_of(one.type), 0 if one.op == "red" else 1
    if one.type[-2:] == "x2" or one.type in ("f16", "bf16") or one.has("v2", "v4", "v8"):
        raise one.unsupported()
    dtype = {"f": FLOAT, "s": SIGNED}.get(one.type[0], UNSIGNED)[size]
    place = Place(one.operands[first], one, kernel)
    read = [reader(x, one.type, kernel) for x in one.operands[first + 1 :]]
    write = writer(one.operands[0], one.type, kernel) if one.op == "atom" else None

    def run(machine, active):
        space, address = place(machine, active, size)
        values = [np.broadcast_to(r(machine, active.sel), active.n) for r in read]
        shared = machine.shared.touch("atomic", address, size, machine, active) if space == "shared" else None
        before = np.empty(active.n, dtype)
        for k in range(active.n):
            if shared is None:
                memory, index = machine.global_.element(int(address[k]), size, machine, active, k)
            else:
                memory, index = machine.shared.view(size), int(shared[k])
            old = before[k] = memory[index : index + 1].view(dtype)[0]
            memory[index : index + 1] = np.array([function(old, *(v[k] for v in values))], dtype).view(UNSIGNED[size])
        if write:
            write(machine, active.sel, before)

    return run
