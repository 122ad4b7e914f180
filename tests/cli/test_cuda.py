"""What `doctor` says is missing for CUDA, and a module of the wrong CUDA release, which is an explained fallback."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from dq_fast.cli import cuda
from dq_fast.ops import native

H100 = cuda.Gpu("NVIDIA H100", (9, 0), 80 << 30)
WELL = cuda.Cuda("13.0", "13.0", 0, None, (H100,), "CUDA 13.0", "")
TORCH_CUDA = "13.0"


def test_nothing_is_missing_where_all_is_there():
    assert WELL.missing == []
    assert replace(WELL, driver="13.2").missing == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"torch": None, "module": "", "gpus": ()}, ["CPU build"]),
        ({"module": "", "module_reason": "was not built"}, ["no native module: was not built"]),
        ({"driver": None, "driver_error": None, "gpus": ()}, ["no NVIDIA driver", "--gpus all"]),
        ({"driver": "12.4", "gpus": ()}, ["driver serves CUDA 12.4", "built for 13.0"]),
        ({"driver_error": 100, "gpus": ()}, ["no GPU is visible"]),
        ({"driver_error": 100, "gpus": (), "visible": ""}, ["CUDA_VISIBLE_DEVICES is ''"]),
        ({"driver_error": 803, "gpus": ()}, ["cuInit returned 803"]),
        ({"gpus": (cuda.Gpu("Tesla T4", (7, 5), 16 << 30),)}, ["Tesla T4", "7.5", "torch definitions"]),
    ],
)
def test_each_thing_that_is_missing_is_said(change, words):
    (text,) = replace(WELL, **change).missing
    for word in words:
        assert word in text


def test_no_driver_is_no_crash(monkeypatch):
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    found = cuda.gather()
    assert (found.driver, found.driver_error) == (None, None)
    assert any("no NVIDIA driver" in text for text in found.missing)


def found_with(body: str, tmp_path, torch_cuda: str | None = TORCH_CUDA) -> str:
    """What `native.find` says of a module dq_fast._cuda with this body, in a process where torch has that CUDA."""
    (tmp_path / "_cuda.py").write_text(body + "\n")
    program = (
        "import importlib.util, sys, types, torch\n"
        f"torch.version.cuda = {torch_cuda!r}\n"
        "package = types.ModuleType('dq_fast')\n"
        f"package.__path__ = [{str(tmp_path)!r}, *importlib.util.find_spec('dq_fast').submodule_search_locations]\n"
        "sys.modules['dq_fast'] = package\n"
        "from dq_fast.ops import native\n"
        "module, reason = native.find('cuda')\n"
        "print(module is not None, reason)\n"
    )
    environment = {**os.environ, native.DISABLE: "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def test_a_module_of_the_same_major_release_serves(tmp_path):
    body = f"interface = {native.INTERFACE['cuda']}\nbuilt_with = 'CUDA 13.1'"
    assert found_with(body, tmp_path) == "True CUDA 13.1"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("built_with = 'CUDA 12.9'", ["was built with CUDA 12.9", "this torch runs CUDA 13.0"]),
        (
            "raise ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')",
            ["libcudart.so.12", "built with CUDA 12", "this torch runs CUDA 13.0"],
        ),
    ],
)
def test_a_wrong_major_release_is_an_explained_fallback(tmp_path, body, words):
    said = found_with(f"interface = {native.INTERFACE['cuda']}\n{body}", tmp_path)
    assert said.startswith("False ")
    for word in words:
        assert word in said


def test_the_right_runtime_that_is_missing_is_not_called_wrong(tmp_path):
    said = found_with("raise ImportError('libcudart.so.13: cannot open shared object file')", tmp_path)
    assert "could not be loaded" in said
    assert "this torch runs" not in said


def test_the_module_is_imported_without_a_gpu():
    if torch.version.cuda is None:
        pytest.skip("this torch is a CPU build")
    module, reason = native.find("cuda")
    if module is None:
        pytest.skip(reason)
    assert reason.startswith("CUDA ")
    assert module.interface == native.INTERFACE["cuda"]
