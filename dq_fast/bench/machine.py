"""The machine: what it is, and what it can do at best."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import dq_fast
from dq_fast.bench.timing import Timer, host_timer

_COPY_NUMBERS = 1 << 26  # float32 numbers: 256 MB, far beyond the caches
_MATMUL_SIDE = 2048
_REPEATS = 8


@dataclass(frozen=True)
class Ceilings:
    """The best of several tries; bytes a second and operations a second.

    Attributes:
        copy: bytes read and written while copying a large array.
        read: bytes read while summing one.
        float32, float64: multiplications and additions of a product of large square matrices.
    """

    copy: float
    read: float
    float32: float
    float64: float

    def best(self, other: Ceilings) -> Ceilings:
        """The larger of each."""
        return Ceilings(
            max(self.copy, other.copy),
            max(self.read, other.read),
            max(self.float32, other.float32),
            max(self.float64, other.float64),
        )

    def floor(self, bytes_moved: int, flops: int) -> float:
        """Seconds that moving and computing take at the least, the two at once; products in float32."""
        return max(bytes_moved / self.copy, flops / self.float32)


def measure_ceilings(quick: bool = False) -> Ceilings:
    """With torch's number of threads."""
    timer = host_timer(cold=False)
    numbers = _COPY_NUMBERS // (8 if quick else 1)
    side = _MATMUL_SIDE // (4 if quick else 1)
    source, target = torch.ones(numbers), torch.zeros(numbers)
    copy = 2 * 4 * numbers / best_of(lambda: target.copy_(source), timer)
    read = 4 * numbers / best_of(lambda: source.sum(), timer)
    rates = []
    for dtype in (torch.float32, torch.float64):
        a = torch.rand(side, side, dtype=dtype)
        out = torch.empty_like(a)
        rates.append(2 * side**3 / best_of(lambda a=a, out=out: torch.mm(a, a.T, out=out), timer))  # type: ignore[misc]
    return Ceilings(copy, read, *rates)


def best_of(call: Callable[[], object], timer: Timer) -> float:
    """The shortest of several tries, after one to warm up; seconds."""
    call()
    return min(timer(call, 1) for _ in range(_REPEATS))


def describe() -> dict[str, str]:
    """Machine, versions, commit and date: the columns that are the same in every row of a run."""
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "numpy": np.__version__,
        "dq_fast": dq_fast.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def cpu_name() -> str:
    """The processor and the instructions that the kernels choose by, e.g. "AMD EPYC (AVX2)"."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def commit() -> str:
    """Of the repository that dq_fast lies in, with "+" where files differ from it; "" for an installed package."""
    folder = Path(dq_fast.__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return ""
    git = ["git", "-C", str(folder.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "csrc", "dq_fast", "CMakeLists.txt"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
