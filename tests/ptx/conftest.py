"""Fixtures: the public ops on interpreted kernels."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from ..cuda_emulator.conftest import Emulated, emulated_modules, in_place  # noqa: F401
from . import compile as nvcc
from .hook import Interpreted


@pytest.fixture(scope="session", params=nvcc.TARGETS)
def library(request: pytest.FixtureRequest) -> nvcc.Library:
    """The shipped kernels' PTX for each target; a visible skip where there is no nvcc."""
    try:
        nvcc.nvcc()
        return nvcc.Library(request.param)
    except nvcc.CannotCompile as why:
        pytest.skip(str(why))


@pytest.fixture
def interpreted(
    library: nvcc.Library,
    emulated_modules: tuple[ModuleType, ModuleType],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Interpreted]:
    """The public ops on CPU tensors launch the kernels of csrc/cuda, and the launches run as PTX."""
    run = Interpreted(library.module_with)
    with in_place(*emulated_modules, "forward", monkeypatch) as it, run.tensors.watched():
        it.emulator.set_hook(run.hook)
        yield run
