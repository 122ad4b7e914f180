"""Builds the kernels of csrc/cuda for the CPU: the test-only module `_cuda_emulated`, and the emulator's own tests.

`shared_library()` compiles csrc/cuda/*.cu, csrc/cuda/bind_*.cpp and csrc/bind_cuda.cpp with g++ against the emulator in
this folder, so a new op is picked up by itself. Objects and libraries are kept in a folder under the system's temporary
one, named by a hash of all that went into them: a change in one .cu compiles that file only, and a second run nothing.
No CUDA toolkit is needed: the emulator has its own types.

A cold build is most of what these tests cost, so: headers are precompiled; what only hands addresses on to the kernels
(the bindings, which are all of pybind11) is compiled once, without a sanitizer, and linked last, so that it adds no
uninstrumented copy of anything the kernels use; and a planted fault compiles the one source it is in, unoptimised.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"

MODULE = "_cuda_emulated"

SANITIZERS = {
    "plain": (),
    "address": ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "thread": ("-fsanitize=thread",),
}
SANITIZE = "DQ_FAST_EMULATOR_SANITIZE"  # one of SANITIZERS: which build the fixture loads (sanitized.py sets it)
JOBS = "DQ_FAST_EMULATOR_JOBS"  # compilers at a time
STALE = "DQ_FAST_EMULATOR_STALE"  # 1: a source that does not compile (someone is editing it) counts as it last did
KEEP_SECONDS = 5 * 24 * 3600  # objects not used for so long are removed

FLAGS = (
    *("-std=c++20", "-fPIC", "-fno-omit-frame-pointer", "-ffp-contract=off"),
    # kernels' names are looked up at run time; two builds of one kernel in a process must not share anything
    *("-fvisibility=default", "-fno-gnu-unique"),
    *("-Wall", "-Wno-unknown-pragmas", "-Wno-attributes"),
    *("-DDQ_FAST_EMULATED", f"-DDQ_FAST_CUDA_MODULE={MODULE}"),
)
OFTEN_RUN = ("-O1", "-g1")  # the shipped kernels and the emulator: thousands of launches
SELDOM_RUN = ("-O0", "-g1")  # one short case, if any: compiling it is what takes time
BINDINGS = ("-O0", "-g0")

# What is compiled before a source, once for all of them. The shipped sources include it anyway.
PRELUDES = {
    "kernels": '#include "cuda_emu.hpp"\n',
    "bindings": "".join(f"#include <pybind11/{name}.h>\n" for name in ("functional", "pybind11", "stl"))
    + '#include "cuda_emu.hpp"\n',
}


class CannotBuild(Exception):
    """This machine lacks a tool; the text says which."""


class BuildFailed(RuntimeError):
    """The compiler refused a source; the text is what it said."""


@cache
def compiler() -> str:
    """The C++ compiler: g++ with C++20."""
    path = shutil.which("g++")
    if path is None:
        raise CannotBuild("needs g++ with C++20 to run the CUDA kernels on the CPU")
    probe = "#include <source_location>\nint main() { return int(std::source_location::current().line()) - 2; }\n"
    command = [path, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
    done = subprocess.run(command, input=probe, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"needs g++ with C++20 to run the CUDA kernels on the CPU; {path} has not all of it")
    return path


@cache
def _identity() -> str:
    command = [compiler(), "-v"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return "\n".join([said, sys.version, str(python_headers())])


@cache
def python_headers() -> tuple[Path, ...]:
    """Folders of the headers of Python and pybind11, which torch has too."""
    for package, folder in (("pybind11", "include"), ("torch", "include")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            include = Path(spec.submodule_search_locations[0]) / folder
            if (include / "pybind11").is_dir():
                return Path(sysconfig.get_paths()["include"]), include
    raise CannotBuild("needs the headers of pybind11: pip install pybind11")


@cache
def folder() -> Path:
    """Where objects and libraries are kept: this user's alone."""
    path = Path(tempfile.gettempdir()) / f"dq_fast-emulator-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise CannotBuild(f"{path} belongs to someone else")
    for old in path.iterdir():
        with contextlib.suppress(OSError):  # another session's clean-up was quicker
            if time.time() - old.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
    return path


_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def sources_of(source: Path, include: Sequence[Path]) -> list[Path]:
    """The file and all it includes with quotes, at any depth; under conditions too."""
    found, todo = {source: None}, [source]
    while todo:
        file = todo.pop()
        for name in _INCLUDE.findall(file.read_text()):
            header = next(
                (at for at in ((where / name).resolve() for where in (file.parent, *include)) if at.is_file()), None
            )
            if header is not None and header not in found:
                found[header] = None
                todo.append(header)
    return sorted(found)


def _texts(sources: Sequence[Path]) -> list[str]:
    """What the hash of an object has of its sources: not where they lie, so that copies of a source share objects."""
    return sorted({_hash(file.read_bytes()) for file in sources})


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def made_once(path: Path) -> Iterator[Path | None]:
    """A temporary file that becomes `path`, or None where that exists; one process at a time makes it."""
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            os.utime(path)
            yield None
            return
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            yield unfinished
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _headers(include: Sequence[Path]) -> list[str]:
    return [f"-I{at}" for at in include] + [f"-isystem{at}" for at in python_headers()]


def _prelude(name: str, flags: Sequence[str]) -> Path:
    """A header that is precompiled for these flags (the compiler takes NAME.gch for NAME)."""
    text = PRELUDES[name]
    emulator = sources_of(HERE / "cuda_emu.hpp", [HERE])
    home = folder() / f"{name}-{_hash(_identity(), *flags, text, *_texts(emulator))}"
    home.mkdir(exist_ok=True)
    os.utime(home)
    header = home / "prelude.hpp"
    with made_once(home / "prelude.hpp.gch") as target:
        if target is not None:
            header.write_text(text)
            _run([compiler(), *flags, *_headers([HERE]), "-x", "c++-header", str(header), "-o", str(target)])
    return header


def compiled(source: Path, flags: Sequence[str], include: Sequence[Path], prelude: str = "kernels") -> Path:
    """The object file of a source."""
    flags = [*FLAGS, *flags]
    key = _hash(_identity(), *flags, PRELUDES[prelude], *_texts(sources_of(source.resolve(), include)))
    family = f"{source.stem}-{_hash(*flags)[:8]}"
    path = folder() / f"{family}-{key}.o"
    try:
        with made_once(path) as target:
            if target is not None:
                before = ["-include", str(_prelude(prelude, flags))]
                words = [*flags, *before, *_headers(include), "-x", "c++", "-c", str(source), "-o", str(target)]
                _run([compiler(), *words])
    except BuildFailed:
        before = sorted(folder().glob(f"{family}-*.o"), key=lambda it: it.stat().st_mtime)
        if os.environ.get(STALE) != "1" or not before or CSRC not in source.parents:
            raise
        warnings.warn(f"{source} does not compile; the last version that did is used", stacklevel=2)
        return before[-1]
    return path


def jobs() -> int:
    """How many compilers run at a time."""
    return int(os.environ.get(JOBS) or min(4, os.cpu_count() or 1))


def objects(
    sources: Sequence[Path], flags: Sequence[str], include: Sequence[Path], prelude: str = "kernels"
) -> list[Path]:
    """The object files of some sources, several compilers at a time."""
    with ThreadPoolExecutor(jobs()) as pool:
        return list(pool.map(lambda source: compiled(source, flags, include, prelude), sources))


def linked(parts: Sequence[Path], kind: str, name: str) -> Path:
    """A shared library (a name in .so) or a program of some objects; of what several have, it takes the first one's."""
    key = _hash(_identity(), name, kind, *(at.name for at in parts))
    home = folder() / f"{kind}-{key}"  # a folder of its own: the module's file must have the module's name
    home.mkdir(exist_ok=True)
    os.utime(home)
    path = home / name
    with made_once(path) as target:
        if target is not None:
            shared = ["-shared"] if name.endswith(".so") else ["-rdynamic"]  # a kernel's name is looked up
            options = [*SANITIZERS[kind], *shared, *(str(at) for at in parts), "-o", str(target), "-ldl"]
            _run([compiler(), *options])
    return path


def _emulator(kind: str) -> list[Path]:
    sources = sorted(path for path in (HERE / "emu").glob("*.cpp") if path.name != "module.cpp")
    return objects(sources, [*OFTEN_RUN, *SANITIZERS[kind]], [HERE])


def shared_library(kind: str = "plain", *, faulty: Path | None = None) -> Path:
    """The library with the two modules MODULE (the shipped kernels) and `_emulator` (settings, what was launched).

    `faulty`: csrc/cuda/SOURCE.cu of a copy, which takes the place of the shipped SOURCE.cu.
    """
    cuda = CSRC / "cuda"
    kernels, bindings = sorted(cuda.glob("*.cu")), [*sorted(cuda.glob("bind_*.cpp")), CSRC / "bind_cuda.cpp"]
    if not bindings[-1].is_file():
        raise CannotBuild("needs a checkout: the kernels' sources are not beside these tests")
    parts = []
    if faulty is not None:
        parts.append(compiled(faulty, [*SELDOM_RUN, *SANITIZERS[kind]], [HERE, faulty.parent, faulty.parents[1]]))
        kernels = [source for source in kernels if source.name != faulty.name]
    parts += objects(kernels, [*OFTEN_RUN, *SANITIZERS[kind]], [HERE, cuda, CSRC])
    parts += _emulator(kind)
    parts += objects([*bindings, HERE / "emu" / "module.cpp"], BINDINGS, [HERE, cuda, CSRC], "bindings")
    return linked(parts, kind, f"{MODULE}.so")


def units(kind: str = "plain", *, faulty: Path | None = None) -> Path:
    """The program of the emulator's own tests; `faulty` takes the place of the unit of that name."""
    sources = sorted((HERE / "units").glob("*.cpp"))
    flags = [*SELDOM_RUN, *SANITIZERS[kind]]
    parts = []
    if faulty is not None:
        parts.append(compiled(faulty, flags, [HERE]))
        sources = [source for source in sources if source.name != faulty.name]
    return linked([*parts, *objects(sources, flags, [HERE]), *_emulator(kind)], kind, "units")


@cache
def load(library: Path) -> tuple[ModuleType, ModuleType]:
    """The two modules of a library: kernels and emulator."""
    return _load(MODULE, library), _load("_emulator", library)


def _load(name: str, library: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(name, str(library))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
