// Atomics, relaxed as in CUDA. A fence before one makes it release, a fence after one makes it acquire: those are the
// edges that the thread sanitizer is told.
#pragma once
#include <cstring>
#include <type_traits>

#include "machine.hpp"
#include "warp.hpp"

namespace emu {

EMU_UNSEEN inline void before_atomic(void* at) {
  EMU_QUIET;
  stats.atomics++;
  preempt();
  if (machine.current->fenced) EMU_RELEASE(at);
}

EMU_UNSEEN inline void after_atomic(void* at) {
#ifdef EMU_TSAN
  EMU_QUIET;
  machine.current->touched.push_back(at);
#else
  (void)at;
#endif
}

// old = *at, *at = change(old), in one step; old.
template <class T, class Change>
T atomic(T* at, Change change) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static_assert(sizeof(T) == sizeof(Bits));
  before_atomic(at);
  auto* place = reinterpret_cast<Bits*>(at);
  Bits before = __atomic_load_n(place, __ATOMIC_RELAXED), after;
  T old;
  do {
    std::memcpy(&old, &before, sizeof old);
    const T changed = change(old);
    std::memcpy(&after, &changed, sizeof after);
  } while (!__atomic_compare_exchange_n(place, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  after_atomic(at);
  return old;
}

}  // namespace emu

#define EMU_ATOMIC(name, T, expression)                                        \
  inline T name(T* at, T v) {                                                  \
    return emu::atomic(at, [v](T old) { return static_cast<T>(expression); }); \
  }
#define EMU_ATOMIC_INTEGERS(name, expression) \
  EMU_ATOMIC(name, int, expression)           \
  EMU_ATOMIC(name, unsigned, expression)      \
  EMU_ATOMIC(name, unsigned long long, expression)
EMU_ATOMIC_INTEGERS(atomicAdd, emu::Add()(old, v))
EMU_ATOMIC(atomicAdd, float, old + v)
EMU_ATOMIC(atomicAdd, double, old + v)
EMU_ATOMIC(atomicSub, int, emu::Add()(old, int(0u - unsigned(v))))
EMU_ATOMIC(atomicSub, unsigned, old - v)
EMU_ATOMIC_INTEGERS(atomicExch, v)
EMU_ATOMIC(atomicExch, float, v)
EMU_ATOMIC_INTEGERS(atomicMin, v < old ? v : old)
EMU_ATOMIC_INTEGERS(atomicMax, old < v ? v : old)
EMU_ATOMIC(atomicMin, long long, v < old ? v : old)
EMU_ATOMIC(atomicMax, long long, old < v ? v : old)
EMU_ATOMIC_INTEGERS(atomicAnd, old& v)
EMU_ATOMIC_INTEGERS(atomicOr, old | v)
EMU_ATOMIC_INTEGERS(atomicXor, old ^ v)
EMU_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1)
EMU_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1)
#undef EMU_ATOMIC_INTEGERS
#undef EMU_ATOMIC

#define EMU_COMPARE_AND_SWAP(T)                                                         \
  inline T atomicCAS(T* at, T expected, T v) {                                          \
    return emu::atomic(at, [expected, v](T old) { return old == expected ? v : old; }); \
  }
EMU_COMPARE_AND_SWAP(int)
EMU_COMPARE_AND_SWAP(unsigned)
EMU_COMPARE_AND_SWAP(unsigned long long)
#undef EMU_COMPARE_AND_SWAP

inline void __threadfence() {
  EMU_QUIET;
  emu::Fiber* fiber = emu::machine.current;
  fiber->fenced = true;
  for (void* at : fiber->touched) EMU_ACQUIRE(at);
  fiber->touched.clear();
}
inline void __threadfence_block() { __threadfence(); }
inline void __threadfence_system() { __threadfence(); }
inline void __nanosleep(unsigned) { emu::yield(); }
