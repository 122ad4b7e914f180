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

void mosaic_patches(const uint8_t* tall, int64_t step, const int64_t* places, int64_t count, int64_t width,
                    int64_t patch, uint8_t* out) {
  std::vector<int16_t> scratch(patch * width / 2 + 5 * width / 2 + 2);
  std::vector<uint8_t> bytes(5 * width);
#if defined(DQ_FAST_X86)
  static const bool avx2 = (__builtin_cpu_init(), __builtin_cpu_supports("avx2"));
  if (avx2) return mosaic_patches_avx2(tall, step, places, count, width, patch, out, scratch.data(), bytes.data());
#endif
  ::mosaic_patches(tall, step, places, count, width, patch, out, scratch.data(), bytes.data());
}

}  // namespace dq_fast
