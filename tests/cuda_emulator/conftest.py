"""The fixture `emulated`: the public ops on CPU tensors run the CUDA kernels, emulated."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch

from dq_fast.ops import registry
from dq_fast.ops.cuda import launch

from . import build

STREAM = 0x5712  # what `launch.on` says the current stream is: a kernel launched on another one is a bug
ORDERS = tuple((os.environ.get("DQ_FAST_EMULATOR_ORDERS") or "forward,reverse,random").split(","))


@dataclass(frozen=True)
class Emulated:
    """The emulated kernels under the public ops.

    Attributes:
        module: the kernels, as dq_fast.ops.cuda.launch.kernels() gives them.
        emulator: settings and `set_hook` of the emulator, see emu/module.cpp.
        order: in which order threads run: "forward", "reverse" or "random".
    """

    module: ModuleType
    emulator: ModuleType
    order: str

    def launches(self) -> dict[str, int]:
        """How often each kernel was launched since the test began, by its name with template arguments."""
        return dict(self.emulator.launches())

    def launched(self, part: str) -> int:
        """How many launches were of kernels with `part` in their names."""
        return sum(count for name, count in self.launches().items() if part in name)


@pytest.fixture(scope="session")
def emulated_modules() -> tuple[ModuleType, ModuleType]:
    """The kernels' module and the emulator's, built; a visible skip where this machine has no compiler for them."""
    try:
        library = build.shared_library(os.environ.get(build.SANITIZE) or "plain")
    except build.CannotBuild as why:
        pytest.skip(str(why))
    return build.load(library)


@pytest.fixture(params=ORDERS)
def emulated(
    request: pytest.FixtureRequest, emulated_modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulated]:
    """The public ops on CPU tensors run what serves them on CUDA, with the emulated kernels, in three thread orders.

    Ops without a CUDA function stay as they are: say with `launched` that a kernel ran. Uninitialised tensors hold NaN
    and the largest integers meanwhile. The test fails if a kernel was not launched on the current stream or a launch's
    error was left unread. One order only: @pytest.mark.parametrize("emulated", ["forward"], indirect=True).
    """
    with in_place(*emulated_modules, request.param, monkeypatch) as it:
        yield it


@contextmanager
def in_place(
    module: ModuleType, emulator: ModuleType, order: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulated]:
    """The fixture's work, for a module and an order."""
    monkeypatch.setattr(launch, "kernels", lambda: module)
    monkeypatch.setattr(launch, "on", _on)
    for (name, device), function in registry.offered().items():
        if device == "cuda":
            monkeypatch.setitem(registry._overloads, name, function)
            monkeypatch.setitem(registry._native, (name, "cpu"), function)
            monkeypatch.setitem(registry._on_cpu, name, function)
    emulator.configure(order)
    emulator.reset(STREAM)
    was, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what torch.empty gives
    try:
        yield Emulated(module, emulator, order)
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warn)
        emulator.set_hook(None)
        elsewhere, unread = emulator.on_other_streams(), emulator.unread_error()
        emulator.reset(0)
    assert not elsewhere, f"launched on another stream than the one that launch.on() gave: {elsewhere}"
    assert not unread, f"a launch failed and its launcher did not say so: {unread}"


@pytest.hookimpl(trylast=True)  # after -k has chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under the race detector, ten times as slow as the rest, every third case of each test.

    Races hang on the kernel and its shapes, hardly on the values.
    """
    if os.environ.get(build.SANITIZE) != "thread":
        return
    seen: Counter[str] = Counter()
    kept, left_out = [], []
    for item in items:
        test = item.nodeid.partition("[")[0]
        (kept if seen[test] % 3 == 0 else left_out).append(item)
        seen[test] += 1
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


@contextmanager
def _on(device: torch.device) -> Iterator[int]:
    assert isinstance(device, torch.device), f"launch.on takes a device, got {device!r}"
    yield STREAM
