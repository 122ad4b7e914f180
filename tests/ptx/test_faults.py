"""A test of the tests: faults planted in the shipped kernels are noticed when their PTX runs (column PTX)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..cuda_emulator import fault_cases
from . import compile as nvcc
from .faulty import NOTHING, ON_THE_HOST, PLANTED, TARGET, noticed, planted

EXPECTED = {fault.case: fault_cases.expected(fault.case) for fault in PLANTED}
ROOT = nvcc.CSRC.parent


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


@pytest.mark.parametrize("case", sorted(EXPECTED))
def test_without_a_fault_nothing_is_noticed(folders, emulated_modules, case):
    assert noticed(nvcc.CSRC, case, emulated_modules, EXPECTED[case]) == NOTHING


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.name)
def test_a_planted_fault_is_noticed(folders, emulated_modules, fault):
    if fault in ON_THE_HOST:
        command = [sys.executable, "-m", f"{__package__}.faulty", fault.name, str(folders[fault.name])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        said = done.stdout.strip()
    else:
        said = noticed(folders[fault.name], fault.case, emulated_modules, EXPECTED[fault.case])
    assert said != NOTHING
