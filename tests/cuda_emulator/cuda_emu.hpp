// cuda_emu.hpp -- test-only: run CUDA kernels' C++ source on the CPU with g++/clang++ (C++20, x86-64 or ucontext).
// One fibre per CUDA thread, all on ONE OS thread; every run is deterministic given (order, seed).
// Not modelled: weak memory, lock-step, cycle timing, ptxas code generation.
#pragma once
#include <sys/mman.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>
#if defined(__CUDACC__)
#error "cuda_emu.hpp is for host compilers only"
#endif
#if defined(__has_feature)
#define EMU_HAS(x) __has_feature(x)
#else
#define EMU_HAS(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || EMU_HAS(address_sanitizer)
#define EMU_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) || EMU_HAS(thread_sanitizer)
#define EMU_TSAN 1
#endif
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMU_TSAN
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
namespace emu {
struct Quiet {  // the emulator's own bookkeeping is not part of the program under test
  Quiet() {
    AnnotateIgnoreReadsBegin(__FILE__, 0);
    AnnotateIgnoreWritesBegin(__FILE__, 0);
  }
  ~Quiet() {
    AnnotateIgnoreWritesEnd(__FILE__, 0);
    AnnotateIgnoreReadsEnd(__FILE__, 0);
  }
  Quiet(const Quiet&) = delete;
};
}  // namespace emu
#define EMU_ACQ(p) __tsan_acquire((void*)(p))
#define EMU_REL(p) __tsan_release((void*)(p))
#define EMU_NOTSAN __attribute__((noinline, no_sanitize_thread))
#define EMU_QUIET ::emu::Quiet quiet_
#else
#define EMU_ACQ(p) ((void)0)
#define EMU_REL(p) ((void)0)
#define EMU_NOTSAN
#define EMU_QUIET ((void)0)
#endif

// ---- CUDA language surface -------------------------------------------------------------------------------------
#if !defined(EMU_NO_CUDA_HEADERS) && __has_include(<vector_types.h>)
#include <cuda_bf16.h>  // NVIDIA's own host implementation of the conversions
#include <cuda_fp16.h>
#include <vector_functions.h>
#include <vector_types.h>  // NVIDIA's own float4 / dim3 / alignment
#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#undef __constant__
#undef __shared__
#undef __noinline__
#else
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
struct __nv_bfloat16 {
  uint16_t v;
};
inline float __bfloat162float(__nv_bfloat16 h) {
  uint32_t u = uint32_t(h.v) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline __nv_bfloat16 __float2bfloat16_rn(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
#endif
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ \
  static_assert(false, "use SHARED_ARRAY / DYN_SMEM so that the emulator can give each block its own memory");
#ifndef __restrict__
#define __restrict__ __restrict
#endif
inline constexpr int warpSize = 32;

namespace emu {
enum class Order { Forward, Reverse, Random };
struct Config {
  Order order = Order::Forward;
  uint64_t seed = 1;
  unsigned preempt_permille = 0;
  bool poison = true;
  size_t stack = 0;
  unsigned live_blocks = 1;
};
struct Stats {
  uint64_t switches = 0, barriers = 0, warp_ops = 0, grid_syncs = 0, atomics = 0, preempts = 0, threads = 0;
};
struct Error : std::runtime_error {
  using runtime_error::runtime_error;
};
inline Config config;
inline Stats stats;

#if defined(__x86_64__) && !defined(EMU_UCONTEXT)
extern "C" void emu_switch_(void** save, void* load);
asm(R"(
.text
.weak emu_switch_
.type emu_switch_,@function
emu_switch_:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch_,.-emu_switch_
)");
struct Ctx {
  void* sp = nullptr;
};
inline void ctx_make(Ctx& c, char* lo, size_t n, void (*entry)()) {
  auto top = (reinterpret_cast<uintptr_t>(lo + n) & ~uintptr_t(15));
  auto p = reinterpret_cast<void**>(top) - 2;
  *p = reinterpret_cast<void*>(entry);
  p[1] = nullptr;
  p -= 6;
  std::memset(p, 0, 48);
  c.sp = p;
}
inline void ctx_switch(Ctx& from, Ctx& to) { emu_switch_(&from.sp, to.sp); }
#else
}
#include <ucontext.h>
namespace emu {
struct Ctx {
  ucontext_t u;
};
inline void ctx_make(Ctx& c, char* lo, size_t n, void (*entry)()) {
  getcontext(&c.u);
  c.u.uc_stack.ss_sp = lo;
  c.u.uc_stack.ss_size = n;
  c.u.uc_link = nullptr;
  makecontext(&c.u, entry, 0);
}
inline void ctx_switch(Ctx& from, Ctx& to) { swapcontext(&from.u, &to.u); }
#endif

enum class St : uint8_t { Ready, Warp, Block, Grid, Done };
struct Block;
struct Fiber {
  Ctx ctx;
  char* map = nullptr;
  char* stk = nullptr;
  size_t n = 0;
  void* fake = nullptr;
  void* tsan = nullptr;
  Block* blk = nullptr;
  uint3 tid{};
  unsigned lin = 0, lane = 0;
  St st = St::Done;
  int pred = 0;
  bool fenced = false;
  std::vector<void*> at_addr;
  struct Cp {
    void* d;
    const void* s;
    int grp;
    int n;
  };
  std::vector<Cp> cp;
  int ncommit = 0;
  uint32_t mask = 0;
  unsigned kind = 0;
  void* arg = nullptr;
  void (*comp)(void**, uint32_t) = nullptr;
  std::source_location loc{};
};
struct Warp {
  Fiber* l[32] = {};
  uint32_t alive = 0, waiting = 0;
};
inline char* sync_token(size_t n) {  // never-reused addresses for happens-before edges
#ifdef EMU_TSAN
  static char* t =
      (char*)mmap(nullptr, size_t(1) << 33, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  char* r = t;
  t += n * 8;
  return r;
#else
  (void)n;
  return nullptr;
#endif
}
struct Block {
  char* tok = sync_token(33);
  uint3 idx{};
  std::vector<Fiber*> f;
  std::vector<Warp> w;
  unsigned alive = 0, at_bar = 0, at_grid = 0;
  int red_or = 0, red_and = 1, red_cnt = 0;
  int res_or = 0, res_and = 1, res_cnt = 0;
  char* dyn = nullptr;
  size_t dyn_n = 0;
  std::map<int, std::pair<char*, size_t>> arrays;
  std::source_location bar_loc{};
  void release() {
    std::free(dyn);
    dyn = nullptr;
    for (auto& a : arrays) std::free(a.second.first);
    arrays.clear();
  }
};

struct Machine {
  dim3 grid, block;
  Fiber* cur = nullptr;
  Ctx main;
  void* main_fake = nullptr;
  const void* main_lo = nullptr;
  size_t main_n = 0;
  void* main_tsan = nullptr;
  std::vector<std::unique_ptr<Fiber>> pool;
  std::vector<Fiber*> freef;
  std::vector<std::unique_ptr<Block>> live;
  std::vector<Fiber*> ready;
  void (*body)(void*) = nullptr;
  void* body_arg = nullptr;
  std::string err;
  std::mt19937_64 rng;
  bool coop = false;
  size_t smem = 0;
  size_t bar_key[2] = {0, 0};
};
inline Machine m;
inline std::string where(const Fiber* f, const std::source_location& l) {
  char b[512];
  std::snprintf(b, sizeof b, "block(%u,%u,%u) thread(%u,%u,%u) at %s:%u", f->blk->idx.x, f->blk->idx.y, f->blk->idx.z,
                f->tid.x, f->tid.y, f->tid.z, l.file_name(), (unsigned)l.line());
  return b;
}
[[noreturn]] inline void fail(const std::string& s) { throw Error(s); }

inline EMU_NOTSAN void to_main() {  // fibre -> scheduler
  Fiber* f = m.cur;
  stats.switches++;
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(f->st == St::Done ? nullptr : &f->fake, m.main_lo, m.main_n);
#endif
#ifdef EMU_TSAN
  __tsan_switch_to_fiber(m.main_tsan, 1);
#endif
  ctx_switch(f->ctx, m.main);
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(f->fake, &m.main_lo, &m.main_n);
#endif
}
inline EMU_NOTSAN void to_fiber(Fiber* f) {  // scheduler -> fibre
  m.cur = f;
#ifdef EMU_ASAN
  __sanitizer_start_switch_fiber(&m.main_fake, f->stk, f->n);
#endif
#ifdef EMU_TSAN
  __tsan_switch_to_fiber(f->tsan, 1);
#endif
  ctx_switch(m.main, f->ctx);
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(m.main_fake, nullptr, nullptr);
#endif
  m.cur = nullptr;
}
inline void make_ready(Fiber* f) {
  f->st = St::Ready;
  m.ready.push_back(f);
}
inline void preempt() {
  EMU_QUIET;
  if (config.preempt_permille && m.rng() % 1000 < config.preempt_permille) {
    stats.preempts++;
    make_ready(m.cur);
    to_main();
  }
}

// ---- warp collectives: the last lane to arrive runs complete() over every lane's argument -------------------------
using Complete = void (*)(void** args, uint32_t mask);
inline EMU_NOTSAN void warp_check(Warp& w, uint32_t mask, unsigned kind, Complete c) {
  uint32_t need = mask & w.alive;
  if (!need) return;
  if ((w.waiting & need) != need) return;
  void* args[32];
  Fiber* first = nullptr;
  for (int i = 0; i < 32; i++) {
    args[i] = nullptr;
    if (need >> i & 1) {
      Fiber* f = w.l[i];
      if (f->mask != mask || f->kind != kind) return;
      if (!first)
        first = f;
      else if (f->loc.line() != first->loc.line() || f->loc.column() != first->loc.column())
        fail("warp collective reached from different source lines: " + where(first, first->loc) + " vs " +
             where(f, f->loc));
      args[i] = f->arg;
    }
  }
  c(args, need);
  w.waiting &= ~need;
  stats.warp_ops++;
  for (int i = 0; i < 32; i++)
    if (need >> i & 1) {
      if (w.l[i] != m.cur)
        make_ready(w.l[i]);
      else
        w.l[i]->st = St::Ready;
    }
}
inline EMU_NOTSAN void warp_op(unsigned kind, uint32_t mask, void* arg, Complete c, const std::source_location& loc) {
  EMU_QUIET;
  Fiber* f = m.cur;
  Warp& w = f->blk->w[f->lin / 32];
  if (!(mask >> f->lane & 1)) fail("lane not in its own mask: " + where(f, loc));
  if (mask & ~w.alive & ~uint32_t(0)) { /* exited / absent lanes are ignored, their value is poison */
  }
  f->mask = mask;
  f->kind = kind;
  f->arg = arg;
  f->comp = c;
  f->loc = loc;
  f->st = St::Warp;
  w.waiting |= 1u << f->lane;
  warp_check(w, mask, kind, c);
  if (f->st == St::Warp) to_main();
  preempt();
}

// ---- block / grid barriers ---------------------------------------------------------------------------------------
inline EMU_NOTSAN void block_check(Block* b) {
  if (!b->alive || b->at_bar < b->alive) return;
  stats.barriers++;
  b->at_bar = 0;
  b->res_or = b->red_or;
  b->res_and = b->red_and;
  b->res_cnt = b->red_cnt;
  b->red_or = 0;
  b->red_and = 1;
  b->red_cnt = 0;
  for (auto* f : b->f)
    if (f->st == St::Block) make_ready(f);
}
inline void barrier(int pred, const std::source_location& loc) {
  Fiber* f = m.cur;
  Block* b = f->blk;
  EMU_REL(b->tok);
  EMU_QUIET;
  if (b->at_bar == 0)
    b->bar_loc = loc;
  else if (b->bar_loc.line() != loc.line() || b->bar_loc.column() != loc.column())
    fail("divergent __syncthreads: " + where(f, loc) + ", others wait at line " + std::to_string(b->bar_loc.line()));
  if (b->alive != b->f.size())
    fail("__syncthreads after " + std::to_string(b->f.size() - b->alive) +
         " threads of the block have exited: " + where(f, loc));
  b->red_or |= pred != 0;
  b->red_and &= pred != 0;
  b->red_cnt += pred != 0;
  b->at_bar++;
  f->loc = loc;
  f->st = St::Block;
  block_check(b);
  to_main();
  EMU_ACQ(b->tok);
}
inline EMU_NOTSAN void grid_check() {
  unsigned all = 0, at = 0;
  for (auto& b : m.live) {
    all += b->alive;
    at += b->at_grid;
  }
  if (!all || at < all) return;
  stats.grid_syncs++;
  for (auto& b : m.live) {
    b->at_grid = 0;
    for (auto* f : b->f)
      if (f->st == St::Grid) make_ready(f);
  }
}
inline void grid_sync(const std::source_location& loc) {
  EMU_QUIET;
  Fiber* f = m.cur;
  if (!m.coop) fail("grid.sync() in a kernel that was not launched cooperatively: " + where(f, loc));
  EMU_REL(&m.coop);
  f->blk->at_grid++;
  f->loc = loc;
  f->st = St::Grid;
  grid_check();
  to_main();
  EMU_ACQ(&m.coop);
}

inline void entry() {
#ifdef EMU_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &m.main_lo, &m.main_n);
#endif
  for (;;) {
    Fiber* f = m.cur;
    EMU_ACQ(&m.grid);
    try {
      m.body(m.body_arg);
    } catch (const std::exception& e) {
      if (m.err.empty()) m.err = e.what();
    }
    EMU_REL(&m.block);
    EMU_QUIET;
    f->st = St::Done;
    Block* b = f->blk;
    Warp& w = b->w[f->lin / 32];
    w.alive &= ~(1u << f->lane);
    b->alive--;
    if (m.err.empty() && b->at_bar) {
      m.err = "thread exited while others wait in __syncthreads: " + where(f, b->bar_loc);
    }
    if (w.waiting) try {
        for (int i = 0; i < 32; i++)
          if (w.waiting >> i & 1) warp_check(w, w.l[i]->mask, w.l[i]->kind, w.l[i]->comp);
      } catch (const std::exception& x) {
        if (m.err.empty()) m.err = x.what();
      }  // exited lanes are not waited for
    grid_check();
    to_main();
  }
}
inline Fiber* get_fiber() {
  if (!m.freef.empty()) {
    auto* f = m.freef.back();
    m.freef.pop_back();
    return f;
  }
  auto f = std::make_unique<Fiber>();
  size_t pg = 4096, n = config.stack ? config.stack :
#if defined(EMU_ASAN) || defined(EMU_TSAN)
                                     (256u << 10);
#else
                                     (64u << 10);
#endif
  f->map = (char*)mmap(nullptr, n + pg, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (f->map == MAP_FAILED) fail("mmap of a fibre stack failed");
  mprotect(f->map, pg, PROT_NONE);
  f->stk = f->map + pg;
  f->n = n;
  ctx_make(f->ctx, f->stk, n, &entry);
#ifdef EMU_TSAN
  f->tsan = __tsan_create_fiber(0);
#endif
  m.pool.push_back(std::move(f));
  return m.pool.back().get();
}
inline char* fresh(size_t n, size_t align) {
  char* p = (char*)std::aligned_alloc(std::max<size_t>(align, 16),
                                      (n + 15 + align) / std::max<size_t>(align, 16) * std::max<size_t>(align, 16));
#ifdef EMU_ASAN
  // make the allocation's tail past n unaddressable too
  ASAN_POISON_MEMORY_REGION(
      p + (n + 7) / 8 * 8,
      ((n + 15 + align) / std::max<size_t>(align, 16) * std::max<size_t>(align, 16)) - (n + 7) / 8 * 8);
#endif
  if (config.poison) std::memset(p, 0xff, n);
  return p;
}
template <class T>
T& shared_array(int key) {
  EMU_QUIET;
  auto& e = m.cur->blk->arrays[key];
  if (!e.first) {
    e.second = sizeof(T);
    e.first = fresh(sizeof(T), alignof(T));
  }
  return *reinterpret_cast<T*>(e.first);
}
inline char* dyn_smem() {
  EMU_QUIET;
  auto* b = m.cur->blk;
  if (!b->dyn) b->dyn = fresh(m.smem ? m.smem : 1, 128);
  return b->dyn;
}

inline void run(dim3 grid, dim3 block, size_t smem, bool coop, void (*body)(void*), void* arg) {
  EMU_REL(&m.grid);
  EMU_QUIET;
  unsigned nt = block.x * block.y * block.z;
  uint64_t nb = uint64_t(grid.x) * grid.y * grid.z;
  if (!nt || nt > 1024 || block.z > 64) fail("bad block size");
  if (!nb || grid.y > 65535 || grid.z > 65535) fail("bad grid size");
  if (smem > 227 * 1024) fail("too much shared memory");
  m.grid = grid;
  m.block = block;
  m.smem = smem;
  m.coop = coop;
  m.body = body;
  m.body_arg = arg;
  m.err.clear();
  m.rng.seed(config.seed);
  std::vector<uint64_t> order(nb);
  for (uint64_t i = 0; i < nb; i++) order[i] = i;
  if (config.order == Order::Reverse) std::reverse(order.begin(), order.end());
  if (config.order == Order::Random) std::shuffle(order.begin(), order.end(), m.rng);
#ifdef EMU_TSAN
  m.main_tsan = __tsan_get_current_fiber();
#endif
  uint64_t next = 0;
  const uint64_t cap = coop ? nb : std::max(1u, config.live_blocks);
  auto start = [&](uint64_t id) {
    auto b = std::make_unique<Block>();
    b->idx = {unsigned(id % grid.x), unsigned(id / grid.x % grid.y), unsigned(id / grid.x / grid.y)};
    b->alive = nt;
    b->w.resize((nt + 31) / 32);
    b->f.resize(nt);
    stats.threads += nt;
    std::vector<unsigned> t(nt);
    for (unsigned i = 0; i < nt; i++) t[i] = i;
    if (config.order == Order::Reverse) std::reverse(t.begin(), t.end());
    if (config.order == Order::Random) std::shuffle(t.begin(), t.end(), m.rng);
    for (unsigned i : t) {
      Fiber* f = get_fiber();
      f->blk = b.get();
      f->lin = i;
      f->lane = i % 32;
      f->tid = {i % block.x, i / block.x % block.y, i / block.x / block.y};
      f->pred = 0;
      f->fenced = false;
      f->at_addr.clear();
      f->cp.clear();
      f->ncommit = 0;
      b->f[i] = f;
      b->w[i / 32].l[i % 32] = f;
      b->w[i / 32].alive |= 1u << (i % 32);
      make_ready(f);
    }
    m.live.push_back(std::move(b));
  };
  std::vector<Fiber*> batch;
  bool stuck = false;
  while (m.err.empty()) {
    while (m.live.size() < cap && next < nb) start(order[next++]);
    if (m.live.empty()) break;
    batch.swap(m.ready);
    m.ready.clear();
    if (batch.empty()) {
      stuck = true;
      break;
    }
    if (config.order == Order::Random)
      std::shuffle(batch.begin(), batch.end(), m.rng);
    else
      std::stable_sort(batch.begin(), batch.end(), [](Fiber* a, Fiber* b) {
        return config.order == Order::Forward ? a->lin < b->lin : a->lin > b->lin;
      });
    for (auto* f : batch) {
      if (!m.err.empty()) break;
      to_fiber(f);
    }
    for (size_t i = 0; i < m.live.size();) {
      Block* b = m.live[i].get();
      if (b->alive == 0 && !coop) {
        for (auto* f : b->f) m.freef.push_back(f);
        b->release();
        m.live.erase(m.live.begin() + i);
      } else
        i++;
    }
    if (coop && next == nb && std::all_of(m.live.begin(), m.live.end(), [](auto& b) { return b->alive == 0; })) {
      for (auto& b : m.live) {
        for (auto* f : b->f) m.freef.push_back(f);
        b->release();
      }
      m.live.clear();
    }
  }
  EMU_ACQ(&m.block);
  if (stuck) {
    m.err = "deadlock:";
    int n = 0;
    for (auto& b : m.live)
      for (auto* f : b->f)
        if (f->st != St::Done && n++ < 4)
          m.err += std::string("\n  ") +
                   (f->st == St::Warp    ? "warp collective "
                    : f->st == St::Block ? "__syncthreads "
                                         : "grid.sync ") +
                   where(f, f->loc);
  }
  if (!m.err.empty()) {
    for (auto& b : m.live) b->release();
    m.live.clear();
    m.ready.clear();
    m.freef.clear();
    static std::vector<std::unique_ptr<Fiber>> grave;
    for (auto& f : m.pool) grave.push_back(std::move(f));
    m.pool.clear();  // their stacks are half-run: never reuse or unmap them
    throw Error(m.err);
  }
}
template <class K, class... A>
void launch(K kernel, dim3 g, dim3 b, size_t smem, bool coop, A... a) {
#if defined(EMU_ASAN)
  if (!m.main_lo) { /* learned at the first switch */
  }
#endif
  auto fn = [&] { kernel(a...); };
  using F = decltype(fn);
  run(g, b, smem, coop, [](void* p) { (*static_cast<F*>(p))(); }, &fn);
}
template <class T>
EMU_NOTSAN void at_pre(T* p) {
  EMU_QUIET;
  stats.atomics++;
  preempt();
  if (m.cur->fenced) EMU_REL(p);
  (void)p;
}
template <class T>
EMU_NOTSAN void at_post(T* p) {
#ifdef EMU_TSAN
  EMU_QUIET;
  m.cur->at_addr.push_back((void*)p);
#endif
  (void)p;
}
}  // namespace emu

#define threadIdx (::emu::m.cur->tid)
#define blockIdx (::emu::m.cur->blk->idx)
#define blockDim (::emu::m.block)
#define gridDim (::emu::m.grid)
#define SHARED_ARRAY(T, name, N) T(&name)[N] = ::emu::shared_array<T[N]>(__COUNTER__)
#define DYN_SMEM(T, name) T* name = reinterpret_cast<T*>(::emu::dyn_smem())
#define CUDA_LAUNCH(kernel, grid, block, smem, stream, ...) ::emu::launch(kernel, grid, block, smem, false, __VA_ARGS__)
#define CUDA_LAUNCH_COOP(kernel, grid, block, smem, stream, ...) \
  ::emu::launch(kernel, grid, block, smem, true, __VA_ARGS__)
#define EMU_LOC std::source_location loc = std::source_location::current()

inline void __syncthreads(EMU_LOC) { emu::barrier(0, loc); }
inline int __syncthreads_or(int p, EMU_LOC) {
  auto* b = emu::m.cur->blk;
  emu::barrier(p, loc);
  return b->res_or;
}
inline int __syncthreads_and(int p, EMU_LOC) {
  auto* b = emu::m.cur->blk;
  emu::barrier(p, loc);
  return b->res_and;
}
inline int __syncthreads_count(int p, EMU_LOC) {
  auto* b = emu::m.cur->blk;
  emu::barrier(p, loc);
  return b->res_cnt;
}
namespace emu {
template <class T>
struct ShflArg {
  T v;
  int src;
  T out;
};
template <class T>
inline T poison_value() {
  T t;
  std::memset(&t, 0xff, sizeof t);
  return t;
}
template <class T>
EMU_NOTSAN T shfl(unsigned kind, unsigned mask, T v, int src, const std::source_location& loc) {
  ShflArg<T> a{v, src, v};
  warp_op(
      kind, mask, &a,
      [](void** args, uint32_t need) {
        for (int i = 0; i < 32; i++)
          if (need >> i & 1) {
            auto* x = (ShflArg<T>*)args[i];
            x->out = (need >> x->src & 1) ? ((ShflArg<T>*)args[x->src])->v : poison_value<T>();
          }
      },
      loc);
  return a.out;
}
inline int lane() { return int(m.cur->lane); }
struct VoteArg {
  unsigned v;
  unsigned out;
};
}  // namespace emu
template <class T>
T __shfl_sync(unsigned mask, T v, int src, int w = 32, EMU_LOC) {
  int l = emu::lane();
  return emu::shfl(1, mask, v, (l & ~(w - 1)) | (src & (w - 1)), loc);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned d, int w = 32, EMU_LOC) {
  int l = emu::lane(), s = l + int(d);
  return emu::shfl(2, mask, v, (l & (w - 1)) + int(d) < w ? s : l, loc);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned d, int w = 32, EMU_LOC) {
  int l = emu::lane();
  return emu::shfl(3, mask, v, (l & (w - 1)) >= int(d) ? l - int(d) : l, loc);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int x, int w = 32, EMU_LOC) {
  int l = emu::lane(), s = l ^ x;
  return emu::shfl(4, mask, v, s / w <= l / w ? s : l, loc);
}
inline EMU_NOTSAN unsigned __ballot_sync(unsigned mask, int p, EMU_LOC) {
  emu::VoteArg a{unsigned(p != 0), 0};
  emu::warp_op(
      5, mask, &a,
      [](void** g, uint32_t n) {
        unsigned r = 0;
        for (int i = 0; i < 32; i++)
          if (n >> i & 1) r |= ((emu::VoteArg*)g[i])->v << i;
        for (int i = 0; i < 32; i++)
          if (n >> i & 1) ((emu::VoteArg*)g[i])->out = r;
      },
      loc);
  return a.out;
}
inline int __any_sync(unsigned mask, int p, EMU_LOC) { return __ballot_sync(mask, p, loc) != 0; }
inline int __all_sync(unsigned mask, int p, EMU_LOC) { return __ballot_sync(mask, !p, loc) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_LOC) {
  char* w = emu::m.cur->blk->tok + 8 + 8 * (emu::m.cur->lin / 32);
  (void)w;
  EMU_REL(w);
  emu::VoteArg a{0, 0};
  emu::warp_op(6, mask, &a, [](void**, uint32_t) {}, loc);
  EMU_ACQ(w);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned v, EMU_LOC) {
  emu::VoteArg a{v, 0};
  emu::warp_op(
      7, mask, &a,
      [](void** g, uint32_t n) {
        unsigned r = 0;
        for (int i = 0; i < 32; i++)
          if (n >> i & 1) r = std::max(r, ((emu::VoteArg*)g[i])->v);
        for (int i = 0; i < 32; i++)
          if (n >> i & 1) ((emu::VoteArg*)g[i])->out = r;
      },
      loc);
  return a.out;
}
unsigned __activemask() = delete;  // its value is not defined by the programming model: refuse to guess
// ---- atomics (relaxed, as in CUDA); a fence before/after one gives release/acquire for the race detector -----------
#define EMU_AT(name, expr)                                                                         \
  template <class T>                                                                               \
  T name(T* p, std::type_identity_t<T> v) {                                                        \
    emu::at_pre(p);                                                                                \
    T o = __atomic_load_n(p, __ATOMIC_RELAXED);                                                    \
    while (true) {                                                                                 \
      T n = (expr);                                                                                \
      if (__atomic_compare_exchange_n(p, &o, n, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break; \
    }                                                                                              \
    emu::at_post(p);                                                                               \
    return o;                                                                                      \
  }
// clang-format off
EMU_AT(atomicMax, std::max(o, v))
EMU_AT(atomicMin, std::min(o, v))
EMU_AT(atomicExch, v)
EMU_AT(atomicOr, T(o | v))
EMU_AT(atomicAnd, T(o & v))
// clang-format on
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  emu::at_pre(p);
  T o;
  if constexpr (std::is_integral_v<T>)
    o = __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
  else {
    using U = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    U ob = __atomic_load_n((U*)p, __ATOMIC_RELAXED);
    while (true) {
      std::memcpy(&o, &ob, sizeof o);
      T n = o + v;
      U nb;
      std::memcpy(&nb, &n, sizeof n);
      if (__atomic_compare_exchange_n((U*)p, &ob, nb, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
    }
  }
  emu::at_post(p);
  return o;
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> c, std::type_identity_t<T> v) {
  emu::at_pre(p);
  __atomic_compare_exchange_n(p, &c, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  emu::at_post(p);
  return c;
}
inline void __threadfence() {
  EMU_QUIET;
  auto* f = emu::m.cur;
  f->fenced = true;
  for (auto* a : f->at_addr) EMU_ACQ(a);
  f->at_addr.clear();
}
inline void __threadfence_block() { __threadfence(); }
// ---- a few device intrinsics
// -----------------------------------------------------------------------------------------
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
inline int __float_as_int(float f) {
  int i;
  std::memcpy(&i, &f, 4);
  return i;
}
inline unsigned __float_as_uint(float f) {
  unsigned i;
  std::memcpy(&i, &f, 4);
  return i;
}
inline float __int_as_float(int i) {
  float f;
  std::memcpy(&f, &i, 4);
  return f;
}
inline float __uint_as_float(unsigned i) {
  float f;
  std::memcpy(&f, &i, 4);
  return f;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
template <class T>
const T& max(const T& a, const T& b) {
  return a < b ? b : a;
}
template <class T>
const T& min(const T& a, const T& b) {
  return b < a ? b : a;
}
namespace cooperative_groups {
struct grid_group {
  void sync(EMU_LOC) const { emu::grid_sync(loc); }
  unsigned long long num_threads() const {
    return 1ull * gridDim.x * gridDim.y * gridDim.z * blockDim.x * blockDim.y * blockDim.z;
  }
  unsigned long long thread_rank() const {
    return ((1ull * blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) *
               (blockDim.x * blockDim.y * blockDim.z) +
           emu::m.cur->lin;
  }
};
inline grid_group this_grid() { return {}; }
struct thread_block {
  void sync(EMU_LOC) const { emu::barrier(0, loc); }
  unsigned thread_rank() const { return emu::m.cur->lin; }
  unsigned size() const { return unsigned(emu::m.cur->blk->f.size()); }
};
inline thread_block this_thread_block() { return {}; }
}  // namespace cooperative_groups
// ---- tensor core: mma.sync.m16n8k16 bf16 with PTX's documented register layout
// ---------------------------------------------
namespace emu {
struct MmaArg {
  const uint32_t* a;
  const uint32_t* b;
  float* d;
};
inline float bf(uint32_t reg, int half) {
  uint32_t u = (half ? reg >> 16 : reg & 0xffffu) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline EMU_NOTSAN void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                         const std::source_location& loc) {
  MmaArg g{a, b, d};
  warp_op(
      8, 0xffffffffu, &g,
      [](void** args, uint32_t need) {
        if (need != 0xffffffffu) fail("mma.sync needs all 32 lanes");
        float A[16][16], B[16][8];
        for (int l = 0; l < 32; l++) {
          auto* x = (MmaArg*)args[l];
          int gr = l >> 2, t = l & 3;
          for (int r = 0; r < 4; r++)
            for (int h = 0; h < 2; h++) A[gr + 8 * (r & 1)][t * 2 + h + 8 * (r >> 1)] = bf(x->a[r], h);
          for (int r = 0; r < 2; r++)
            for (int h = 0; h < 2; h++) B[t * 2 + h + 8 * r][gr] = bf(x->b[r], h);
        }
        for (int l = 0; l < 32; l++) {
          auto* x = (MmaArg*)args[l];
          int gr = l >> 2, t = l & 3;
          for (int i = 0; i < 4; i++) {
            int row = gr + 8 * (i >> 1), col = t * 2 + (i & 1);
            double s = 0;
            for (int k = 0; k < 16; k++) s += double(A[row][k]) * B[k][col];
            x->d[i] = float(double(x->d[i]) + s);
          }
        }
      },
      loc);
}
}  // namespace emu

// ---- asynchronous copies: performed only at the wait, so that a missing wait is seen
// ---------------------------------------------
inline void cp_async16(void* s, const void* g) {
  EMU_QUIET;
  if ((uintptr_t(s) | uintptr_t(g)) & 15) emu::fail("cp.async: misaligned");
  std::memset(s, 0xff, 16);
  emu::m.cur->cp.push_back({s, g, -1, 16});
}
inline void cp_async_commit() {
  EMU_QUIET;
  auto* f = emu::m.cur;
  for (auto& c : f->cp)
    if (c.grp < 0) c.grp = f->ncommit;
  f->ncommit++;
}
template <int N>
void cp_async_wait() {
  auto* f = emu::m.cur;
  std::vector<emu::Fiber::Cp> now;
  {
    EMU_QUIET;
    std::vector<emu::Fiber::Cp> keep;
    for (auto& c : f->cp) (c.grp >= 0 && c.grp < f->ncommit - N ? now : keep).push_back(c);
    f->cp.swap(keep);
  }
  for (auto& c : now)
    for (int i = 0; i < c.n / 4; i++) ((uint32_t*)c.d)[i] = ((const uint32_t*)c.s)[i];
}
// ---- ldmatrix: lanes exchange row addresses, then each lane reads the elements it is given
// ----------------------------------------
namespace emu {
struct LdsmArg {
  const void* p;
  const void* all[32];
};
template <int NM>
inline void ldsm(uint32_t (&r)[NM], const void* p, const std::source_location& loc) {
  LdsmArg a;
  {
    EMU_QUIET;
    a.p = p;
  }
  if (uintptr_t(p) & 15) fail("ldmatrix: misaligned row address");
  warp_op(
      9, 0xffffffffu, &a,
      [](void** g, uint32_t need) {
        if (need != 0xffffffffu) fail("ldmatrix needs all 32 lanes");
        for (int i = 0; i < 32; i++)
          for (int j = 0; j < 32; j++) ((LdsmArg*)g[i])->all[j] = ((LdsmArg*)g[j])->p;
      },
      loc);
  int l = lane();
  for (int q = 0; q < NM; q++) {
    const void* row;
    {
      EMU_QUIET;
      row = a.all[8 * q + l / 4];
    }
    r[q] = ((const uint32_t*)row)[l % 4];
  }
}
}  // namespace emu
inline void ldsm_x4(uint32_t (&r)[4], const void* p, EMU_LOC) { emu::ldsm<4>(r, p, loc); }
inline void ldsm_x2(uint32_t (&r)[2], const void* p, EMU_LOC) { emu::ldsm<2>(r, p, loc); }
// ---- wmma: the fragment layout is unspecified, so use a scrambled one
// ----------------------------------------------------------------
namespace nvcuda::wmma {
struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
template <class U, int M, int N, int K, class T, class L = void>
struct fragment {
  static_assert(M == 16 && N == 16 && K == 16);
  static constexpr int num_elements = 8;
  T x[8];
};
inline int at_(int i) { return (emu::lane() * 8 + i) * 37 % 256; }
template <class F, class T>
void fill_fragment(F& f, T v) {
  for (auto& q : f.x) q = v;
}
template <class U, class T, class L>
void load_matrix_sync(fragment<U, 16, 16, 16, T, L>& f, const T* p, unsigned ld, EMU_LOC) {
  if (uintptr_t(p) & 31) emu::fail("wmma: pointer not 256-bit aligned: " + emu::where(emu::m.cur, loc));
  for (int i = 0; i < 8; i++) {
    int r = at_(i) / 16, c = at_(i) % 16;
    f.x[i] = std::is_same_v<L, col_major> ? p[c * ld + r] : p[r * ld + c];
  }
  __ballot_sync(0xffffffffu, 1, loc);
}
template <class T>
void store_matrix_sync(T* p, const fragment<accumulator, 16, 16, 16, T>& f, unsigned ld, layout_t o, EMU_LOC) {
  for (int i = 0; i < 8; i++) {
    int r = at_(i) / 16, c = at_(i) % 16;
    p[o == mem_row_major ? r * ld + c : c * ld + r] = f.x[i];
  }
  __ballot_sync(0xffffffffu, 1, loc);
}
template <class T, class LA, class LB>
struct MmaArg {
  const fragment<matrix_a, 16, 16, 16, T, LA>* a;
  const fragment<matrix_b, 16, 16, 16, T, LB>* b;
  const fragment<accumulator, 16, 16, 16, float>* c;
  fragment<accumulator, 16, 16, 16, float>* d;
};
template <class T, class LA, class LB>
EMU_NOTSAN void mma_sync(fragment<accumulator, 16, 16, 16, float>& d, const fragment<matrix_a, 16, 16, 16, T, LA>& a,
                         const fragment<matrix_b, 16, 16, 16, T, LB>& b,
                         const fragment<accumulator, 16, 16, 16, float>& c, EMU_LOC) {
  using G = MmaArg<T, LA, LB>;
  G g{&a, &b, &c, &d};
  emu::warp_op(
      10, 0xffffffffu, &g,
      [](void** q, uint32_t need) {
        if (need != 0xffffffffu) emu::fail("wmma needs all 32 lanes");
        static float A[256], B[256], C[256], D[256];
        for (int l = 0; l < 32; l++)
          for (int i = 0; i < 8; i++) {
            int e = (l * 8 + i) * 37 % 256;
            A[e] = float(((G*)q[l])->a->x[i]);
            B[e] = float(((G*)q[l])->b->x[i]);
            C[e] = ((G*)q[l])->c->x[i];
          }
        for (int r = 0; r < 16; r++)
          for (int n = 0; n < 16; n++) {
            double s = C[r * 16 + n];
            for (int k = 0; k < 16; k++) s += double(A[r * 16 + k]) * B[k * 16 + n];
            D[r * 16 + n] = float(s);
          }
        for (int l = 0; l < 32; l++)
          for (int i = 0; i < 8; i++) ((G*)q[l])->d->x[i] = D[(l * 8 + i) * 37 % 256];
      },
      loc);
}
}  // namespace nvcuda::wmma
