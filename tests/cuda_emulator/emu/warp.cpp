#include "warp.hpp"

namespace emu {

// Ends the operation if all its lanes have arrived.
EMU_UNSEEN static void complete_if_all_arrived(Warp& warp, const Fiber& arrived) {
  const uint32_t needed = arrived.mask & warp.alive;
  if (needed == 0 || (warp.waiting & needed) != needed) return;
  void* arguments[32] = {};
  const Fiber* first = nullptr;
  for (int i = 0; i < 32; ++i) {
    if (!(needed >> i & 1)) continue;
    const Fiber* fiber = warp.lanes[i];
    if (fiber->mask != arrived.mask || fiber->kind != arrived.kind) return;  // will be found to be a deadlock
    if (first == nullptr) first = fiber;
    if (fiber->location.line() != first->location.line() || fiber->location.column() != first->location.column())
      fail("warp collective reached from different source lines: " + where(first, first->location) + " and " +
           where(fiber, fiber->location));
    arguments[i] = fiber->argument;
  }
  arrived.complete(arguments, needed);
  warp.waiting &= ~needed;
  stats.warp_ops++;
  for (int i = 0; i < 32; ++i) {
    if (!(needed >> i & 1)) continue;
    if (warp.lanes[i] == machine.current)
      machine.current->state = State::Ready;  // it goes on at once
    else
      make_ready(warp.lanes[i]);
  }
}

EMU_UNSEEN void warp_operation(unsigned kind, uint32_t mask, void* argument, Complete complete,
                               const std::source_location& location) {
  EMU_QUIET;
  Fiber* fiber = machine.current;
  Warp& warp = fiber->block->warps[fiber->linear / 32];
  if (!(mask >> fiber->lane & 1)) fail("lane not in its own mask", location);
  fiber->mask = mask;
  fiber->kind = kind;
  fiber->argument = argument;
  fiber->complete = complete;
  fiber->location = location;
  fiber->state = State::InWarpOperation;
  warp.waiting |= 1u << fiber->lane;
  complete_if_all_arrived(warp, *fiber);
  if (fiber->state == State::InWarpOperation) to_main();
  preempt();
}

void recheck_warp(Warp& warp) {
  for (int i = 0; i < 32; ++i)
    if (warp.waiting >> i & 1) complete_if_all_arrived(warp, *warp.lanes[i]);
}

EMU_UNSEEN uint32_t ballot(uint32_t mask, bool predicate, const std::source_location& location) {
  Exchange<uint32_t> mine{uint32_t(predicate), 0, 0};
  const Complete complete = [](void** arguments, uint32_t lanes) {
    uint32_t votes = 0;
    for (int i = 0; i < 32; ++i)
      if (lanes >> i & 1) votes |= static_cast<Exchange<uint32_t>*>(arguments[i])->value << i;
    for (int i = 0; i < 32; ++i)
      if (lanes >> i & 1) static_cast<Exchange<uint32_t>*>(arguments[i])->out = votes;
  };
  warp_operation(kVote, mask, &mine, complete, location);
  return mine.out;
}

void sync_warp(uint32_t mask, const std::source_location& location) {
  if (mask == 0) fail("__syncwarp of no lane", location);
  [[maybe_unused]] char* token = nullptr;
  uint8_t* syncs = nullptr;
  {
    EMU_QUIET;
    const unsigned warp = machine.current->linear / 32, lowest = unsigned(std::countr_zero(mask));
    token = machine.current->block->warp_token(warp, lowest);
    syncs = &machine.current->block->warps[warp].syncs[lowest];
  }
  EMU_RELEASE(token);
  const Complete complete = [](void** arguments, uint32_t lanes) {
    ++*static_cast<uint8_t*>(arguments[std::countr_zero(lanes)]);
  };
  warp_operation(kSync, mask, syncs, complete, location);
  EMU_ACQUIRE(token);
}

}  // namespace emu
