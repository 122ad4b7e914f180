"""Running programs and Python under gcc's sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from . import build

RUNTIMES = {"plain": (), "address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}


def available(kind: str) -> None:
    """Raises build.CannotBuild where the compiler has no run-time library for a sanitizer."""
    for name in RUNTIMES[kind]:
        _library(name)


@cache
def _library(name: str) -> str:
    command = [build.compiler(), f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if path == name:
        raise build.CannotBuild(f"needs {name}: g++ was installed without its sanitizers")
    return os.path.realpath(path)


@cache
def _fixed_addresses() -> tuple[str, ...]:
    """The sanitizers' shadow memory collides with programs that newer kernels place at random."""
    tool = shutil.which("setarch")
    if tool and subprocess.run([tool, "-R", "true"], capture_output=True, check=False).returncode == 0:
        return (tool, "-R")
    return ()


def environment(kind: str, reports: Path) -> dict[str, str]:
    """Settings: a report ends the process and is written to a file in `reports`."""
    settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", build.SANITIZE: kind}
    log = f"log_path={reports / 'report'}"
    if kind == "address":  # leaks are Python's own
        settings["ASAN_OPTIONS"] = f"detect_leaks=0:detect_stack_use_after_return=0:{log}"
        settings["UBSAN_OPTIONS"] = f"print_stacktrace=1:halt_on_error=1:{log}"
    if kind == "thread":
        settings["TSAN_OPTIONS"] = (
            f"ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66:die_after_fork=0:{log}"
        )
    return settings


def run(
    kind: str, command: Sequence[str], reports: Path, *, timeout: float, settings: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Status and text (with the sanitizer's reports) of a command under a sanitizer."""
    reports.mkdir(parents=True, exist_ok=True)
    preload = {}
    if command[0] == sys.executable and RUNTIMES[kind]:  # Python itself is not built for it
        preload["LD_PRELOAD"] = ":".join(_library(name) for name in RUNTIMES[kind])
    given = {**os.environ, **environment(kind, reports), **preload, **(settings or {})}
    words = [*(_fixed_addresses() if kind != "plain" else ()), *command]
    done = subprocess.run(
        words, env=given, capture_output=True, text=True, errors="replace", check=False, timeout=timeout
    )
    written = [path.read_text(errors="replace") for path in sorted(reports.iterdir())]
    return done.returncode, "\n".join([done.stdout, done.stderr, *written])
