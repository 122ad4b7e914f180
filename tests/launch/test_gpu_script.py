"""bench/gpu.sh where there is no GPU: it says so, and its time limits keep to what it promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "gpu.sh"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(SCRIPT), "--python", sys.executable, *arguments], capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the script would do all its work")
def test_without_a_gpu_it_says_so_and_succeeds():
    done = call()
    assert done.returncode == 0, done.stderr
    assert "there is no GPU here" in done.stdout
    assert "0 passed, 0 failed, 0 skipped" in done.stdout


def test_the_steps_on_a_gpu_fit_into_eight_minutes():
    lines = [line.split() for line in call("--list").stdout.splitlines()]
    limits = {name: int(seconds) for name, seconds, where in lines if where == "gpu" or name in ("build", "doctor")}
    assert {"tests", "memcheck", "racecheck", "synccheck", "timings", "build"} <= set(limits)
    assert sum(limits.values()) <= 470


def test_wrong_arguments_are_a_mistake():
    done = call("--gpu")
    assert done.returncode == 2
    assert "--no-gpu-steps" in done.stderr


PYTHON = """#!/usr/bin/env bash
printf 'PYTHONPATH=%s CUDAARCHS=%s python' "${PYTHONPATH:-}" "${CUDAARCHS:-}" >>"$LOG"
printf ' [%s]' "$@" >>"$LOG"
printf '\\n' >>"$LOG"
case "$*" in
  *"pip install"*--target*) mkdir -p "${7}/dq_fast" && touch "${7}/dq_fast/_cuda.so" ;;
  *get_device_name*) echo nvidia-test ;;
  *get_device_capability*) echo 90-real ;;
  *"-m pytest"*) exit "${FAILING:-0}" ;;
esac
"""
OTHER = """#!/usr/bin/env bash
printf '%s' "$(basename "$0")" >>"$LOG"
printf ' [%s]' "$@" >>"$LOG"
printf '\\n' >>"$LOG"
"""


@pytest.fixture
def machine(tmp_path):
    """A machine with a GPU, of which there is only what the script calls: programs that write down how."""
    for name, text in {"python": PYTHON, "nvcc": OTHER, "nvidia-smi": OTHER, "compute-sanitizer": OTHER}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"

    def run(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        done = subprocess.run(
            ["bash", str(SCRIPT), "--python", str(tmp_path / "python"), *arguments],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), **environment},
            capture_output=True, text=True,
        )  # fmt: skip
        return done, log.read_text().splitlines()

    return run


def test_the_steps_on_a_gpu_are_called_as_they_should(machine, tmp_path):
    done, calls = machine("--data", str(tmp_path), "--data", "/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed, 0 failed, 0 skipped" in done.stdout
    assert "no GPU here" not in done.stdout

    def calls_with(*words: str) -> list[str]:
        return [call for call in calls if all(word in call for word in words)]

    (build,) = calls_with("[pip] [install]", "[--target]")
    assert "CUDAARCHS=90-real" in build
    for tool in ("memcheck", "racecheck", "synccheck"):
        (call,) = calls_with("compute-sanitizer", f"[--tool] [{tool}]", "[tests/gpu/small_run.py] [cuda]")
        assert "[--kernel-name] [kns=dq_fast]" in call
        assert "[--error-exitcode]" in call
    (tests,) = calls_with("[pytest]", "[tests/gpu]")
    assert "/package " in tests  # the package that was built, not the checkout
    (timings,) = calls_with("[bench]", "[--device] [cuda]")
    assert f"[--data] [{tmp_path}] [/]" in timings
    assert "bench/results/cuda-nvidia-test.csv]" in timings


def test_a_step_that_fails_keeps_no_other_from_running(machine):
    done, calls = machine(FAILING="1")
    assert done.returncode == 1
    assert "7 passed, 1 failed, 0 skipped" in done.stdout
    assert "FAILED   tests: status 1" in done.stdout
    assert any("[bench]" in call for call in calls)
