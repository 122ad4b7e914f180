// Shared memory: each block has its own, filled with 0xff (NaN, -1) before it is written, with unreadable bytes behind
// it under the address sanitizer. Loads and stores with a cache hint.
#pragma once
#include <cstddef>

#include "machine.hpp"

namespace emu {

char* shared_array(const void* declaration, size_t bytes, size_t alignment);
char* dynamic_shared();

}  // namespace emu

// A declaration is known by the address of a byte beside it: the same for all callers of an inline function, and
// different for each instance of a template, as a __shared__ array is.
#define SHARED_ARRAY(T, name, N) \
  static char name##_declared;   \
  T(&name)[N] = *reinterpret_cast<T(*)[N]>(::emu::shared_array(&name##_declared, sizeof(T[N]), alignof(T)))
#define DYN_SMEM(T, name) T* name = reinterpret_cast<T*>(::emu::dynamic_shared())
#define __shared__ \
  static_assert(false, "use SHARED_ARRAY or DYN_SMEM, so that the emulator can give each block its own memory");

// clang-format off
template <class T> T __ldg(const T* p) { return *p; }
template <class T> T __ldca(const T* p) { return *p; }
template <class T> T __ldcg(const T* p) { return *p; }
template <class T> T __ldcs(const T* p) { return *p; }
template <class T> T __ldlu(const T* p) { return *p; }
template <class T> T __ldcv(const T* p) { return *p; }
template <class T> void __stwb(T* p, T v) { *p = v; }
template <class T> void __stcg(T* p, T v) { *p = v; }
template <class T> void __stcs(T* p, T v) { *p = v; }
template <class T> void __stwt(T* p, T v) { *p = v; }
// clang-format on
