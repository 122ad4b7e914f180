#define DQ_FAST_BYTES 64
#include "loops.inc"

namespace dq_fast {
const Simd* simd_avx512() {
  static const Simd table = DQ_FAST_TABLE("AVX-512");
  return &table;
}
}  // namespace dq_fast
