"""Runs a few lines of PTX on arrays, a thread a number: what the tests of single instructions need."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .interpreter import Machine, parse

# .version and .target say nothing to the interpreter; they make the text a whole PTX file.
HEAD = ".version 8.7\n.target sm_90\n.address_size 64\n"
SCRATCH = """
    .reg .pred %p<8>;
    .reg .b16 %h<16>;
    .reg .b32 %r<32>;
    .reg .b64 %w<16>;
"""


def machine(text: str, *arrays: np.ndarray, **options) -> Machine:
    """A machine for a PTX text whose kernels may touch these arrays."""
    it = Machine(parse(HEAD + text), **options)
    it.ranges = lambda: [(a.ctypes.data, a.nbytes) for a in arrays]
    return it


def pointer(array: np.ndarray) -> bytes:
    """A kernel's argument."""
    return array.ctypes.data.to_bytes(8, "little")


def run(
    body: str,
    *inputs: np.ndarray,
    out: np.dtype | type,
    threads: int | None = None,
    blocks: int = 1,
    outside: str = "",
    shared_bytes: int = 0,
    order: int | None = None,
    hazards: bool = True,
) -> np.ndarray:
    """One number a thread from a snippet that finds its inputs in %a, %b, %c, %d and leaves the result in %o.

    Registers are as wide as the numbers (16 bits for bytes). %p0-7 (predicates), %h, %r, %w (16, 32, 64 bits) are free,
    %i is the thread's number, %pa ... the inputs' addresses, %po its result's. `outside` stands before the kernel.
    """
    names = "abcd"[: len(inputs)]
    inputs = tuple(np.ascontiguousarray(x) for x in inputs)
    threads = len(inputs[0]) // blocks if threads is None else threads
    result = np.zeros(threads * blocks, out)
    wide = {name: 8 * max(x.dtype.itemsize, 2) for name, x in zip((*names, "o"), (*inputs, result), strict=True)}
    declared = "".join(f".reg .b{bits} %{name}; .reg .b64 %p{name};\n" for name, bits in wide.items())
    load = "".join(
        f"ld.param.u64 %pa_, [p_{name}]; mul.wide.u32 %w0, %i, {x.dtype.itemsize}; add.s64 %p{name}, %pa_, %w0;\n"
        f"ld.global.{'u' if x.dtype.itemsize == 1 else 'b'}{8 * x.dtype.itemsize} %{name}, [%p{name}];\n"
        for name, x in zip(names, inputs, strict=True)
    )
    size = result.dtype.itemsize
    parameters = ", ".join(f".param .u64 p_{name}" for name in (*names, "o"))
    text = f"""{outside}
.visible .entry snippet({parameters})
{{
    {SCRATCH}
    .reg .b32 %i, %n;
    .reg .b64 %pa_;
    {declared}
    mov.u32 %i, %ctaid.x;
    mov.u32 %n, %ntid.x;
    mul.lo.u32 %i, %i, %n;
    mov.u32 %n, %tid.x;
    add.u32 %i, %i, %n;
    ld.param.u64 %pa_, [p_o]; mul.wide.u32 %w0, %i, {size}; add.s64 %po, %pa_, %w0;
    {load}
    {body}
    st.global.{"u" if size == 1 else "b"}{8 * size} [%po], %o;
    ret;
}}
"""
    it = machine(text, *inputs, result, order=order, hazards=hazards)
    arguments = [pointer(x) for x in (*inputs, result)]
    it.launch("snippet", (blocks,), (threads,), arguments, shared_bytes=shared_bytes)
    return result


def bits(values: Sequence[int], dtype: np.dtype | type) -> np.ndarray:
    """Whole numbers, wrapped, in an integer dtype."""
    size = np.dtype(dtype).itemsize
    unsigned = np.array([int(v) & ((1 << 8 * size) - 1) for v in values], f"u{size}")
    return unsigned.view(dtype)
