"""Faults planted into the shipped kernels' PTX, and what gives them away."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

from dq_fast import ops

from ..cuda_emulator import fault_cases
from ..cuda_emulator.conftest import in_place
from ..cuda_emulator.faults import SHIPPED, Fault
from . import compile as nvcc
from .hook import Interpreted
from .interpreter import PtxError

TARGET = "compute_80"
NOTHING = "nothing noticed"

PLANTED = [fault for fault in SHIPPED if fault.ptx or "thread" in fault.columns]  # races too: all in shared memory


def _unaligned_rows() -> fault_cases.Outputs:
    """Rows that begin 4 bytes behind an address that is a multiple of 16."""
    flat = torch.randn(70 * 75 + 4, generator=torch.Generator().manual_seed(1))
    first = (-flat.data_ptr() // 4) % 4 + 1
    return (ops.cosine_row_sums(flat[first:][: 70 * 75].view(70, 75)),)


def _odd_images() -> fault_cases.Outputs:
    """Images whose ends are no multiple of 16 bytes."""
    generator = torch.Generator().manual_seed(2)
    shape = (2, 75, 7, 9)
    activations, gradients = (torch.randn(shape, generator=generator) for _ in range(2))
    return (ops.patch_scores(activations.abs(), gradients, (3, 5)),)


# Faults that show on inputs like these only, whatever the table's case is.
CASES: dict[str, Callable[[], fault_cases.Outputs]] = {
    "wide_load_from_any_address": _unaligned_rows,
    "copies_beyond_the_image": _odd_images,
}
# Faults of launchers, which are not in the PTX: what becomes of a launch's bytes of shared memory.
LAUNCHES: dict[str, Callable[[int], int]] = {"less_shared_memory_than_a_tile": lambda shared: max(0, shared - 32)}


def case_of(fault: Fault) -> Callable[[], fault_cases.Outputs]:
    """A call of a public op on which the fault shows."""
    return CASES.get(fault.name, fault_cases.CASES[fault.case])


@cache
def expected(case: Callable[[], fault_cases.Outputs]) -> fault_cases.Outputs:
    """A case's result without the CUDA kernels; to be asked for first before the kernels stand in."""
    return case()


def planted(fault: Fault, folder: Path) -> Path:
    """A copy of csrc in `folder` with the fault in it."""
    csrc = folder / fault.name
    shutil.copytree(nvcc.CSRC, csrc)
    path = csrc / "cuda" / fault.file
    path.write_text(fault.planted(path.read_text()))
    return csrc


def noticed(
    csrc: Path,
    case: Callable[[], fault_cases.Outputs],
    modules: tuple[ModuleType, ModuleType],
    launched: Callable[[int], int] = int,
) -> str:
    """What gives the kernels of a source folder away in a case: an error, wrong values, or NOTHING."""
    want = expected(case)
    run = Interpreted(nvcc.Library(TARGET, csrc).module_with)

    def hook(
        name: str, grid: Sequence[int], block: Sequence[int], shared_bytes: int, arguments: Sequence[bytes]
    ) -> None:
        run.hook(name, grid, block, launched(shared_bytes), arguments)

    patch = pytest.MonkeyPatch()
    try:
        with in_place(*modules, "forward", patch) as it, run.tensors.watched():
            it.emulator.set_hook(hook)
            got = case()
    except (PtxError, ValueError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        patch.undo()
    assert run.kernels, "no kernel ran"
    right = all(fault_cases.same(a, b) for a, b in zip(got, want, strict=True))
    return NOTHING if right else "wrong values"
