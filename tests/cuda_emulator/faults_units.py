"""Faults planted into the emulator's own tests, for what no shipped kernel does: grid barriers, fences, tickets."""

from __future__ import annotations

from .fault import ANY, OUT_OF_BOUNDS, RACE, Fault

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
