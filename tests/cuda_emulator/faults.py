"""The table of planted faults: what is changed where, on which case it shows, and which way of running must notice it.

Each is an exact replacement in a shipped file (csrc/cuda), or in one of the emulator's own tests (units) for what no
shipped kernel does. A text that is gone is an error, so the table cannot rot. Columns: "plain" (values, and errors of the
emulator), "address" (address and undefined-behaviour sanitizers), "thread" (race detector); a column's text is a regular
expression that the report must match, an absent column promises nothing. `ptx`: whether the interpreter of the PTX
(tests/ptx) must notice it too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ANY = r"wrong values|does not hold|error:|Sanitizer|runtime error|signal"
OUT_OF_BOUNDS = r"AddressSanitizer: (heap-buffer-overflow|use-after-poison|unknown-crash)|error:|signal"
RACE = r"ThreadSanitizer: data race"


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        name: what is wrong.
        file: under csrc/cuda, or units/... in this folder.
        old: text to replace, exactly once in the file unless `every`.
        new: what stands there instead.
        case: a case of fault_cases.py; for units, the name of a unit.
        columns: column to regular expression.
        ptx: must be noticed in the interpreted PTX.
        order: in which thread order.
    """

    name: str
    file: str
    old: str
    new: str
    case: str
    columns: dict[str, str] = field(default_factory=dict)
    ptx: bool = False
    order: str = "reverse"

    @property
    def in_units(self) -> bool:
        """Whether it is planted into the emulator's own tests."""
        return self.file.startswith("units/")

    def planted(self, text: str) -> str:
        """The file's text with the fault; LookupError if the place is gone."""
        count = text.count(self.old)
        if count != 1:
            raise LookupError(f"{self.name}: {self.old!r} must be once in {self.file}, got {count} times: change faults.py")
        return text.replace(self.old, self.new)


UNITS = (
    Fault(
        "missing_grid_sync",
        "units/test_barriers.cpp",
        "    grid.sync();\n    int sum = 0;",
        "    int sum = 0;",
        "the_barrier_of_a_grid_orders_blocks",
        {"plain": ANY, "address": ANY, "thread": RACE},
    ),
    Fault(
        "missing_grid_sync_before_the_next_round",
        "units/test_barriers.cpp",
        "+ sum;\n    grid.sync();\n",
        "+ sum;\n",
        "the_barrier_of_a_grid_orders_blocks",
        {"thread": RACE},
    ),
    Fault(
        "missing_threadfence",
        "units/test_atomics.cpp",
        "    __threadfence();\n    last[0]",
        "    last[0]",
        "a_fence_and_a_ticket_hand_over_between_blocks",
        {"thread": RACE},
    ),
    Fault(
        "missing_threadfence_of_the_reader",
        "units/test_atomics.cpp",
        "== gridDim.x - 1;\n    __threadfence();\n",
        "== gridDim.x - 1;\n",
        "a_fence_and_a_ticket_hand_over_between_blocks",
        {"thread": RACE},
    ),
    Fault(
        "no_atomic",
        "units/test_atomics.cpp",
        "  atomicAdd(i, -me);",
        "  i[0] -= me;",
        "atomics_lose_nothing",
        {"thread": RACE},
    ),
    Fault(
        "no_barrier",
        "units/test_barriers.cpp",
        "  if (sync) __syncthreads();\n",
        "",
        "syncthreads_orders_and_its_absence_shows",
        {"plain": ANY, "address": ANY, "thread": RACE},
    ),
    Fault(
        "warp_synchronous",
        "units/test_warp.cpp",
        "  if (sync) __syncwarp();\n",
        "",
        "syncwarp_hands_over_and_its_absence_shows",
        {"plain": ANY, "address": ANY, "thread": RACE},
    ),
    Fault(
        "no_wait_for_the_copy",
        "units/test_matrix.cpp",
        "  if (wait) cp_async_wait<0>();\n",
        "",
        "ldmatrix_and_asynchronous_copies",
        {"plain": ANY, "address": ANY},
    ),
    Fault(
        "no_syncwarp_after_the_copy",
        "units/test_matrix.cpp",
        "  __syncwarp();\n  uint32_t A[4]",
        "  uint32_t A[4]",
        "ldmatrix_and_asynchronous_copies",
        {"thread": RACE},
    ),
    Fault(
        "beyond_shared_memory",
        "units/test_barriers.cpp",
        "SHARED_ARRAY(int, box, kThreads);",
        "SHARED_ARRAY(int, box, kThreads - 1);",
        "syncthreads_orders_and_its_absence_shows",
        {"address": OUT_OF_BOUNDS},
    ),
)

SHIPPED: tuple[Fault, ...] = ()

FAULTS = UNITS + SHIPPED
