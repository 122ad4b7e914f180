#define DQ_FAST_BYTES 16
#include "loops.inc"

namespace dq_fast {
const Simd* simd_baseline() {
  static const Simd table = DQ_FAST_TABLE("SSE2 or NEON");
  return &table;
}
}  // namespace dq_fast
