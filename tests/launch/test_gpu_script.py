"""bench/gpu.sh where there is no GPU: it says so, and its time limits keep to what it promises."""

from __future__ import annotations

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
