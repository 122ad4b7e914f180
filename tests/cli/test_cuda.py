"""What `doctor` says is missing for CUDA, and a module of the wrong CUDA release, which is an explained fallback."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

import dq_fast
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


@pytest.fixture
def found_with(tmp_path, monkeypatch) -> Iterator[Callable[[str], str]]:
    """What `native.find` says of a module dq_fast._cuda with a body, where torch has CUDA 13.0."""
    name = "dq_fast._cuda"
    monkeypatch.setattr(torch.version, "cuda", TORCH_CUDA)
    monkeypatch.setattr(dq_fast, "__path__", [str(tmp_path), *dq_fast.__path__])
    monkeypatch.setattr(dq_fast, "_cuda", None, raising=False)
    monkeypatch.delenv(native.DISABLE, raising=False)
    before = sys.modules.pop(name, None)

    def find(body: str) -> str:
        (tmp_path / "_cuda.py").write_text(body + "\n")
        importlib.invalidate_caches()
        module, reason = native.find.__wrapped__("cuda")  # not what it found earlier
        return f"{module is not None} {reason}"

    yield find
    sys.modules.pop(name, None)
    if before is not None:
        sys.modules[name] = before


def test_a_module_of_the_same_major_release_serves(found_with):
    body = f"interface = {native.INTERFACE['cuda']}\nbuilt_with = 'CUDA 13.1'"
    assert found_with(body) == "True CUDA 13.1"


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
def test_a_wrong_major_release_is_an_explained_fallback(found_with, body, words):
    said = found_with(f"interface = {native.INTERFACE['cuda']}\n{body}")
    assert said.startswith("False ")
    for word in words:
        assert word in said


def test_the_right_runtime_that_is_missing_is_not_called_wrong(found_with):
    said = found_with("raise ImportError('libcudart.so.13: cannot open shared object file')")
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
