#!/usr/bin/env python3
"""The table of the CUDA kernels' machine code: made, written, and held against the committed one. Needs no GPU.

    python bench/kernels/table.py             print it
    python bench/kernels/table.py --write     bench/results/kernels.csv and kernels.md
    python bench/kernels/table.py --check     exit status 1 when a kernel spills, uses local memory, streams without
                                              LDG.128, takes more registers or reaches less occupancy than in the table

Compiles csrc/cuda/*.cu for sm_80 and sm_90 with all warnings as errors. `--toolkit FOLDER` gets nvcc and the
disassemblers from PyPI into FOLDER (280 MB, once). Exit status 3: a tool is missing, nothing was checked.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import predict
import rows as table_rows
from machine_code import TARGETS, Kernel, compile_cubin, read
from rows import Row
from toolkit import MissingToolError, Toolkit, fetch, find

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORSE, MISSING = 1, 3


def kernels(toolkit: Toolkit, sources: Sequence[Path], folder: Path, jobs: int) -> list[Kernel]:
    """Of all sources for all targets."""

    def one(task: tuple[Path, str]) -> list[Kernel]:
        source, target = task
        cubin, said = compile_cubin(toolkit, source, target, folder)
        return read(toolkit, cubin, target, said)

    with ThreadPoolExecutor(jobs) as pool:
        found = [k for part in pool.map(one, [(s, t) for t in TARGETS for s in sources]) for k in part]
    twice = [k for i, k in enumerate(found) if (k.name, k.target) in {(x.name, x.target) for x in found[:i]}]
    if twice:
        raise RuntimeError(f"two kernels are called {twice[0].name}: one would hide the other in the table")
    return found


def build(source: Path, folder: Path, *includes: Path) -> Path:
    """A small C++ program, compiled with all warnings as errors."""
    program = folder / source.stem
    command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += [f"-isystem{path}" for path in includes]
    done = subprocess.run([*command, "-o", str(program), str(source)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
    return program


def launches(folder: Path) -> tuple[list[predict.Case], dict[str, predict.Block]]:
    """The named cases and the kernels' blocks, from the launch arithmetic that ships."""
    lines: list[str] = []
    for source in sorted((HERE / "launches").glob("*.cpp")):
        done = subprocess.run([build(source, folder)], capture_output=True, text=True, check=True)
        lines += done.stdout.splitlines()
    return predict.parse(lines)


def occupancy(toolkit: Toolkit, folder: Path, blocks: Sequence[tuple[Kernel, predict.Block]]) -> list[tuple[int, str]]:
    """Blocks a multiprocessor and letters of limits, of kernels in blocks."""
    program = build(HERE / "occupancy.cpp", folder, toolkit.occupancy_header)
    asked = "".join(
        f"{k.target[3:]} {threads or 1} {k.registers} {k.shared} {shared} {k.barriers}\n"
        for k, (threads, shared) in blocks
    )
    done = subprocess.run([program], input=asked, capture_output=True, text=True, check=True)
    answers = [line.split(" ") for line in done.stdout.splitlines()]
    refused = [k.name for (k, _), answer in zip(blocks, answers, strict=True) if answer[0] == "error"]
    if refused:
        raise RuntimeError(f"NVIDIA's occupancy calculator refuses {', '.join(refused)}")
    return [(int(count), letters) for count, letters in answers]


def with_waves(
    toolkit: Toolkit, folder: Path, named: Sequence[predict.Case], found: Sequence[Kernel]
) -> list[predict.Case]:
    """The cases, their launches knowing how often an H100 is filled with their blocks."""
    hopper = {k.name: k for k in found if k.target == "sm_90"}
    known = [x for case in named for x in case.launches if x.kernel in hopper]
    at_a_time = occupancy(toolkit, folder, [(hopper[x.kernel], (x.threads, x.shared)) for x in known])
    waves = {x: -(-x.blocks // max(1, count * predict.SMS)) for x, (count, _) in zip(known, at_a_time, strict=True)}
    return [replace(case, launches=[replace(x, waves=waves.get(x, 1)) for x in case.launches]) for case in named]


def make(toolkit: Toolkit, sources: Path, jobs: int) -> tuple[list[Row], list[predict.Case], list[str]]:
    """Rows, named cases, and faults that no table excuses."""
    listed = sorted(sources.glob("*.cu"))
    if not listed:
        raise RuntimeError(f"no .cu file in {sources}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        named, blocks = launches(folder)
        found = kernels(toolkit, listed, folder, jobs)
        at_a_time = occupancy(toolkit, folder, [(k, blocks.get(k.name, (k.threads, 0))) for k in found])
        named = with_waves(toolkit, folder, named, found)
    rows = [
        table_rows.make(k, blocks.get(k.name), predict.launch_of(k.name, named), filled, toolkit.release)
        for k, filled in zip(found, at_a_time, strict=True)
    ]
    wrong = [
        fault
        for row, kernel in zip(rows, found, strict=True)
        for fault in table_rows.faults(row, blocks.get(kernel.name), kernel.threads)
    ]
    names = {k.name for k in found}
    if sources == ROOT / "csrc" / "cuda":
        said = {x.kernel: f"{x.op}/{x.case} launches" for case in named for x in case.launches}
        said.update({kernel: "a block is said to be of" for kernel in blocks if kernel not in said})
        wrong += [
            f"{what} {kernel}, which no .cu file has: bench/kernels/launches"
            for kernel, what in said.items()
            if kernel not in names
        ]
    return rows, named, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the CSV and the Markdown table")
    what.add_argument("--check", action="store_true", help="compare with the written CSV")
    parser.add_argument("--toolkit", type=Path, metavar="FOLDER", help="get the tools from PyPI into FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="compilers at a time (default 1)")
    parser.add_argument("--sources", type=Path, default=ROOT / "csrc" / "cuda", help="folder of the .cu files")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="folder of the table")
    parsed = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        if parsed.toolkit:
            fetch(parsed.toolkit)
        toolkit = find(parsed.toolkit)
    except MissingToolError as error:
        print(f"SKIPPED, nothing was checked: {error}", file=sys.stderr)
        return MISSING
    try:
        rows, named, wrong = make(toolkit, parsed.sources, parsed.jobs)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return WORSE
    csv_path = parsed.results / "kernels.csv"
    if parsed.write:
        csv_path.write_text(table_rows.to_csv(rows), encoding="utf-8")
        (parsed.results / "kernels.md").write_text(table_rows.markdown(rows, named), encoding="utf-8")
    elif parsed.check:
        if not csv_path.exists():
            wrong.append(f"there is no {csv_path}: --write makes it")
        else:
            before = table_rows.from_csv(csv_path.read_text(encoding="utf-8"))
            wrong += table_rows.worse(rows, before)
            if {row.nvcc for row in before} != {toolkit.release}:
                print(f"registers are not compared: the table was made by another nvcc than {toolkit.release}")
    else:
        print(table_rows.markdown(rows, named), end="")
    for line in wrong:
        print(line, file=sys.stderr)
    took = time.monotonic() - begin
    print(f"{len(rows)} kernels of {len(TARGETS)} targets, nvcc {toolkit.release}, {len(wrong)} faults, {took:.0f} s")
    return WORSE if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
