"""A test of the tests: faults planted in the shipped kernels are noticed when their PTX runs (column PTX)."""

from __future__ import annotations

import pytest

from . import compile as nvcc
from .faulty import LAUNCHES, NOTHING, PLANTED, TARGET, case_of, noticed, planted

RIGHT = {case_of(fault).__name__.strip("_"): case_of(fault) for fault in PLANTED}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each fault a copy of csrc with it; nvcc begins with all of them at once."""
    try:
        nvcc.nvcc()
    except nvcc.CannotCompile as why:
        pytest.skip(str(why))
    work = tmp_path_factory.mktemp("faults")
    nvcc.Library(TARGET).ask()
    made = {fault.name: planted(fault, work) for fault in PLANTED}
    for fault in PLANTED:
        nvcc.Library(TARGET, made[fault.name]).ask(fault.file)
    return made


@pytest.mark.parametrize("case", sorted(RIGHT))
def test_without_a_fault_nothing_is_noticed(folders, emulated_modules, case):
    assert noticed(nvcc.CSRC, RIGHT[case], emulated_modules) == NOTHING


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_a_planted_fault_is_noticed(folders, emulated_modules, fault):
    launched = LAUNCHES.get(fault.name, int)
    if launched is int:
        assert not fault.file.endswith(("_launch.h", ".cu")), "planted in a launcher: say in LAUNCHES what it launches"
    assert noticed(folders[fault.name], case_of(fault), emulated_modules, launched) != NOTHING
