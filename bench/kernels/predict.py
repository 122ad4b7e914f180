"""Predicted times on an H100: from counted bytes and operations, by constants that stand here. Nothing is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

COPY = 3.0e12
"""Bytes a second, read and written, of a large copy: what an H100 SXM (HBM3) is known to reach of its 3.35e12."""
CLOCK = 1.755e9
"""Hz: what the chip holds under load."""
SMS = 132
FLOAT64 = SMS * 64 * CLOCK
"""float64 additions, multiplications or multiply-adds a second: 64 a clock and multiprocessor."""
CONVERSIONS = SMS * 16 * CLOCK
"""Conversions to or from 64-bit types a second: 16 a clock and multiprocessor (CUDA C++ programming guide,
throughput of arithmetic instructions)."""
PRODUCT64 = 50e12
"""float64 operations a second (multiplications and additions) of a large matrix product on the tensor cores: three
quarters of the 67e12 on paper."""
STEP = 2e-6
"""s: a pick of a greedy loop inside one block: a row of similarities read, a block-wide maximum, two barriers."""
LAUNCH = 2e-6
"""s: from the end of a kernel to the beginning of the next one in its stream."""
HOST = 10e-6
"""s: what Python takes to allocate for a launch and to queue it, assumed; where kernels are shorter, the GPU waits."""


@dataclass(frozen=True)
class Launch:
    """One launch of a named case, or several like it.

    Attributes:
        op, case: names.
        kernel: as in the table.
        blocks, threads, shared: grid, block and bytes of dynamic shared memory.
        times: how often it is launched.
        bytes, float64, conversions, steps: of one launch; see launches/launches.h.
        waves: how many times the GPU is filled with its blocks, one after the other.
    """

    op: str
    case: str
    kernel: str
    blocks: int
    threads: int
    shared: int
    times: float
    bytes: float
    float64: float
    conversions: float
    steps: float
    waves: int = 1

    @property
    def _times(self) -> dict[str, float]:
        return {
            "bytes": self.bytes / COPY,
            "float64": self.float64 / FLOAT64,
            "conversions": self.conversions / CONVERSIONS,
            "steps": self.steps * self.waves * STEP,
        }

    @property
    def predicted(self) -> float:
        """Seconds of all its launches: the longest of moving, computing, converting, and steps after each other."""
        return self.times * max(self._times.values())

    @property
    def bound(self) -> str:
        """By what."""
        return max(self._times, key=self._times.__getitem__)


@dataclass(frozen=True)
class Product:
    """Work of torch in a case: float64 operations, bytes, and how often."""

    flops: float
    bytes: float
    times: float

    @property
    def predicted(self) -> float:
        """Seconds."""
        return self.times * max(self.flops / PRODUCT64, self.bytes / COPY)


@dataclass
class Case:
    """A named case of an op: its launches, torch's work between them, and the bytes of the floor."""

    op: str
    name: str
    launches: list[Launch]
    products: list[Product]
    floor_bytes: float = 0.0

    @property
    def launched(self) -> float:
        """Launches in all."""
        return sum(x.times for x in self.launches) + sum(x.times for x in self.products)

    @property
    def bytes(self) -> float:
        """Moved in all."""
        return sum(x.times * x.bytes for x in self.launches) + sum(x.times * x.bytes for x in self.products)

    @property
    def on_device(self) -> float:
        """Seconds of a GPU that never waits for the host."""
        work = sum(x.predicted for x in self.launches) + sum(x.predicted for x in self.products)
        return work + self.launched * LAUNCH

    @property
    def predicted(self) -> float:
        """Seconds."""
        return max(self.on_device, self.launched * HOST)

    @property
    def bound(self) -> str:
        """By the kernels, by what torch does between them, or by the host, which queues them."""
        if self.launched * HOST > self.on_device:
            return "host"
        return "torch" if 2 * sum(x.predicted for x in self.products) > self.on_device else "kernels"

    @property
    def floor(self) -> float:
        """Seconds."""
        return self.floor_bytes / COPY


Block = tuple[int, int]
"""Threads and bytes of dynamic shared memory."""


def parse(lines: Iterable[str]) -> tuple[list[Case], dict[str, Block]]:
    """The cases, and the largest block of each kernel, from what the programs in launches/ print."""
    cases: dict[tuple[str, str], Case] = {}
    blocks: dict[str, Block] = {}
    for line in lines:
        kind, *rest = line.rstrip("\n").split("\t")
        if kind == "block":
            kernel, threads, shared = rest
            block = (int(threads), int(shared))
            blocks[kernel] = max(blocks.get(kernel, block), block, key=lambda b: (b[1], b[0]))
            continue
        op, name, *rest = rest
        case = cases.setdefault((op, name), Case(op, name, [], []))
        if kind == "launch":
            kernel, grid, threads, shared, *work = rest
            case.launches.append(Launch(op, name, kernel, int(grid), int(threads), int(shared), *map(float, work)))
        elif kind == "product":
            case.products.append(Product(*map(float, rest)))
        elif kind == "floor":
            case.floor_bytes = float(rest[0])
        else:
            raise ValueError(f"a line must be launch, product, floor or block, got {line!r}")
    for case in cases.values():
        if not case.floor_bytes:
            raise ValueError(f"{case.op}/{case.name} has no floor")
    return list(cases.values()), blocks


def launch_of(kernel: str, cases: Iterable[Case]) -> Launch | None:
    """The first launch of a kernel in the named cases."""
    return next((launch for case in cases for launch in case.launches if launch.kernel == kernel), None)
