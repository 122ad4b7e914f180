#include "barriers.hpp"

#include "launch.hpp"

namespace emu {

Block::Votes block_barrier(int predicate, const std::source_location& location) {
  Block* block = machine.current->block;
  [[maybe_unused]] char* token = nullptr;
  {
    EMU_QUIET;
    token = block->barrier_token();
  }
  EMU_RELEASE(token);
  Block::Votes result;
  {
    EMU_QUIET;
    Fiber* fiber = machine.current;
    if (block->at_barrier == 0) {
      block->barrier_location = location;
    } else if (block->barrier_location.line() != location.line() ||
               block->barrier_location.column() != location.column()) {
      fail("divergent __syncthreads (others wait at line " + std::to_string(block->barrier_location.line()) + ")",
           location);
    }
    const size_t exited = block->threads.size() - block->alive;
    if (exited) fail("__syncthreads after " + std::to_string(exited) + " threads of the block have exited", location);
    block->votes.any |= predicate != 0;
    block->votes.all &= predicate != 0;
    block->votes.count += predicate != 0;
    fiber->location = location;
    fiber->state = State::AtBarrier;
    if (++block->at_barrier == block->alive) {
      stats.barriers++;
      block->barriers++;
      block->at_barrier = 0;
      block->result = block->votes;
      block->votes = {};
      for (Fiber* other : block->threads) make_ready(other);
    }
    to_main();
    result = block->result;  // nobody can pass the next barrier before we have reached it
  }
  EMU_ACQUIRE(token);
  return result;
}

void grid_barrier(const std::source_location& location) {
  if (!machine.launch->cooperative) fail("grid.sync() in a kernel that was not launched cooperatively", location);
  [[maybe_unused]] char* token = nullptr;
  {
    EMU_QUIET;
    token = &machine.grid_barrier[machine.grid_barriers % 2];
  }
  EMU_RELEASE(token);
  {
    EMU_QUIET;
    Fiber* fiber = machine.current;
    fiber->block->at_grid_barrier++;
    fiber->location = location;
    fiber->state = State::AtGridBarrier;
    recheck_grid();
    to_main();
  }
  EMU_ACQUIRE(token);
}

void recheck_grid() {
  if (!machine.launch->cooperative) return;
  unsigned alive = 0, arrived = 0;
  for (const auto& block : machine.live) {
    alive += block->alive;
    arrived += block->at_grid_barrier;
  }
  if (alive == 0 || arrived < alive) return;
  stats.grid_syncs++;
  machine.grid_barriers++;
  for (const auto& block : machine.live) {
    block->at_grid_barrier = 0;
    for (Fiber* fiber : block->threads)
      if (fiber->state == State::AtGridBarrier) make_ready(fiber);
  }
}

}  // namespace emu
