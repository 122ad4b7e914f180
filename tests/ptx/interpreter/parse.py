"""Reads PTX text: kernels with their parameters, registers, variables, labels and instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import PtxError
from .formats import UNSIGNED, encode, size_of

ENDS_BLOCK = frozenset({"bra", "brx", "ret", "exit", "bar", "barrier", "trap"})  # what can stop or part threads

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{;]*)\{")
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.(?:global|shared|const|local)\s+)?(?:\.align\s+\d+\s+)?)?"
    r"([\w$]+)\s*(?:\[(\d+)\])?"
)
_VARIABLE = re.compile(
    r"\.(shared|global|const|local)\s+(?:\.attribute\([^)]*\)\s*)?(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$.]+)\s*"
    r"(\[(\d*)\])?\s*(?:=\s*(\{[^}]*\}|[^;,]+))?\s*;"
)
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+([^;]+);")
_INSTRUCTION = re.compile(r"(?:@(!?)(%?[\w$]+)\s+)?([\w.:]+)\s*(.*)$")


@dataclass(frozen=True)
class Instruction:
    """One instruction: `@!%p1 ld.global.v2.f32 {%f1, %f2}, [%rd1+8]`.

    op is its first word, words all of them, type the last; guard the predicate's name or None.
    """

    op: str
    words: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str | None
    negated: bool
    text: str

    @property
    def type(self) -> str:
        return self.words[-1]

    def has(self, *words: str) -> bool:
        return any(w in self.words for w in words)

    def pick(self, words: dict[str, object] | tuple[str, ...], default: str | None = None) -> str:
        """The one of these words that the instruction has."""
        for w in self.words[1:]:
            if w in words:
                return w
        if default is None:
            raise self.unsupported()
        return default

    def unsupported(self) -> PtxError:
        return PtxError("instruction not supported: " + self.text)


@dataclass(frozen=True)
class Variable:
    """A variable in shared, local, global or const memory; extern: as long as the launch says."""

    space: str
    size: int
    align: int
    extern: bool
    initial: np.ndarray | None


@dataclass
class Kernel:
    """A parsed entry."""

    name: str
    max_threads: int | None
    parameters: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> offset and size in bytes
    parameter_bytes: int = 0
    registers: dict[str, str] = field(default_factory=dict)  # name -> type
    variables: dict[str, Variable] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    targets: dict[str, list[str]] = field(default_factory=dict)  # of brx.idx
    code: list[Instruction] = field(default_factory=list)
    leaders: frozenset[int] = frozenset()  # instructions where another basic block begins
    program: list[Any] = field(default_factory=list)  # the instructions as opcodes.compile_kernel made them
    unread: str | None = None  # the body, until `read`

    def read(self) -> Kernel:
        """This kernel with its body parsed: a file has many that nobody launches."""
        if self.unread is not None:
            body, self.unread = self.unread, None
            _body(self, body)
        return self


@dataclass
class Module:
    """A PTX file."""

    kernels: dict[str, Kernel]
    variables: dict[str, Variable]

    def find(self, plain: str) -> str:
        """The one kernel whose mangled name holds this plain one."""
        names = [name for name in self.kernels if name == plain or f"{len(plain)}{plain}" in name]
        if len(names) != 1:
            raise PtxError(f"{len(names)} kernels are called {plain}: {names or sorted(self.kernels)}")
        return names[0]


def parse(text: str) -> Module:
    """Read a PTX file."""
    text = _COMMENT.sub("", text)
    kernels, outside, end = {}, [], 0
    for match in _ENTRY.finditer(text):
        close = _closing(text, match.end())
        limit = re.search(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", match[3])
        threads = int(np.prod([int(x or 1) for x in limit.groups()])) if limit else None
        kernel = Kernel(match[1], threads)
        _parameters(kernel, match[2])
        kernel.unread = text[match.end() : close]
        kernels[kernel.name] = kernel
        outside.append(text[end : match.start()])
        end = close
    return Module(kernels, _variables("".join([*outside, text[end:]]))[0])


def _closing(text: str, at: int) -> int:
    depth = 1
    for brace in re.finditer(r"[{}]", text[at:]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return at + brace.start()
    raise PtxError("a kernel's body does not end")


def _parameters(kernel: Kernel, text: str) -> None:
    offset = 0
    for one in filter(str.strip, text.split(",")):
        match = _PARAMETER.match(one.strip())
        if not match:
            raise PtxError("cannot parse the parameter " + one.strip())
        size = size_of(match[2]) * int(match[4] or 1)
        align = int(match[1] or size_of(match[2]))
        offset = -(-offset // align) * align
        kernel.parameters[match[3]] = (offset, size)
        offset += size
    kernel.parameter_bytes = offset


def _variables(text: str) -> tuple[dict[str, Variable], str]:
    """Declared variables, and the text without them."""
    found = {}
    for space, align, type_, name, array, count, initial in _VARIABLE.findall(text):
        size, extern = size_of(type_), bool(array) and not count
        values = None
        if initial:
            numbers = np.zeros(int(count or 1), UNSIGNED[size])
            for k, word in enumerate(w.strip() for w in initial.strip("{} ").split(",")):
                numbers[k] = literal(word, size)
            values = numbers.view(np.uint8)
        elif extern and space != "shared":
            raise PtxError(f"{name} is not defined in this file")
        found[name] = Variable(space, size * int(count or (0 if extern else 1)), int(align or size), extern, values)
    return found, _VARIABLE.sub("", text)


def _body(kernel: Kernel, text: str) -> None:
    for type_, names in _REGISTERS.findall(text):
        for name in names.split(","):
            several = re.match(r"\s*(%?[\w$]+)<(\d+)>", name)
            all_ = [f"{several[1]}{k}" for k in range(int(several[2]))] if several else [name.strip()]
            for n in all_:
                if kernel.registers.setdefault(n, type_) != type_:
                    raise PtxError(f"register {n} is declared with two types")
    kernel.variables, text = _variables(_REGISTERS.sub("", text))
    text = re.sub(r"\.(?:loc|file|section)\b[^\n]*", "", re.sub(r"\.pragma[^;]*;", "", text))
    for match in re.finditer(r"([\w$]+)\s*:\s*\.branchtargets\s+([^;]+);", text):
        kernel.targets[match[1]] = [name.strip() for name in match[2].split(",")]
    text = re.sub(r"[\w$]+\s*:\s*\.branchtargets\s+[^;]+;", "", text)
    for statement in _statements(text):
        while match := re.match(r"([\w$]+)\s*:(?!:)\s*(.*)", statement):
            kernel.labels[match[1]] = len(kernel.code)
            statement = match[2]
        if statement:
            kernel.code.append(_instruction(statement))
    after = {k + 1 for k, one in enumerate(kernel.code) if one.op in ENDS_BLOCK}
    kernel.leaders = frozenset(after | set(kernel.labels.values()))


def _statements(text: str) -> Iterator[str]:
    """What stands between semicolons; braces that open a scope instead of a list of registers are dropped."""
    current = ""
    for ch in text:
        if ch in "{}" and (not current.strip() or re.fullmatch(r"\s*(?:[\w$]+\s*:\s*)+", current)):
            continue
        if ch == ";":
            yield " ".join(current.split())
            current = ""
        else:
            current += ch
    if current.strip():
        yield " ".join(current.split())


def _instruction(text: str) -> Instruction:
    match = _INSTRUCTION.match(text)
    if not match:
        raise PtxError("cannot parse: " + text)
    words = tuple(match[3].split("."))
    return Instruction(words[0], words, tuple(split(match[4])), match[2], bool(match[1]), text)


def split(text: str) -> list[str]:
    """Operands: what stands between commas outside of brackets."""
    parts, depth, current = [], 0, ""
    for ch in text:
        depth += (ch in "{[(") - (ch in "}])")
        if ch == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += ch
    return [*parts, current.strip()] if current.strip() else parts


def literal(word: str, size: int) -> int:
    """The bits, in `size` bytes, of a number as PTX writes it: 12, -1, 0x1fU, 0f3F800000, 0d3FF0000000000000, 1.5."""
    if match := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", word):
        bits = int(match[1], 16)
        if size == 8:
            bits = int(encode(np.array([bits], np.uint32).view(np.float32).astype(np.float64), "f64")[0])
    elif match := re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", word):
        bits = int(match[1], 16)
        if size == 4:
            bits = int(encode(np.array([bits], np.uint64).view(np.float64), "f32")[0])
    elif re.fullmatch(r"[-+]?\d+\.\d*(?:[eE][-+]?\d+)?", word):
        bits = int(encode(np.array([float(word)]), f"f{8 * size}")[0])
    else:
        try:
            bits = int(word.rstrip("U"), 0)
        except ValueError:
            raise PtxError(f"not a register, variable or number: {word}") from None
    return bits & ((1 << (8 * size)) - 1)
