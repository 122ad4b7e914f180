"""Faults planted into the shipped kernels' PTX: python -m tests.ptx.faulty NAME CSRC says what gave one away."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ..cuda_emulator import build, fault_cases
from ..cuda_emulator.conftest import in_place
from ..cuda_emulator.faults import SHIPPED, Fault
from . import compile as nvcc
from .hook import Interpreted
from .interpreter import PtxError

TARGET = "compute_80"
NOTHING = "nothing noticed"

PLANTED = [fault for fault in SHIPPED if fault.ptx or "thread" in fault.columns]  # races too, all in shared memory
ON_THE_HOST = [fault for fault in PLANTED if fault.file.endswith((".cu", "_launch.h"))]


def planted(fault: Fault, folder: Path) -> Path:
    """A copy of csrc in `folder` with the fault in it."""
    csrc = folder / fault.name
    shutil.copytree(nvcc.CSRC, csrc)
    path = csrc / "cuda" / fault.file
    path.write_text(fault.planted(path.read_text()))
    return csrc


def noticed(csrc: Path, case: str, modules: tuple[ModuleType, ModuleType], expected: fault_cases.Outputs) -> str:
    """What gives the kernels of a source folder away in a case: an error, wrong values, or NOTHING."""
    run = Interpreted(nvcc.Library(TARGET, csrc).module_with)
    patch = pytest.MonkeyPatch()
    try:
        with in_place(*modules, "forward", patch) as it, run.tensors.watched():
            it.emulator.set_hook(run.hook)
            got = fault_cases.CASES[case]()
    except (PtxError, ValueError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        patch.undo()
    assert run.kernels, "no kernel ran"
    right = all(fault_cases.same(a, b) for a, b in zip(got, expected, strict=True))
    return NOTHING if right else "wrong values"


def main(name: str, csrc: str) -> None:
    """For what launchers do, which are not in the PTX: a process of its own, with launchers built from the folder."""
    fault = next(fault for fault in ON_THE_HOST if fault.name == name)
    expected = fault_cases.expected(fault.case)
    modules = build.load(build.shared_library("plain", Path(csrc)))
    sys.stdout.write(noticed(Path(csrc), fault.case, modules, expected))


if __name__ == "__main__":
    main(*sys.argv[1:])
