"""The table's rows: from kernels to lines, to and from CSV, to Markdown, and what makes a row worse than it was."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from machine_code import Kernel
from predict import CLOCK, COPY, HOST, LAUNCH, PRODUCT64, STEP, Block, Case, Launch
from streaming import reason, streams

WARP = 32
WARPS_OF_SM = {"sm_80": 64, "sm_90": 64}
_LIMITS = {"w": "warps", "r": "registers", "s": "shared memory", "b": "blocks", "n": "barriers"}


@dataclass(frozen=True)
class Row:
    """A kernel for one target, in the order of the columns.

    Attributes:
        kernel, target, nvcc: name, "sm_80", release of the compiler.
        threads, dynamic_shared: its largest block, threads and bytes.
        registers, stack, static_shared, spills: registers and bytes of stack a thread, bytes a block, bytes spilled.
        blocks_per_sm, occupancy, limited_by: blocks and warps (of 64) at a time on a multiprocessor, and why not more.
        instructions, ldg, ldg128_in_loops, stg, lds, sts, local, shfl, bar, atomic, float64, convert: in the code.
        streams: whether it has to load 128 bits at a time, "yes" or "no".
        case, bound, predicted_s: a named case, what bounds the kernel in it, and seconds of a launch on an H100,
            predicted (of sm_90 only).
    """

    kernel: str
    target: str
    nvcc: str
    threads: int
    registers: int
    stack: int
    static_shared: int
    dynamic_shared: int
    spills: int
    blocks_per_sm: int
    occupancy: float
    limited_by: str
    instructions: int
    ldg: int
    ldg128_in_loops: int
    stg: int
    lds: int
    sts: int
    local: int
    shfl: int
    bar: int
    atomic: int
    float64: int
    convert: int
    streams: str
    case: str
    bound: str
    predicted_s: float | None


COLUMNS = tuple(field.name for field in fields(Row))


def make(kernel: Kernel, block: Block | None, launch: Launch | None, occupancy: tuple[int, str], nvcc: str) -> Row:
    """A row; `block` is its largest, `launch` of a named case, `occupancy` what occupancy.cpp says."""
    code, (blocks, letters) = kernel.code, occupancy
    threads, shared = block or (kernel.threads, 0)
    warps = blocks * -(-threads // WARP)
    predicted = launch if kernel.target == "sm_90" else None
    return Row(
        kernel.name, kernel.target, nvcc, threads, kernel.registers, kernel.stack, kernel.shared, shared, kernel.spills,
        blocks, round(warps / WARPS_OF_SM[kernel.target], 3), " and ".join(_LIMITS[x] for x in letters),
        sum(code.opcodes.values()), code.count("LDG", "LDGSTS"), code.wide_loads, code.count("STG"),
        code.count("LDS", "LDSM"), code.count("STS"), code.local, code.count("SHFL", "REDUX"), code.count("BAR"),
        code.count("ATOM", "ATOMG", "ATOMS", "RED"), code.count("DADD", "DMUL", "DFMA", "DSETP"),
        code.count("F2F", "I2F"), {True: "yes", False: "no", None: ""}[streams(kernel.name)],
        f"{predicted.op}/{predicted.case}" if predicted else "", predicted.bound if predicted else "",
        predicted.predicted / predicted.times if predicted else None,
    )  # fmt: skip


def faults(row: Row, block: Block | None, bound: int) -> list[str]:
    """What no kernel may have, whatever the table says. `bound` is the block that it is compiled for."""
    who, found = f"{row.kernel} on {row.target}", []
    if row.spills:
        found.append(f"{who} spills {row.spills} bytes of registers: give it more (__launch_bounds__) or unroll less")
    if row.local or row.stack:
        found.append(
            f"{who} uses local memory ({row.local} LDL and STL, {row.stack} bytes of stack): index by constants"
        )
    if not row.blocks_per_sm:
        found.append(
            f"{who} does not fit on a multiprocessor with {row.threads} threads and {row.dynamic_shared} bytes"
        )
    if row.streams == "yes" and not row.ldg128_in_loops:
        found.append(f"{who} streams, but no loop of it loads 128 bits at a time (LDG.128)")
    if row.streams == "":
        found.append(f"{who} is in neither list of bench/kernels/streaming.py: say whether it streams, and why not")
    if block is None:
        found.append(f"{who} has no block in bench/kernels/launches: say what it is launched with")
    if not bound:
        found.append(f"{who} has no __launch_bounds__")
    elif row.threads > bound:
        found.append(f"{who} is launched with {row.threads} threads, but compiled for {bound}")
    return found


def worse(now: Sequence[Row], before: Sequence[Row]) -> list[str]:
    """What got worse, or is not in the table; registers are compared only where the compiler is of the same release."""
    known = {(row.kernel, row.target): row for row in before}
    here = {(row.kernel, row.target) for row in now}
    found = [
        f"{kernel} on {target} is in the table, but no more in the code"
        for kernel, target in known
        if (kernel, target) not in here
    ]
    for row in now:
        who, old = f"{row.kernel} on {row.target}", known.get((row.kernel, row.target))
        if old is None:
            found.append(f"{who} is not in the table")
            continue
        if row.nvcc == old.nvcc and row.registers > old.registers:
            found.append(f"{who} takes {row.registers} registers, {old.registers} before")
        if row.occupancy < old.occupancy:
            found.append(f"{who} fills {row.occupancy:.0%} of a multiprocessor's warps, {old.occupancy:.0%} before")
        if row.ldg128_in_loops < old.ldg128_in_loops and not row.ldg128_in_loops:
            found.append(f"{who} has lost its 128-bit loads")
    return found


def to_csv(rows: Iterable[Row]) -> str:
    """One header line, one line a row."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row)
        values["predicted_s"] = "" if row.predicted_s is None else f"{row.predicted_s:.3g}"
        writer.writerow(values)
    return text.getvalue()


def from_csv(text: str) -> list[Row]:
    """What `to_csv` wrote; raises ValueError for other columns."""
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError("the table has other columns than this program; write it anew (--write)")
    kinds: dict[str, Callable[[str], object]] = {"str": str, "int": int, "float": float}
    found = []
    for line in reader:
        values = {f.name: kinds[str(f.type)](line[f.name]) for f in fields(Row) if f.name != "predicted_s"}
        predicted = float(line["predicted_s"]) if line["predicted_s"] else None
        found.append(Row(**values, predicted_s=predicted))  # type: ignore[arg-type]
    return found


def seconds(value: float) -> str:
    """With three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    return [_line(head), _line("---" for _ in head), *map(_line, lines)]


def markdown(rows: Sequence[Row], cases: Sequence[Case]) -> str:
    """The document: predictions a case, kernels a target, reasons."""
    releases = sorted({row.nvcc for row in rows})
    lines = [
        "# Machine code of the CUDA kernels",
        "",
        f"Written by `python bench/kernels/table.py --write` (nvcc {', '.join(releases)}, `-O3`, all warnings errors); "
        "`--check` fails when a kernel gets worse than this. Nothing here was measured on a GPU: registers, memory and "
        "opcodes are read from the machine code, occupancy is by NVIDIA's `cuda_occupancy.h`, times are **predicted**.",
        "",
        "## Named cases on an H100",
        "",
        f"Predicted: of each kernel the longest of bytes at {COPY / 1e12:.1f} TB/s (a copy), float64 arithmetic and "
        f"conversions at {CLOCK / 1e9:.3f} GHz, and {STEP * 1e6:.0f} µs for each step that waits for the one before; "
        f"{LAUNCH * 1e6:.0f} µs from kernel to kernel, {HOST * 1e6:.0f} µs of the host for each launch; torch's "
        f"float64 products at {PRODUCT64 / 1e12:.0f} TFLOP/s. "
        "Constants and their sources: `bench/kernels/predict.py`. Floor: the bytes that every exact method known here "
        "moves, at the same bandwidth.",
        "",
    ]
    lines += _table(
        ("case", "launches (kernels and torch)", "bytes", "floor", "predicted", "bound by"),
        (
            (
                f"{case.op} {case.name}", f"{case.launched:.0f}", f"{case.bytes:.3g}", seconds(case.floor),
                seconds(case.predicted), case.bound,
            )
            for case in cases
        ),
    )  # fmt: skip
    lines += ["", "The kernels of each case:", ""]
    lines += _table(
        ("case", "kernel", "launches", "blocks", "threads", "dynamic shared", "bytes", "bound by", "predicted"),
        (
            (
                f"{case.op} {case.name}", f"`{x.kernel}`", f"{x.times:.0f}", x.blocks, x.threads, x.shared,
                f"{x.bytes:.3g}", x.bound, seconds(x.predicted),
            )
            for case in cases
            for x in case.launches
        ),
    )  # fmt: skip
    for target in dict.fromkeys(row.target for row in rows):
        lines += ["", f"## {target}", ""]
        lines += _table(
            (
                "kernel", "threads", "registers", "shared (static + dynamic)", "stack", "spills", "LDL + STL",
                "blocks a multiprocessor", "occupancy", "limited by", "LDG.128 in loops", "of LDG", "instructions",
            ),
            (
                (
                    f"`{row.kernel}`", row.threads, row.registers, f"{row.static_shared} + {row.dynamic_shared}",
                    row.stack, row.spills, row.local, row.blocks_per_sm, f"{row.occupancy:.0%}", row.limited_by,
                    row.ldg128_in_loops, row.ldg, row.instructions,
                )
                for row in rows
                if row.target == target
            ),
        )  # fmt: skip
    lines += [
        "",
        "## Which stream",
        "",
        "Streaming kernels must load 128 bits at a time in a loop; the others say why not.",
        "",
    ]
    lines += _table(
        ("kernel", "streams", "what, or why not"),
        ((f"`{k}`", "yes" if streams(k) else "no", reason(k)) for k in dict.fromkeys(row.kernel for row in rows)),
    )
    return "\n".join(lines) + "\n"
