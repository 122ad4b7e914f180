// Asynchronous copies from global to shared memory (cp.async): done only at the wait, so that a missing wait is seen.
#pragma once
#include <cstdint>
#include <vector>

#include "machine.hpp"

namespace emu {

// Until the wait the destination holds poison, written here for the sanitizers to see: the copy may come at any time
// from now on, and nobody may be reading there.
inline void copy_later(void* to, const void* from, int bytes, const std::source_location& location) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fail("cp.async copies 4, 8 or 16 bytes", location);
  if ((uintptr_t(to) | uintptr_t(from)) % unsigned(bytes)) fail("cp.async: misaligned", location);
  for (int i = 0; i < bytes / 4; ++i) static_cast<uint32_t*>(to)[i] = 0xffffffffu;
  EMU_QUIET;
  machine.current->copies.push_back({to, from, -1, bytes});
}

}  // namespace emu

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, EMU_LOCATION) {
  emu::copy_later(to, from, int(bytes), location);
}

inline void __pipeline_commit() {
  EMU_QUIET;
  emu::Fiber* fiber = emu::machine.current;
  for (auto& copy : fiber->copies)
    if (copy.group < 0) copy.group = fiber->committed;
  fiber->committed++;
}

// Waits for all but the last `newest` groups.
inline void __pipeline_wait_prior(int newest) {
  std::vector<emu::Fiber::Copy> now;
  {
    EMU_QUIET;
    emu::Fiber* fiber = emu::machine.current;
    std::vector<emu::Fiber::Copy> later;
    for (const auto& copy : fiber->copies)
      (copy.group >= 0 && copy.group < fiber->committed - newest ? now : later).push_back(copy);
    fiber->copies.swap(later);
  }
  for (const auto& copy : now)  // by words, which the sanitizers look at
    for (int i = 0; i < copy.bytes / 4; ++i)
      static_cast<uint32_t*>(copy.to)[i] = static_cast<const uint32_t*>(copy.from)[i];
}

// The same under the names of the PTX instructions, as kernels with inline PTX wrap them.
inline void cp_async16(void* to, const void* from, EMU_LOCATION) { emu::copy_later(to, from, 16, location); }
inline void cp_async_commit() { __pipeline_commit(); }
template <int newest>
void cp_async_wait() {
  __pipeline_wait_prior(newest);
}
