#include "loops.inc"
#include "mosaic.h"

namespace dq_fast {

void mosaic_rgb_avx2(const uint8_t* luma, const uint8_t* half, int64_t height, int64_t width, int64_t patch,
                     uint8_t* out, int16_t* scratch) {
  ::mosaic_rgb(luma, half, height, width, patch, out, scratch);
}

void mosaic_patches_avx2(const uint8_t* tall, int64_t step, const int64_t* places, int64_t count, int64_t width,
                         int64_t patch, uint8_t* out, int16_t* scratch, uint8_t* bytes) {
  ::mosaic_patches(tall, step, places, count, width, patch, out, scratch, bytes);
}

}  // namespace dq_fast
