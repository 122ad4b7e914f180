#include "mosaic.h"

#include <vector>

#include "loops.inc"

namespace dq_fast {

void mosaic_rgb(const uint8_t* luma, const uint8_t* half, int64_t height, int64_t width, int64_t patch, uint8_t* out) {
  std::vector<int16_t> scratch(patch * width / 2 + 5 * width / 2 + 2);
#if defined(DQ_FAST_X86)
  static const bool avx2 = (__builtin_cpu_init(), __builtin_cpu_supports("avx2"));
  if (avx2) return mosaic_rgb_avx2(luma, half, height, width, patch, out, scratch.data());
#endif
  ::mosaic_rgb(luma, half, height, width, patch, out, scratch.data());
}

}  // namespace dq_fast
