"""A test of the tests: faults planted in the shipped kernels are noticed when their PTX runs (column PTX)."""

from __future__ import annotations

import shutil

import pytest

from ..cuda_emulator import fault_cases
from ..cuda_emulator.conftest import in_place
from ..cuda_emulator.faults import SHIPPED
from . import compile as nvcc
from .hook import Interpreted
from .interpreter import PtxError

PLANTED = [fault for fault in SHIPPED if fault.ptx]
EXPECTED = {fault.case: fault_cases.expected(fault.case) for fault in PLANTED}


def noticed(csrc, case, emulated_modules, monkeypatch):
    """What gives the kernels of a source folder away in a case: an error, wrong values, or nothing ("")."""
    run = Interpreted(nvcc.Library("compute_80", csrc).module_with)
    try:
        with in_place(*emulated_modules, "forward", monkeypatch) as it, run.tensors.watched():
            it.emulator.set_hook(run.hook)
            got = fault_cases.CASES[case]()
    except (PtxError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    assert run.kernels, "no kernel ran"
    right = all(fault_cases.same(a, b) for a, b in zip(got, EXPECTED[case], strict=True))
    return "" if right else "wrong values"


@pytest.fixture(scope="module")
def compiler():
    try:
        nvcc.nvcc()
    except nvcc.CannotCompile as why:
        pytest.skip(str(why))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_a_planted_fault_is_noticed(emulated_modules, monkeypatch, tmp_path, fault):
    csrc = tmp_path / "csrc"
    shutil.copytree(nvcc.CSRC, csrc)
    path = csrc / "cuda" / fault.file
    path.write_text(fault.planted(path.read_text()))
    assert noticed(csrc, fault.case, emulated_modules, monkeypatch)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("case", sorted({fault.case for fault in PLANTED}))
def test_without_a_fault_nothing_is_noticed(emulated_modules, monkeypatch, case):
    assert noticed(nvcc.CSRC, case, emulated_modules, monkeypatch) == ""
