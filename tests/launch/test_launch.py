"""Launch arithmetic in plain C++: everything is covered once, and every launch is one that the GPUs take."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CUDA = HERE.parents[1] / "csrc" / "cuda"
CXX = os.environ.get("CXX", "g++")
PROGRAMS = sorted(path.stem for path in HERE.glob("*.cpp"))

pytestmark = pytest.mark.skipif(shutil.which(CXX) is None, reason=f"no C++ compiler ({CXX})")


def build_and_run(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    program = folder / source.stem
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", "-fno-sanitize-recover"]
    done = subprocess.run([CXX, *flags, "-o", str(program), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return subprocess.run([program], capture_output=True, text=True)


def test_every_launch_header_has_a_program():
    headers = {path.name.removesuffix("_launch.h") for path in CUDA.glob("*_launch.h")}
    assert headers
    assert headers <= set(PROGRAMS), "add tests/launch/OP.cpp"


@pytest.mark.parametrize("op", PROGRAMS)
def test_launches(op, tmp_path):
    done = build_and_run(HERE / f"{op}.cpp", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


PLANTED = [
    ("row_sums", "return divided_up(n, plan.rows_per_part);", "return n / plan.rows_per_part;", "parts of one group"),
    ("row_sums", "line[2] = g;", "line[2] = 0;", "a part's group"),
    ("patch_scores", "plan.slot_a = up(", "plan.slot_a = -16 + up(", "a tile of activations does not fit"),
    ("patch_scores", "<= kPatchLargeShared ? 8 * positions", "<= kPatchLargeShared ? 4 * positions", "does not fit"),
    ("graph_cut", "plan.state = 2 * pieces * wide", "plan.state = 2 * longest - 1", "two numbers a row"),
    ("graph_cut", "plan.used = int(divide_up(count, plan.rows))", "plan.used = int(count / plan.rows)", "buckets"),
]


@pytest.mark.parametrize(("op", "shipped", "planted", "said"), PLANTED)
def test_planted_faults_are_found(op, shipped, planted, said, tmp_path):
    """The test of the tests: a fault in a copy of the shipped arithmetic."""
    for folder in ("csrc/cuda", "tests/launch", "bench/kernels"):
        (tmp_path / folder).mkdir(parents=True)
    for header in [*CUDA.glob("*.h"), CUDA.parent / "kernels.h"]:
        shutil.copy(header, tmp_path / header.relative_to(CUDA.parents[1]))
    for path in ("tests/launch/checks.h", f"tests/launch/{op}.cpp", "bench/kernels/devices.h"):
        shutil.copy(HERE.parents[1] / path, tmp_path / path)
    header = tmp_path / "csrc" / "cuda" / f"{op}_launch.h"
    text = header.read_text()
    assert text.count(shipped) == 1, f"{header.name} is written in another way now: change PLANTED"
    header.write_text(text.replace(shipped, planted))
    done = build_and_run(tmp_path / "tests" / "launch" / f"{op}.cpp", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
