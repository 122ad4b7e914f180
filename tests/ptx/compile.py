"""PTX of the shipped kernels: nvcc -O3 -ptx on csrc/cuda/*.cu, for the two targets that are built.

nvcc is that of CUDA_HOME, of the PATH, or of the wheels on PyPI (WHEELS) in this Python's packages. The PTX is kept
in a folder under the system's temporary one by a hash of compiler, flags and sources, so a second run compiles nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

from ..cuda_emulator.build import made_once, sources_of
from .interpreter import Module, parse

CSRC = Path(__file__).resolve().parents[2] / "csrc"
TARGETS = ("compute_80", "compute_90")
WHEELS = tuple(f"nvidia-{x}==13.0.*" for x in ("cuda-nvcc", "cuda-crt", "cuda-runtime", "cuda-cccl", "nvvm"))
FLAGS = ("-O3", "-std=c++17", "-DNDEBUG", "-ptx")
JOBS = "DQ_FAST_PTX_JOBS"  # compilers at a time


class CannotCompile(Exception):
    """There is no nvcc; the text says how to get it."""


@cache
def nvcc() -> Path:
    """The compiler."""
    candidates = [Path(os.environ["CUDA_HOME"]) / "bin" / "nvcc"] if os.environ.get("CUDA_HOME") else []
    if found := shutil.which("nvcc"):
        candidates.append(Path(found))
    packages = [Path(p) for p in sys.path if p]
    candidates += [p / sub / "nvcc" for p in packages for sub in ("nvidia/cu13/bin", "nvidia/cuda_nvcc/bin")]
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise CannotCompile(f"needs nvcc to compile the kernels to PTX: pip install {' '.join(WHEELS)}")


@cache
def _identity() -> str:
    return subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout


@cache
def _folder() -> Path:
    path = Path(tempfile.gettempdir()) / f"dq_fast-ptx-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise CannotCompile(f"{path} belongs to someone else")
    return path


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(int(os.environ.get(JOBS) or min(2, os.cpu_count() or 1)))


_asked: dict[Path, Future[None]] = {}


def ask(source: Path, target: str, csrc: Path) -> tuple[Path, Future[None]]:
    """Compile a source for a target, with the headers of csrc, in the background: its file, and when it is there."""
    folders = [csrc / "cuda", csrc]
    digest = hashlib.sha256("\n".join([_identity(), *FLAGS, target]).encode())
    for path in sorted(sources_of(source.resolve(), folders), key=lambda p: p.name):  # what it includes, at any depth
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    out = _folder() / f"{source.stem}-{target}-{digest.hexdigest()[:24]}.ptx"
    if out not in _asked:
        include = [f"-I{folder}" for folder in folders]
        command = [str(nvcc()), *FLAGS, f"-arch={target}", *include, str(source)]
        _asked[out] = _pool().submit(_compile, command, out)
    return out, _asked[out]


def _compile(command: list[str], out: Path) -> None:
    with made_once(out) as unfinished:  # by one of the processes of tests
        if unfinished is None:
            return
        done = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def ptx_of(source: Path, target: str, csrc: Path = CSRC) -> str:
    """The PTX of one source for a target; RuntimeError with nvcc's words."""
    out, compiled = ask(source, target, csrc)
    compiled.result()
    return out.read_text()


class Library:
    """The kernels of a csrc folder for one target; a source is compiled when a kernel of it is asked for."""

    def __init__(self, target: str, csrc: Path = CSRC) -> None:
        self.target, self.csrc = target, csrc
        self.sources = sorted((csrc / "cuda").glob("*.cu"))
        self._modules: dict[Path, Module] = {}

    def module(self, source: Path) -> Module:
        """The parsed PTX of a source."""
        if source not in self._modules:
            self._modules[source] = parse(ptx_of(source, self.target, self.csrc))
        return self._modules[source]

    def module_with(self, kernel: str) -> Module:
        """The module that has a kernel of this mangled name; LookupError if none has."""
        for module in self._modules.values():
            if kernel in module.kernels:
                return module
        for source in self.sources:
            texts = (path.read_text() for path in sources_of(source.resolve(), [self.csrc / "cuda", self.csrc]))
            if any(f" {plain(kernel)}(" in text for text in texts) and kernel in self.module(source).kernels:
                return self.module(source)
        raise LookupError(f"{kernel} is in none of {[source.name for source in self.sources]}")

    def ask(self, file: str = "") -> None:
        """Begin to compile, in the background: all sources, or those that include a file of csrc/cuda."""
        for source in self.sources:
            included = sources_of(source.resolve(), [self.csrc / "cuda", self.csrc])
            if not file or (self.csrc / "cuda" / file).resolve() in included:
                ask(source, self.target, self.csrc)

    def kernels(self) -> set[str]:
        """Mangled names of all kernels, everything compiled."""
        self.ask()
        return {name for source in self.sources for name in self.module(source).kernels}


def plain(kernel: str) -> str:
    """Name of a kernel without namespaces and template arguments: `_ZN7dq_fast8row_dotsILi256EEEvPKf` is row_dots."""
    rest, name = kernel.removeprefix("_ZN").removeprefix("_Z"), kernel
    while match := re.match(r"(\d+)", rest):
        end = match.end() + int(match[1])
        name, rest = rest[match.end() : end], rest[end:]
    return name
