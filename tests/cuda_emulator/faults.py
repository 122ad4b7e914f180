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

ROWS = (
    Fault(
        "norms_read_before_they_are_there",
        "row_sums.cuh",
        "    __syncthreads();\n    if (thread < rows) {\n      const double square",
        "    if (thread < rows) {\n      const double square",
        "row_sums",
        {"plain": ANY, "thread": RACE},
        ptx=True,
        order="forward",
    ),
    Fault(
        "tile_overwritten_while_it_is_read",
        "row_sums.cuh",
        "    __syncthreads();  // the tile before has been added\n",
        "",
        "row_sums",
        {"thread": RACE},
    ),
    Fault(
        "wide_load_beyond_the_last_row",
        "rows.cuh",
        "end = (shift + count) / kWide;",
        "end = (shift + count + kWide - 1) / kWide;",
        "row_sums",
        {"address": OUT_OF_BOUNDS},
        ptx=True,
    ),
    Fault(
        "wide_load_from_any_address",
        "rows.cuh",
        "shift = int(reinterpret_cast<uintptr_t>(from) % 16 / sizeof(T));",
        "shift = 0;",
        "row_sums",
        {"address": r"misaligned address|signal"},
        ptx=True,
    ),
    Fault(
        "lanes_missing_in_a_shuffle",
        "rows.cuh",
        "    sum = sum_lanes(sum, team > 32 ? 32 : team);",
        "    if (r < rows) sum = sum_lanes(sum, team > 32 ? 32 : team);",
        "row_sums",
        {"plain": r"error:.*deadlock"},
        ptx=True,
    ),
    Fault(
        "threads_leave_before_the_barrier",
        "row_sums.cuh",
        "    if (thread >= rows) continue;",
        "    if (thread >= rows) return;",
        "row_sums",
        {"plain": r"error:.*exited"},
        ptx=True,
    ),
    Fault(
        "shares_of_warps_added_too_early",
        "row_sums.cuh",
        "  sums[threadIdx.x] = sum;\n  __syncthreads();\n",
        "  sums[threadIdx.x] = sum;\n",
        "row_sums_groups",
        {"plain": ANY, "thread": RACE},
        ptx=True,
        order="forward",
    ),
    Fault(
        "barrier_of_half_a_block",
        "row_sums.cuh",
        "  sums[threadIdx.x] = sum;\n  __syncthreads();\n  if (warp != 0 || c >= d) return;\n",
        "  sums[threadIdx.x] = sum;\n  if (warp != 0 || c >= d) return;\n  __syncthreads();\n",
        "row_sums_groups",
        {"plain": r"error:.*exited"},
        ptx=True,
    ),
    Fault(
        "norms_of_the_first_pass_never_written",
        "row_sums.cuh",
        "    const T* tile = load_tile(x + first * d, rows * wide, memory);\n    if (kCenter && thread < rows) before[thread]",
        "    const T* tile = load_tile(x + first * d, rows * wide, memory);\n    if (kCenter && thread < rows) factor[thread]",
        "row_sums_centred",
        {"plain": ANY},
        ptx=True,
    ),
    Fault(
        "another_stream",
        "row_sums.cu",
        "  const auto on = static_cast<cudaStream_t>(stream);\n  if (g.parts > 0)",
        "  const cudaStream_t on = nullptr;\n  if (g.parts > 0)",
        "row_sums",
        {"plain": r"another stream"},
    ),
    Fault(
        "less_shared_memory_than_a_tile",
        "row_sums_launch.h",
        "divided_up(plan.tile_rows * d * element, 16) * 16 + 16;",
        "divided_up(plan.tile_rows * d * element, 16) * 16 - 16;",
        "row_sums",
        {"address": OUT_OF_BOUNDS},
        ptx=True,
    ),
)

GRAPH_CUT = (
    Fault(
        "winner_without_an_atomic",
        "graph_cut_gram.cuh",
        "if (lowest < n) atomicMin(&winners[turn], lowest);",
        "if (lowest < winners[turn]) winners[turn] = lowest;",
        "graph_cut_gram",
        {"thread": RACE},
    ),
    Fault(
        "largest_gain_read_too_early",
        "graph_cut_gram.cuh",
        "      leave_largest(mine, by_warp);\n      __syncthreads();\n",
        "      leave_largest(mine, by_warp);\n",
        "graph_cut_gram",
        {"thread": RACE},
    ),
    Fault(
        "state_read_before_it_is_there",
        "graph_cut_gram.cuh",
        "winners[0] = winners[1] = n;\n  __syncthreads();\n",
        "winners[0] = winners[1] = n;\n",
        "graph_cut_gram",
        {"thread": RACE},
    ),
    Fault(
        "shared_memory_never_written",
        "graph_cut_gram.cuh",
        "    taken[banked<kWide>(c, across)] = 0;\n",
        "",
        "graph_cut_gram",
        {"plain": ANY},
        ptx=True,
    ),
    Fault(
        "picked_row_read_before_it_is_known",
        "graph_cut_block.cuh",
        "    if (threadIdx.x == 0) winners[turn ^ 1] = m;\n    __syncthreads();\n",
        "    if (threadIdx.x == 0) winners[turn ^ 1] = m;\n",
        "graph_cut_lazy",
        {"thread": RACE},
    ),
    Fault(
        "rows_beyond_the_last_bucket",
        "graph_cut_block.cuh",
        "  const int64_t end = begin + each < count ? begin + each : count;",
        "  const int64_t end = begin + each;",
        "graph_cut_lazy",
        {"address": OUT_OF_BOUNDS},
        ptx=True,
    ),
)

PATCH_SCORES = (
    Fault(
        "copies_not_waited_for",
        "patch_scores.cuh",
        "      cp_async_wait<2>();",
        "      {}",
        "patch_scores",
        {"plain": ANY},
        ptx=True,
    ),
    Fault(
        "copies_of_other_lanes_not_waited_for",
        "patch_scores.cuh",
        "    __syncwarp();  // all lanes' copies are here\n",
        "",
        "patch_scores",
        {"thread": RACE},
    ),
    Fault(
        "slot_filled_while_it_is_read",
        "patch_scores.cuh",
        "    __syncwarp();  // nobody reads the slot any more that is filled now\n",
        "",
        "patch_scores",
        {"thread": RACE},
    ),
    Fault(
        "map_read_before_it_is_added",
        "patch_scores_finish.cuh",
        "    maps[p] = total < 0 ? 0 : total;\n  }\n  __syncthreads();\n",
        "    maps[p] = total < 0 ? 0 : total;\n  }\n",
        "patch_scores",
        {"thread": RACE},
    ),
    Fault(
        "copies_beyond_the_image",
        "patch_scores_stage.cuh",
        "if (from >= 0 && from + 16 <= size) {",
        "if (true) {",
        "patch_scores",
        {"address": OUT_OF_BOUNDS},
        ptx=True,
    ),
)

SHIPPED = ROWS + GRAPH_CUT + PATCH_SCORES

FAULTS = UNITS + SHIPPED
