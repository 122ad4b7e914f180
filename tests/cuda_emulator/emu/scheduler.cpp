// Runs a launch: starts blocks, gives each thread its turn in the order asked for, until all have ended or none can go
// on.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "launch.hpp"
#include "machine.hpp"

namespace emu {

Config config;
Stats stats;
Machine machine;

void fail(const std::string& text) { throw Error(text); }

void fail(const std::string& text, const std::source_location& location) {
  throw Error(text + ": " + where(machine.current, location));
}

std::string where(const Fiber* fiber, const std::source_location& location) {
  const uint3 b = fiber->block->index, t = fiber->thread;
  char text[512];
  std::snprintf(text, sizeof text, "block (%u, %u, %u) thread (%u, %u, %u) at %s:%u", b.x, b.y, b.z, t.x, t.y, t.z,
                location.file_name(), unsigned(location.line()));
  return text;
}

namespace {
struct Cancelled {};  // thrown in the threads that are left when a launch has failed
}  // namespace

EMU_UNSEEN void to_main() {
  Fiber* fiber = machine.current;
  const bool ended = fiber->state == State::Done;
  stats.switches++;
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(&fiber->fake_stack, machine.main_stack, machine.main_stack_bytes);
#endif
#ifdef EMU_TSAN
  __tsan_switch_to_fiber(machine.main_tsan, kSwitchWithoutOrder);
#endif
  switch_context(fiber->context, machine.main);
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(fiber->fake_stack, &machine.main_stack, &machine.main_stack_bytes);
#endif
  if (machine.cancelled && !ended) throw Cancelled();
}

EMU_UNSEEN static void to_fiber(Fiber* fiber) {
  machine.current = fiber;
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(&machine.main_fake_stack, fiber->stack, fiber->stack_bytes);
#endif
#ifdef EMU_TSAN
  __tsan_switch_to_fiber(fiber->tsan, kSwitchWithoutOrder);
#endif
  switch_context(machine.main, fiber->context);
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(machine.main_fake_stack, nullptr, nullptr);
#endif
  machine.current = nullptr;
}

void make_ready(Fiber* fiber) {
  fiber->state = State::Ready;
  machine.ready.push_back(fiber);
}

void yield() {
  EMU_QUIET;
  make_ready(machine.current);
  to_main();
}

void preempt() {
  EMU_QUIET;
  if (config.preempt_permille == 0 || machine.random() % 1000 >= config.preempt_permille) return;
  stats.preempts++;
  yield();
}

static void note(const std::string& error) {
  if (machine.error.empty()) machine.error = error;
}

// A fibre's whole life: one thread of the kernel after another.
static void live_on() {
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &machine.main_stack, &machine.main_stack_bytes);
#endif
  for (;;) {
    Fiber* fiber = machine.current;
    EMU_ACQUIRE(&machine.started);
    try {
      if (!machine.cancelled) machine.launch->body(machine.launch->body_argument);
    } catch (const Cancelled&) {
    } catch (const std::exception& error) {
      note(error.what());
    }
    EMU_RELEASE(&machine.finished);
    EMU_QUIET;
    fiber->state = State::Done;
    Block* block = fiber->block;
    Warp& warp = block->warps[fiber->linear / 32];
    warp.alive &= ~(1u << fiber->lane);
    block->alive--;
    if (block->at_barrier)
      note("thread exited while others wait in __syncthreads: " + where(fiber, block->barrier_location));
    try {
      recheck_warp(warp);  // exited lanes are not waited for
    } catch (const std::exception& error) {
      note(error.what());
    }
    recheck_grid();
    to_main();
  }
}

static Fiber* take_fiber() {
  if (!machine.idle.empty()) {
    Fiber* fiber = machine.idle.front();
    machine.idle.pop_front();
    return fiber;
  }
#if defined(EMU_ASAN) || defined(EMU_TSAN)
  constexpr size_t kStack = 256 << 10;  // sanitized frames are larger
#else
  constexpr size_t kStack = 64 << 10;
#endif
  constexpr size_t kGuard = 4096;  // a page without access below the stack: an overflow is a crash, not a wrong value
  void* map =
      mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) fail("no memory for the stacks of the emulated threads");
  mprotect(map, kGuard, PROT_NONE);
  auto fiber = std::make_unique<Fiber>();
  fiber->stack = static_cast<char*>(map) + kGuard;
  fiber->stack_bytes = kStack;
  make_context(fiber->context, fiber->stack, kStack, &live_on);
#ifdef EMU_TSAN
  fiber->tsan = __tsan_create_fiber(0);
#endif
  machine.fibers.push_back(std::move(fiber));
  return machine.fibers.back().get();
}

template <class T>
static std::vector<T> in_order(T count) {
  std::vector<T> order(count);
  std::iota(order.begin(), order.end(), T(0));
  if (config.order == Order::Reverse) std::reverse(order.begin(), order.end());
  if (config.order == Order::Random) std::shuffle(order.begin(), order.end(), machine.random);
  return order;
}

static void start_block(uint64_t number) {
  const dim3 grid = machine.grid, size = machine.block;
  const unsigned count = size.x * size.y * size.z;
  auto block = std::make_unique<Block>();
  block->index = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
  block->alive = count;
  block->warps.resize((count + 31) / 32);
  block->threads.resize(count);
  stats.threads += count;
  for (const unsigned i : in_order(count)) {
    Fiber* fiber = take_fiber();
    fiber->block = block.get();
    fiber->linear = i;
    fiber->lane = i % 32;
    fiber->thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    fiber->fenced = false;
    fiber->touched.clear();
    fiber->copies.clear();
    fiber->committed = 0;
    block->threads[i] = fiber;
    block->warps[i / 32].lanes[i % 32] = fiber;
    block->warps[i / 32].alive |= 1u << (i % 32);
    make_ready(fiber);
  }
  machine.live.push_back(std::move(block));
}

static void take_turns() {
  std::vector<Fiber*> turn;
  turn.swap(machine.ready);
  if (config.order == Order::Random) {
    std::shuffle(turn.begin(), turn.end(), machine.random);
  } else {
    std::stable_sort(turn.begin(), turn.end(), [](const Fiber* a, const Fiber* b) {
      return config.order == Order::Forward ? a->linear < b->linear : a->linear > b->linear;
    });
  }
  for (Fiber* fiber : turn) {
    if (!machine.error.empty()) return;
    to_fiber(fiber);
  }
}

static void end_blocks() {
  std::erase_if(machine.live, [](const std::unique_ptr<Block>& block) {
    if (block->alive) return false;
    machine.idle.insert(machine.idle.end(), block->threads.begin(), block->threads.end());
    return true;
  });
}

static std::string deadlock() {
  constexpr int kNamed = 4;
  std::string text = "deadlock:";
  int named = 0;
  for (const auto& block : machine.live)
    for (const Fiber* fiber : block->threads) {
      if (fiber->state == State::Done || named++ >= kNamed) continue;
      const char* in = fiber->state == State::InWarpOperation ? "warp collective "
                       : fiber->state == State::AtBarrier     ? "__syncthreads "
                                                              : "grid.sync ";
      text += std::string("\n  ") + in + where(fiber, fiber->location);
    }
  return text;
}

// Ends the threads that are left, so that their stacks can be used again and what they did lies before what follows.
static void cancel() {
  machine.cancelled = true;
  for (const auto& block : machine.live)
    for (Fiber* fiber : block->threads)
      if (fiber->state != State::Done) to_fiber(fiber);
  machine.cancelled = false;
  end_blocks();
  machine.ready.clear();
}

void run(const Launch& launch) {
  EMU_RELEASE(&machine.started);
  {
    EMU_QUIET;
    machine.launch = &launch;
    machine.grid = launch.grid;
    machine.block = launch.block;
    const bool allowed_more = allowed_shared_memory(launch.kernel) > kSharedMemoryDefault;
    machine.shared_allowed = allowed_more ? kSharedMemoryMost : kSharedMemoryDefault;
    machine.error.clear();
    machine.random.seed(config.seed);
#ifdef EMU_TSAN
    machine.main_tsan = __tsan_get_current_fiber();
#endif
    const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
    const uint64_t together = launch.cooperative ? blocks : config.live_blocks;
    const std::vector<uint64_t> order = in_order(blocks);
    uint64_t next = 0;
    while (machine.error.empty()) {
      while (machine.live.size() < together && next < blocks) start_block(order[next++]);
      if (machine.live.empty()) break;
      if (machine.ready.empty()) {
        note(deadlock());
        break;
      }
      take_turns();
      end_blocks();
    }
    if (!machine.error.empty()) cancel();
  }
  EMU_ACQUIRE(&machine.finished);
  if (!machine.error.empty()) throw Error(machine.error);
}

}  // namespace emu
