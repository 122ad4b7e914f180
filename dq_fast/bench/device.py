"""Where a run happens: this machine's processor, or a GPU, with its own clock, memory and ceilings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from dq_fast.bench.case import Call
from dq_fast.bench.machine import Ceilings, best_of, describe, measure_ceilings
from dq_fast.bench.timing import Timer, host_timer
from dq_fast.errors import InputError

FLUSH_BYTES = 1 << 28  # written before each cold run: twice the L2 cache of the GPUs that have the largest, 126 MB
_COPY_NUMBERS = 1 << 28  # float32 numbers: 1 GB
_MATMUL_SIDE = 8192


class Device(Protocol):
    """What the runner asks of a place to run at.

    Attributes:
        name: as in the results, "cpu" or "cuda".
    """

    name: str

    def move(self, inputs: Any) -> Any:
        """The inputs of a problem, there."""

    def timer(self, cold: bool) -> Timer:
        """Seconds a call; `cold`: caches emptied before."""

    def wait(self) -> None:
        """Until everything that was started has ended."""

    def ceilings(self, quick: bool) -> Ceilings:
        """What it can do at best."""

    def peak(self, call: Call) -> int | None:
        """Bytes that a call takes on top of what is held; None: measured in a process of its own."""

    def describe(self) -> dict[str, str]:
        """Columns that are the same in every row."""


class Host:
    """The processor."""

    name = "cpu"

    def move(self, inputs: Any) -> Any:
        """They are here."""
        return inputs

    def timer(self, cold: bool) -> Timer:
        """By the host's clock."""
        return host_timer(cold)

    def wait(self) -> None:
        """Calls return when they are done."""

    def ceilings(self, quick: bool) -> Ceilings:
        """With torch's number of threads."""
        return measure_ceilings(quick)

    def peak(self, call: Call) -> int | None:
        """See bench/peak.py."""
        return None

    def describe(self) -> dict[str, str]:
        """Machine and versions."""
        return describe()


class Cuda:
    """A GPU. Times are those between two events in the current stream, behind a flush of the L2 cache.

    The flush is still running while the call is being queued, so that up to some 100 microseconds of work on the
    host are hidden, as in a stream that has something to do; what the GPU has to wait for beyond that counts.
    """

    name = "cuda"

    def __init__(self, device: torch.device) -> None:
        self.device = device
        torch.cuda.set_device(device)

    def move(self, inputs: Any) -> Any:
        """Copies; offsets stay on the host, where the ops take them from."""
        return moved(inputs, self.device)

    def timer(self, cold: bool) -> Timer:
        """By CUDA events."""
        return event_timer(self.device, cold)

    def wait(self) -> None:
        """For all streams."""
        torch.cuda.synchronize(self.device)

    def ceilings(self, quick: bool) -> Ceilings:
        """Copy, read and products (float32 without TF32) by CUDA events."""
        timer = event_timer(self.device, cold=True)
        numbers, side = _COPY_NUMBERS // (16 if quick else 1), _MATMUL_SIDE // (8 if quick else 1)
        source, target = (make(numbers, device=self.device) for make in (torch.ones, torch.zeros))
        copy = 2 * 4 * numbers / best_of(lambda: target.copy_(source), timer)
        read = 4 * numbers / best_of(lambda: source.sum(), timer)
        rates = []
        for dtype in (torch.float32, torch.float64):
            a = torch.rand(side, side, dtype=dtype, device=self.device)
            out = torch.empty_like(a)
            rates.append(2 * side**3 / best_of(lambda a=a, out=out: torch.mm(a, a.T, out=out), timer))  # type: ignore[misc]
        return Ceilings(copy, read, *rates)

    def peak(self, call: Call) -> int | None:
        """By torch's allocator, which every provider here allocates with."""
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        result = call()
        torch.cuda.synchronize(self.device)
        del result
        return max(0, torch.cuda.max_memory_allocated(self.device) - before)

    def describe(self) -> dict[str, str]:
        """Machine and versions; the GPU stands before the machine."""
        about, found = describe(), torch.cuda.get_device_properties(self.device)
        gpu = (
            f"{found.name} ({found.multi_processor_count} SMs, compute capability {found.major}.{found.minor}, "
            f"CUDA {torch.version.cuda})"
        )
        return {**about, "machine": f"{gpu}; {about['machine']}"}


def of(name: str) -> Device:
    """The device of a name: "cpu", "cuda" or "cuda:1"; raises InputError where it is not here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cpu":
        return Host()
    if device.type != "cuda":
        raise InputError(f"device must be cpu, cuda or cuda:N, got {name!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        raise InputError(f"device must be one that torch sees ({count} GPUs), got {name!r}; `dq-fast doctor` says why")
    return Cuda(torch.device("cuda", index))


def moved(inputs: Any, device: torch.device) -> Any:
    """Inputs on another device: tensors, tuples of them, or whatever has a `to`."""
    if isinstance(inputs, tuple):
        return tuple(moved(x, device) for x in inputs)
    return inputs.to(device)


def event_timer(device: torch.device, cold: bool) -> Timer:
    """Seconds a call between two CUDA events; `cold`: FLUSH_BYTES are written before."""
    flush: Tensor | None = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device) if cold else None

    def timed(call: Callable[[], object], repeats: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        if flush is not None:
            flush.zero_()
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1e3 / repeats

    return timed
