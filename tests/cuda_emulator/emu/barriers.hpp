// Barriers of a block and of a grid.
#pragma once
#include "machine.hpp"

inline void __syncthreads(EMU_LOCATION) { emu::block_barrier(0, location); }
inline int __syncthreads_or(int predicate, EMU_LOCATION) { return emu::block_barrier(predicate, location).any; }
inline int __syncthreads_and(int predicate, EMU_LOCATION) { return emu::block_barrier(predicate, location).all; }
inline int __syncthreads_count(int predicate, EMU_LOCATION) { return emu::block_barrier(predicate, location).count; }

namespace cooperative_groups {

struct grid_group {
  void sync(EMU_LOCATION) const { emu::grid_barrier(location); }
  unsigned long long num_threads() const {
    return 1ull * gridDim.x * gridDim.y * gridDim.z * blockDim.x * blockDim.y * blockDim.z;
  }
  unsigned long long thread_rank() const {
    const unsigned long long block = (1ull * blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    return block * (blockDim.x * blockDim.y * blockDim.z) + emu::machine.current->linear;
  }
};
inline grid_group this_grid() { return {}; }

struct thread_block {
  void sync(EMU_LOCATION) const { emu::block_barrier(0, location); }
  unsigned thread_rank() const { return emu::machine.current->linear; }
  unsigned size() const { return blockDim.x * blockDim.y * blockDim.z; }
};
inline thread_block this_thread_block() { return {}; }

}  // namespace cooperative_groups
