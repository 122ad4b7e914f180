#include "simd.h"

namespace dq_fast {

const Simd& simd() {
  static const Simd* chosen = [] {
#if defined(DQ_FAST_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return simd_avx512();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return simd_avx2();
#endif
    return simd_baseline();
  }();
  return *chosen;
}

}  // namespace dq_fast
