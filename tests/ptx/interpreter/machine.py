"""Runs a launch: all blocks resident, threads stepped basic block by basic block, lowest instruction first.

The threads of a block that stand at its lowest instruction run together, and with them those of every other block whose
lowest instruction is the same. A block whose threads wait for others (a spin) cannot hold up the rest: blocks take
turns, in order or at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import control, warps
from .errors import PtxError
from .formats import UNSIGNED, Array, size_of
from .memory import GlobalMemory, Layout, PrivateMemory
from .opcodes import Step, compile_kernel, granule_of
from .opcodes.copies import check_finished
from .parse import Module
from .shared import SharedMemory
from .threads import DONE, RUN, WARP, Active

NEVER = 1 << 40
MOST_THREADS, MOST_SHARED = 1024, 227 * 1024  # of a block, on sm_90


class Machine:
    """Executes the kernels of a module on this process's memory, as far as `ranges` allow."""

    def __init__(
        self, module: Module, *, order: int | None = None, hazards: bool = True, most_steps: int = 5_000_000
    ) -> None:
        """`order` seeds the order in which blocks take turns (None: one after the other)."""
        self.module, self.order, self.hazards, self.most_steps = module, order, hazards, most_steps
        self.ranges: Callable[[], list[tuple[int, int]]] = list
        self.statistics = {"launches": 0, "steps": 0, "instructions": 0}
        self.used: set[str] = set()  # opcodes that ran
        self._variables = {
            name: np.full(v.size, 0, np.uint8) if v.initial is None else v.initial
            for name, v in module.variables.items()
            if v.space != "shared"
        }

    # ---- a launch

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[bytes],
        *,
        shared_bytes: int = 0,
        workspace: int = 0,
    ) -> None:
        """Run a kernel to its end. `workspace` is the address of a cooperative launch's (%envreg1, 2)."""
        if name not in self.module.kernels:
            raise PtxError(f"no kernel {name}; the file has {sorted(self.module.kernels)}")
        self.kernel = self.module.kernels[name].read()
        self._set_up(tuple(grid), tuple(block), shared_bytes, workspace)
        self._set_parameters(arguments)
        if not self.kernel.program:
            self.kernel.program = compile_kernel(self.kernel)
        self.statistics["launches"] += 1
        with np.errstate(all="ignore"):
            self._run(self.kernel.program)

    def _set_up(self, grid: tuple[int, ...], block: tuple[int, ...], shared_bytes: int, workspace: int) -> None:
        kernel = self.kernel
        self.grid, self.block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        self.threads, self.blocks = int(np.prod(self.block)), int(np.prod(self.grid))
        if not 0 < self.threads <= (kernel.max_threads or MOST_THREADS) or self.block[2] > 64:
            raise PtxError(f"block {self.block} of {kernel.name}, which allows {kernel.max_threads or MOST_THREADS}")
        if min(self.grid) < 1 or self.grid[0] >= 1 << 31 or max(self.grid[1:]) > 65535:
            raise PtxError(f"grid {self.grid}")
        layout, local = Layout(shared_bytes), Layout()
        variables = [*kernel.variables.items(), *self.module.variables.items()]
        for name, v in sorted(variables, key=lambda item: item[1].extern):  # dynamic ones last
            if v.space in ("shared", "local"):
                (layout if v.space == "shared" else local).add(name, v.size, v.align, v.extern)
        if sum(end - begin for begin, end in layout.ranges) > MOST_SHARED:
            raise PtxError(f"{kernel.name} asks for more than {MOST_SHARED} bytes of shared memory")
        total = self.threads * self.blocks
        self.shared = SharedMemory(layout, self.blocks, granule_of(kernel), self.hazards)
        self.local = PrivateMemory("local", local, total)
        self.addresses = {**layout.address, **local.address}
        self.addresses |= {name: array.ctypes.data for name, array in self._variables.items()}
        self.addresses |= {name: offset for name, (offset, _) in kernel.parameters.items()}
        ranges = [(array.ctypes.data, array.nbytes) for array in self._variables.values()]
        self.global_ = GlobalMemory([*ranges, *self.ranges()])
        self._set_registers(total)
        self._set_threads(total, workspace)
        self.copies: list = []  # asynchronous copies under way
        self.committed = np.zeros(total, np.int64)

    def _set_registers(self, total: int) -> None:
        """False, and all bits set: NaN, or -1."""
        self.registers: dict[str, Array] = {}
        for type_ in set(self.kernel.registers.values()):
            names = [name for name, t in self.kernel.registers.items() if t == type_]
            dtype = np.dtype(bool) if type_ == "pred" else UNSIGNED[size_of(type_)]
            fill = 0 if type_ == "pred" else np.iinfo(dtype).max
            self.registers |= zip(names, np.full((len(names), total), fill, dtype), strict=True)

    def _set_threads(self, total: int, workspace: int) -> None:
        """Per thread: where it is, its special registers, its state."""
        index = np.arange(total)
        in_block = index % self.threads
        per_block = -(-self.threads // 32)
        self.block_of = index // self.threads
        self.thread = in_block.astype(np.int32)
        self.warp = (self.block_of * per_block + in_block // 32).astype(np.int32)
        self.lane = in_block % 32
        self.bit = np.uint32(1) << self.lane.astype(np.uint32)
        self.first_of_warp = index - self.lane  # thread number of lane 0
        self.epoch = np.zeros(self.blocks, np.int32)
        self.warp_epoch = np.zeros(self.blocks * per_block, np.int32)
        self.alive = np.bitwise_or.reduceat(self.bit, np.flatnonzero(self.lane == 0))  # lanes, a warp
        self.pc, self.state = np.zeros(total, np.int64), np.zeros(total, np.int8)
        self.waiting = 0  # threads in WARP
        special = {"%laneid": self.lane, "%warpid": in_block // 32, "%nwarpid": np.full(total, per_block)}
        number = {"tid": in_block, "ctaid": self.block_of}
        for name, size in (("tid", self.block), ("ctaid", self.grid)):
            special[f"%{name}.x"] = number[name] % size[0]
            special[f"%{name}.y"] = number[name] // size[0] % size[1]
            special[f"%{name}.z"] = number[name] // size[0] // size[1]
            for axis, length in zip("xyz", size, strict=True):
                special[f"%n{name}.{axis}"] = np.full(total, length)
        lanes = np.int64(1) << self.lane.astype(np.int64)
        special |= {"%lanemask_eq": lanes, "%lanemask_lt": lanes - 1, "%lanemask_le": 2 * lanes - 1}
        special |= {"%lanemask_gt": 0xFFFFFFFF - (2 * lanes - 1), "%lanemask_ge": 0xFFFFFFFF - (lanes - 1)}
        special["%envreg1"] = np.full(total, workspace >> 32)
        special["%envreg2"] = np.full(total, workspace & 0xFFFFFFFF)
        self.special = {name: values.astype(np.uint32) for name, values in special.items()}

    def _set_parameters(self, arguments: Sequence[bytes]) -> None:
        wanted = list(self.kernel.parameters.values())
        if [size for _, size in wanted] != [len(a) for a in arguments]:
            sizes = f"{[len(a) for a in arguments]} bytes, got for {[size for _, size in wanted]}"
            raise PtxError(f"arguments of {self.kernel.name}: {sizes}")
        layout = Layout()
        layout.bytes = self.kernel.parameter_bytes
        layout.ranges = [(offset, offset + size) for offset, size in wanted]
        self.parameters = PrivateMemory("param", layout, 1)
        for (offset, size), value in zip(wanted, arguments, strict=True):
            self.parameters.bytes[offset : offset + size] = np.frombuffer(value, np.uint8)

    def address_of(self, name: str) -> int:
        """Address of a variable or parameter in its space."""
        if name not in self.addresses:
            raise PtxError(f"unknown name {name} in {self.kernel.name}")
        return self.addresses[name]

    def who(self, active: Active, k: int) -> str:
        """For messages: the k-th active thread and the instruction."""
        t = int(active.ix[k])
        return f"block {int(self.block_of[t])} thread {int(self.thread[t])}: {self.text} ({self.kernel.name})"

    # ---- the schedule

    def _run(self, program: Sequence[Step]) -> None:
        state, pc, blocks = self.state, self.pc, self.blocks
        random = None if self.order is None else np.random.default_rng(self.order)
        turn, steps = 0, 0
        while True:
            running = state == RUN
            has = np.flatnonzero(running.reshape(blocks, -1).any(1))
            if not len(has):
                if (state == DONE).all():
                    check_finished(self)
                    break
                raise self._stuck()
            chosen = int(has[np.searchsorted(has, turn) % len(has)] if random is None else random.choice(has))
            turn = chosen + 1
            lowest = np.where(running, pc, NEVER).reshape(blocks, -1).min(1)
            at = int(lowest[chosen])
            together = running & (pc == at) & np.repeat(lowest == at, self.threads)
            steps += self._basic_block(program, at, Active(np.flatnonzero(together)))
            if steps > self.most_steps:
                raise PtxError(f"{self.kernel.name} has not ended after {steps} steps: a loop without end?")
        self.statistics["steps"] += steps

    def _basic_block(self, program: Sequence[Step], at: int, active: Active) -> int:
        """Run these threads from instruction `at` to the end of its basic block; how many instructions that were."""
        leaders, begin = self.kernel.leaders, at
        while True:
            step = program[at]
            one = step.instruction
            self.text = one.text
            self.used.add(step.name)
            self.statistics["instructions"] += active.n
            taken = active if one.guard is None else self._guarded(one.guard, one.negated, active)
            at += 1
            stop = at in leaders or at >= len(program)
            if stop or step.mask is not None:
                self.pc[active.sel] = at
            if step.mask is not None and taken.n:  # lanes meet; where some are still missing the others wait
                taken, parted = warps.gather(self, taken, at - 1, step.mask)
                stop |= parted
            if taken.n:
                step.run(self, taken)
            if stop:
                return at - begin

    def _guarded(self, guard: str, negated: bool, active: Active) -> Active:
        holds = self.registers[guard][active.sel] ^ negated
        return active if holds.all() else Active(active.ix[holds])

    def _stuck(self) -> PtxError:
        waits = np.flatnonzero(self.state == WARP)
        if len(waits):
            text = self.kernel.code[int(self.pc[waits[0]])].text
            return PtxError(f"lanes wait for lanes that their mask names but that never come: {text}")
        return PtxError(f"deadlock in {self.kernel.name}")

    def jump(self, active: Active, target: int | Array) -> None:
        """Go on there."""
        self.pc[active.sel] = target

    def retire(self, active: Active) -> None:
        """These threads have ended; lanes that waited for them look again who is missing."""
        self.state[active.sel] = DONE
        warp, bits, _ = warps.present(self, active)
        self.alive[warp] &= ~bits
        if self.waiting:
            again = (self.state == WARP) & np.isin(self.warp, warp)
            self.state[again] = RUN
            self.waiting -= int(again.sum())
        control.release(self)
