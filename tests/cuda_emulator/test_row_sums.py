"""The CUDA kernels' own source, run on the CPU by an emulator: needs g++ with C++20 and the CUDA headers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "csrc" / "cuda"


def cuda_headers():
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda", nvcc and Path(nvcc).resolve().parents[1]]
    for home in filter(None, homes):
        include = Path(home) / "include"
        if (include / "cuda_runtime.h").is_file():
            return [f"-I{include}", f"-I{include / 'cccl'}"]
    return None


@pytest.fixture(scope="module", params=["plain", "address,undefined"])
def program(request, tmp_path_factory):
    compiler, headers = shutil.which("g++"), cuda_headers()
    if compiler is None:
        pytest.skip("needs g++ with C++20 to run the CUDA kernels on the CPU")
    if headers is None:
        pytest.skip("needs the CUDA headers (set CUDA_HOME) to run the CUDA kernels on the CPU")
    out = tmp_path_factory.mktemp("emulator") / "run_row_sums"
    flags = (
        ["-O1"] if request.param == "plain" else ["-O1", "-g", f"-fsanitize={request.param}", "-fno-sanitize-recover"]
    )
    command = [compiler, "-std=c++20", "-w", *flags, *headers, f"-I{HERE}", f"-I{SOURCES}", "-o", str(out)]
    done = subprocess.run([*command, str(HERE / "run_row_sums.cpp")], capture_output=True, text=True, check=False)
    if "unrecognized" in done.stderr and "c++20" in done.stderr:
        pytest.skip("this g++ does not know C++20")
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("order", ["FORWARD", "REVERSE", "RANDOM"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (5, 33), (37, 300), (600, 7)])
def test_row_sums(program, n, d, order):
    done = subprocess.run([program, str(n), str(d), order], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
