#define DQ_FAST_BYTES 32
#include "loops.inc"

namespace dq_fast {
const Simd* simd_avx2() {
  static const Simd table = DQ_FAST_TABLE("AVX2");
  return &table;
}
}  // namespace dq_fast
