// The emulated machine: a fibre for each CUDA thread, all on one thread of the host, so that every run is the same for
// the same order and seed. Not modelled: weak memory, lock-step of warps, time, what ptxas makes of the code.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "context.hpp"
#include "sanitizers.hpp"
#include "types.hpp"

namespace emu {

enum class Order { Forward, Reverse, Random };  // of threads in a block and of blocks in a grid

struct Config {
  Order order = Order::Forward;
  uint64_t seed = 1;
  unsigned preempt_permille = 0;  // how often a thread is interrupted at a collective or an atomic
#ifdef EMU_TSAN
  unsigned live_blocks = 4;  // threads of one fibre are one thread to it: blocks near each other must not share fibres
#else
  unsigned live_blocks = 1;  // blocks that run at the same time; all of a cooperative launch
#endif
};

struct Stats {
  uint64_t switches = 0, barriers = 0, warp_ops = 0, grid_syncs = 0, atomics = 0, preempts = 0, threads = 0;
};

struct Error : std::runtime_error {  // of the kernel under test
  using runtime_error::runtime_error;
};

extern Config config;
extern Stats stats;

enum class State : uint8_t { Ready, InWarpOperation, AtBarrier, AtGridBarrier, Done };

struct Block;

// Called by the last lane to arrive, with the arguments of all lanes in the mask (nullptr for the others).
using Complete = void (*)(void** arguments, uint32_t lanes);

struct Fiber {
  Context context;
  char* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // the address sanitizer's
  void* tsan = nullptr;        // the thread sanitizer's

  Block* block = nullptr;
  uint3 thread{};
  unsigned linear = 0, lane = 0;
  State state = State::Done;
  std::source_location location{};  // of what it waits for

  uint32_t mask = 0;  // of the warp operation it is in, and its kind, argument and completion
  unsigned kind = 0;
  void* argument = nullptr;
  Complete complete = nullptr;

  bool fenced = false;         // has fenced: its atomics from now on release
  std::vector<void*> touched;  // atomics since the last fence, which acquires them

  struct Copy {  // cp.async: done at the wait
    void* to;
    const void* from;
    int group;  // -1: not committed yet
    int bytes;
  };
  std::vector<Copy> copies;
  int committed = 0;
};

struct Warp {
  Fiber* lanes[32] = {};
  uint32_t alive = 0, waiting = 0;
  uint8_t syncs[32] = {};  // __syncwarps that have ended, by the lowest lane of their mask
};

struct Block {
  uint3 index{};
  std::vector<Fiber*> threads;
  std::vector<Warp> warps;
  unsigned alive = 0, at_barrier = 0, at_grid_barrier = 0;
  std::source_location barrier_location{};
  struct Votes {
    int any = 0, all = 1, count = 0;
  } votes, result;  // of the barrier being reached, of the last one
  char* dynamic = nullptr;
  std::map<const void*, char*> arrays;  // by the declaration's address
  size_t static_bytes = 0;
  unsigned barriers = 0;  // that have ended

  // Addresses that stand for its barriers and its warps' (thread sanitizer). Two of each, in turns: who leaves a
  // barrier late must not see what others did before they came to the next one.
  char* tokens = nullptr;
  char* barrier_token() const { return token(barriers % 2); }
  char* warp_token(unsigned warp, unsigned lowest_lane) const {
    return token(2 + (warp * 32 + lowest_lane) * 2 + warps[warp].syncs[lowest_lane] % 2);
  }
  char* token(unsigned number) const { return tokens == nullptr ? nullptr : tokens + 8 * number; }

  Block();
  ~Block();
  Block(const Block&) = delete;
};

struct Launch;

struct Machine {
  dim3 grid, block;
  Fiber* current = nullptr;
  Context main;
  void* main_fake_stack = nullptr;
  const void* main_stack = nullptr;
  size_t main_stack_bytes = 0;
  void* main_tsan = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::deque<Fiber*> idle;  // first in, first out: neighbouring blocks get different ones
  std::vector<std::unique_ptr<Block>> live;
  std::vector<Fiber*> ready;
  const Launch* launch = nullptr;
  size_t shared_allowed = 0;  // static and dynamic bytes of a block
  std::string error;
  bool cancelled = false;
  std::mt19937_64 random;
  unsigned grid_barriers = 0;                            // that have ended
  char started = 0, finished = 0, grid_barrier[2] = {};  // their addresses stand for edges (thread sanitizer)
};
extern Machine machine;

void run(const Launch& launch);  // throws Error
[[noreturn]] void fail(const std::string& text);
[[noreturn]] void fail(const std::string& text, const std::source_location& location);  // names the thread
std::string where(const Fiber* fiber, const std::source_location& location);

// scheduler
void to_main();  // from a fibre
void make_ready(Fiber* fiber);
void preempt();  // now and then: another thread's turn
void yield();

// what waits
void warp_operation(unsigned kind, uint32_t mask, void* argument, Complete complete,
                    const std::source_location& location);
void recheck_warp(Warp& warp);  // a lane has exited
Block::Votes block_barrier(int predicate, const std::source_location& location);
void grid_barrier(const std::source_location& location);
void recheck_grid();

inline int lane() { return int(machine.current->lane); }

}  // namespace emu

#define threadIdx (::emu::machine.current->thread)
#define blockIdx (::emu::machine.current->block->index)
#define blockDim (::emu::machine.block)
#define gridDim (::emu::machine.grid)
#define EMU_LOCATION std::source_location location = std::source_location::current()
