"""What stands in for the GPU under the public ops: kernels that the emulated module launches run as PTX.

The memory a kernel may touch is that of the tensors which are alive in Python at the launch: exactly what it may touch
on a GPU, and a pointer to a tensor that is gone is found.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from .interpreter import Machine, Module


class Tensors:
    """The memory of the CPU tensors that are alive."""

    def __init__(self) -> None:
        self._known: list[weakref.ref[torch.Tensor]] = []

    @contextmanager
    def watched(self) -> Iterator[Tensors]:
        """Between looks the collector's objects are set apart, so that each look goes through newer ones only."""
        try:
            yield self
        finally:
            gc.unfreeze()
            self._known = []

    def ranges(self) -> list[tuple[int, int]]:
        """Addresses and bytes."""
        self._known += [weakref.ref(x) for x in _tensors(gc.get_objects())]
        gc.freeze()
        self._known = [ref for ref in self._known if ref() is not None]
        alive = [x for x in (ref() for ref in self._known) if x is not None]
        return [extent(x) for x in alive if x.numel()]


def _tensors(objects: Sequence[object]) -> list[torch.Tensor]:
    found = [x for x in objects if type(x) in (torch.Tensor, torch.nn.Parameter)]
    return [x for x in found if x.device.type == "cpu" and x.layout == torch.strided]


def extent(x: torch.Tensor) -> tuple[int, int]:
    """Where the numbers of a tensor lie: address of the first, bytes up to and with the last."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    first = x.untyped_storage().data_ptr() + x.storage_offset() * x.element_size()
    return first, (last + 1) * x.element_size()


class Interpreted:
    """Runs launches on PTX: `hook` is what the emulator's set_hook takes."""

    def __init__(self, module_with: Callable[[str], Module], *, order: int | None = None) -> None:
        """`module_with` finds the module that has a kernel; `order` seeds the order in which blocks take turns."""
        self._module_with, self._order = module_with, order
        self._machines: dict[str, Machine] = {}  # by kernel
        self.tensors = Tensors()
        self.kernels: list[str] = []  # launched, in order
        self._workspace = np.zeros(1024, np.uint32)  # of cooperative launches, zero between them

    def _ranges(self) -> list[tuple[int, int]]:
        return [*self.tensors.ranges(), (self._workspace.ctypes.data, self._workspace.nbytes)]

    def hook(
        self, name: str, grid: Sequence[int], block: Sequence[int], shared_bytes: int, arguments: Sequence[bytes]
    ) -> None:
        if name not in self._machines:
            module = self._module_with(name)
            machine = Machine(module, order=self._order)
            machine.ranges = self._ranges
            self._machines |= dict.fromkeys(module.kernels, machine)
        self.kernels.append(name)
        self._workspace[:] = 0
        address = self._workspace.ctypes.data
        self._machines[name].launch(name, grid, block, arguments, shared_bytes=shared_bytes, workspace=address)

    @property
    def used(self) -> set[str]:
        """Opcodes that ran."""
        return set().union(*(m.used for m in set(self._machines.values())))

    @property
    def statistics(self) -> dict[str, int]:
        """Launches, instructions of basic blocks, instructions of threads."""
        every = [m.statistics for m in set(self._machines.values())]
        return {key: sum(s[key] for s in every) for key in ("launches", "steps", "instructions")}
