"""What a cubin says about its kernels: registers, memory, spills and opcodes. Nothing is executed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit import Toolkit

TARGETS = ("sm_80", "sm_90")
FLAGS = (
    "-O3", "-std=c++17", "-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror", "-Xptxas=-v",
)  # fmt: skip

_INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
_WIDE_LOAD = re.compile(r"LDG(\.\w+)*\.128(\.|$)|LDGSTS(\.\w+)*\.128(\.|$)|UBLKCP")  # also the asynchronous copies
_LOCAL = re.compile(r"(LDL|STL)(\.|$)")


@dataclass
class Code:
    """A kernel's machine code.

    Attributes:
        opcodes: how often each stands in it.
        loops: first and last address of the ranges that a branch goes back over.
        instructions: address and opcode.
    """

    opcodes: Counter[str] = field(default_factory=Counter)
    loops: list[tuple[int, int]] = field(default_factory=list)
    instructions: list[tuple[int, str]] = field(default_factory=list)

    @property
    def local(self) -> int:
        """Instructions that read or write local memory."""
        return sum(count for name, count in self.opcodes.items() if _LOCAL.match(name))

    @property
    def wide_loads(self) -> int:
        """128-bit loads from global memory inside loops."""
        return sum(
            1
            for address, name in self.instructions
            if _WIDE_LOAD.match(name) and any(first <= address <= last for first, last in self.loops)
        )

    def count(self, *families: str) -> int:
        """Instructions whose opcode is one of these, with any modifiers."""
        return sum(n for name, n in self.opcodes.items() if name.split(".")[0] in families)


@dataclass
class Kernel:
    """One kernel for one target.

    Attributes:
        name: as in the source, with template arguments and without namespace, e.g. "row_dots<256>".
        target: "sm_80".
        threads: the largest block it is compiled for (__launch_bounds__).
        registers: a thread.
        stack, shared: bytes, a thread and a block (static).
        spills: bytes stored and loaded for want of registers.
        barriers: a block.
        code: machine code.
    """

    name: str
    target: str
    threads: int
    registers: int
    stack: int
    shared: int
    spills: int
    barriers: int
    code: Code


def compile_cubin(toolkit: Toolkit, source: Path, target: str, folder: Path) -> tuple[Path, str]:
    """A cubin and what ptxas said; all warnings are errors, which raise with the compiler's words."""
    cubin = folder / f"{source.stem}.{target}.cubin"
    command = [toolkit.nvcc, *FLAGS, f"-arch={target}", "-cubin", "-o", cubin, source]
    done = subprocess.run([str(x) for x in command], capture_output=True, text=True, env=toolkit.environment)
    said = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile for {target} without warnings:\n{said}")
    return cubin, said


def read(toolkit: Toolkit, cubin: Path, target: str, ptxas: str) -> list[Kernel]:
    """All kernels of a cubin, by name."""

    def tool(option: str) -> str:
        command = [str(toolkit.cuobjdump), option, str(cubin)]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=toolkit.environment).stdout

    usage, code = parse_usage(tool("--dump-resource-usage")), parse_code(tool("-sass"))
    bounds, spilled = parse_bounds(tool("-elf")), parse_ptxas(ptxas)
    if not usage or set(usage) - set(code):
        raise RuntimeError(f"{cubin.name}: cuobjdump lists the kernels {sorted(usage)} and the code of {sorted(code)}")
    names = demangle(usage)
    found = []
    for symbol, used in usage.items():
        if symbol not in spilled or spilled[symbol].registers != used["REG"]:
            raise RuntimeError(
                f"{names[symbol]}: ptxas and cuobjdump do not agree on {target}: {spilled.get(symbol)}, {used}"
            )
        found.append(
            Kernel(
                names[symbol], target, bounds.get(symbol, 0), used["REG"], used["STACK"], spilled[symbol].shared,
                spilled[symbol].spills, spilled[symbol].barriers, code[symbol],
            )
        )  # fmt: skip
    return sorted(found, key=lambda k: k.name)


def parse_usage(text: str) -> dict[str, dict[str, int]]:
    """From `cuobjdump --dump-resource-usage`: REG, STACK, SHARED, LOCAL of every kernel, by its symbol."""
    found: dict[str, dict[str, int]] = {}
    symbol = ""
    for line in text.splitlines():
        if named := re.match(r"\s*Function (\S+):\s*$", line):
            symbol = named[1]
        elif symbol and "REG:" in line:
            found[symbol] = {key: int(value) for key, value in re.findall(r"\b([A-Z]+):(\d+)", line)}
            symbol = ""
    return found


def parse_code(text: str) -> dict[str, Code]:
    """From `cuobjdump -sass`: the code of every kernel, by its symbol."""
    found: dict[str, Code] = {}
    code = None
    for line in text.splitlines():
        if named := re.search(r"Function : (\S+)", line):
            code = found.setdefault(named[1], Code())
        elif code is not None and (instruction := _INSTRUCTION.match(line)):
            address, name, operands = int(instruction[1], 16), instruction[2], instruction[3]
            code.opcodes[name] += 1
            code.instructions.append((address, name))
            if name.split(".")[0] == "BRA":
                to = re.findall(r"0x([0-9a-f]+)", operands)
                if to and int(to[-1], 16) < address:  # the branch to itself at the end of all code is no loop
                    code.loops.append((int(to[-1], 16), address))
    return found


def parse_bounds(text: str) -> dict[str, int]:
    """From `cuobjdump -elf`: threads of the largest block of every kernel that has __launch_bounds__, by symbol."""
    found: dict[str, int] = {}
    symbol, attribute = "", ""
    for line in text.splitlines():
        if section := re.match(r"\s*\.nv\.info\.(\S+)\s*$", line):
            symbol = section[1]
        elif re.match(r"\s*\.\w", line):
            symbol = ""
        elif named := re.match(r"\s*Attribute:\s*(\S+)", line):
            attribute = named[1]
        elif symbol and attribute == "EIATTR_MAX_THREADS" and (value := re.match(r"\s*Value:\s*(.+)", line)):
            sides = [int(x, 16) for x in re.findall(r"0x([0-9a-f]+)", value[1])]
            found[symbol] = sides[0] * sides[1] * sides[2]
            attribute = ""
    return found


@dataclass(frozen=True)
class Compiled:
    """What ptxas says of a kernel: registers a thread, bytes spilled, barriers and static shared bytes a block.

    Shared memory is taken from here: cuobjdump adds the 1 KB of each block that is the driver's on sm_90.
    """

    registers: int
    spills: int
    barriers: int
    shared: int


def parse_ptxas(text: str) -> dict[str, Compiled]:
    """From `ptxas -v`, by symbol."""
    found: dict[str, Compiled] = {}
    symbol, spills = "", 0
    for line in text.splitlines():
        if named := re.search(r"(?:Compiling entry function|Function properties for) '?([\w$.]+)'?", line):
            symbol = named[1]
        elif spilled := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spills = int(spilled[1]) + int(spilled[2])
        elif symbol and (used := re.search(r"Used (\d+) registers", line)):
            barriers = re.search(r"used (\d+) barriers", line)
            shared = re.search(r"(\d+) bytes smem", line)
            found[symbol] = Compiled(
                int(used[1]), spills, int(barriers[1]) if barriers else 0, int(shared[1]) if shared else 0
            )
            symbol, spills = "", 0
    return found


def demangle(symbols: Iterable[str]) -> dict[str, str]:
    """Names as in the source: no return type, no namespace of ours, no parameters."""
    listed = list(symbols)
    program = shutil.which("c++filt")
    if program is None:
        raise RuntimeError("c++filt was not found; it comes with binutils")
    done = subprocess.run([program], input="\n".join(listed), capture_output=True, text=True, check=True)
    return {symbol: short_name(name) for symbol, name in zip(listed, done.stdout.splitlines(), strict=True)}


def short_name(name: str) -> str:
    """Without what is the same for all: `void dq_fast::f<float, (int)4>(float*)` is `f<float, 4>`."""
    name = re.sub(r"\(anonymous namespace\)::", "", name)
    name = re.sub(r"\((?:unsigned )?(?:int|bool|long|char)\)(?=-?\d)", "", name)  # casts of template arguments
    depth, end = 0, len(name)
    for i, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            end = i
            break
    name = name[:end]
    depth, begin = 0, 0
    for i, letter in enumerate(name):  # the return type of a template ends with the first space outside brackets
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == " " and depth == 0:
            begin = i + 1
    return re.sub(r"\bdq_fast::", "", name[begin:])
