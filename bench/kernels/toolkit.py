"""NVIDIA's compiler and disassemblers: those of the machine, or the wheels on PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

RELEASE = "13.0"
"""The release that the committed table was made with: register counts are compared only with those of the same one."""

WHEELS = (
    *(f"nvidia-{name}=={RELEASE}.*" for name in ("cuda-nvcc", "cuda-crt", "cuda-runtime", "cuda-cccl", "nvvm")),
    # the disassemblers read older machine code; there are no wheels of 13.0 and 13.1
    "nvidia-cuda-cuobjdump==13.2.*",
    "nvidia-cuda-nvdisasm==13.2.*",
)

_FOLDERS = ("nvidia/cu13/bin", "nvidia/cuda_nvcc/bin", "nvidia/cuda_cuobjdump/bin", "nvidia/cuda_nvdisasm/bin")
_TRITON = "triton/backends/nvidia/bin"  # torch's CUDA builds bring the disassemblers along
_HEADERS = ("nvidia/cu13/include", "nvidia/cuda_runtime/include", "triton/backends/nvidia/include")


class MissingToolError(Exception):
    """A tool is not here; the text says which, and how to get it."""


@dataclass(frozen=True)
class Toolkit:
    """Paths of the tools.

    Attributes:
        nvcc, cuobjdump, nvdisasm: programs.
        occupancy_header: folder of cuda_occupancy.h.
        release: nvcc's, "13.0".
    """

    nvcc: Path
    cuobjdump: Path
    nvdisasm: Path
    occupancy_header: Path
    release: str

    @property
    def environment(self) -> dict[str, str]:
        """For subprocesses: cuobjdump calls nvdisasm by its name."""
        return {**os.environ, "PATH": f"{self.nvdisasm.parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def fetch(folder: Path) -> None:
    """Install the pinned wheels into a folder (280 MB), once; raises MissingToolError where they cannot be had."""
    if (folder / "nvidia").is_dir():
        return
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *WHEELS]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MissingToolError(f"pip could not get {', '.join(WHEELS)}: {done.stderr.strip().splitlines()[-1:]}")
    for root in folder.glob("nvidia/cu1?"):  # names that nvcc and linkers look for, which the wheels leave out
        if not (root / "lib64").exists():
            (root / "lib64").symlink_to("lib")
        for library in root.glob("lib/lib*.so.1?"):
            link = library.with_suffix("")
            if not link.exists():
                link.symlink_to(library.name)


def find(folder: Path | None = None) -> Toolkit:
    """The tools of `folder` (see `fetch`), else of CUDA_HOME, the PATH, and this Python's packages, in this order.

    Raises:
        MissingToolError: with what is missing and how to get it.
    """
    nvcc = _program("nvcc", folder)
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release (\d+\.\d+)", said)
    if release is None:
        raise MissingToolError(f"{nvcc} --version names no release: {said!r}")
    header = _header(nvcc, folder)
    return Toolkit(nvcc, _program("cuobjdump", folder), _program("nvdisasm", folder), header, release[1])


def _roots(folder: Path | None) -> list[Path]:
    return ([folder] if folder else []) + [Path(p) for p in sys.path if p]


def _program(name: str, folder: Path | None) -> Path:
    candidates = [folder / sub / name for sub in _FOLDERS] if folder else []
    if os.environ.get("CUDA_HOME"):
        candidates.append(Path(os.environ["CUDA_HOME"]) / "bin" / name)
    on_path = shutil.which(name)
    if on_path:
        candidates.append(Path(on_path))
    candidates += [root / sub / name for root in _roots(None) for sub in (*_FOLDERS, _TRITON)]
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise MissingToolError(f"{name} was not found; --toolkit FOLDER gets it from PyPI ({', '.join(WHEELS)})")


def _header(nvcc: Path, folder: Path | None) -> Path:
    beside = [nvcc.resolve().parent.parent / "include", *(Path(p) / "include" for p in _cuda_homes())]
    for path in [*beside, *(root / sub for root in _roots(folder) for sub in _HEADERS)]:
        if (path / "cuda_occupancy.h").is_file():
            return path
    raise MissingToolError("cuda_occupancy.h was not found; it comes with nvidia-cuda-runtime and with torch for CUDA")


def _cuda_homes() -> list[str]:
    return [x for x in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")) if x] + sorted(
        map(str, Path("/usr/local").glob("cuda*"))
    )
