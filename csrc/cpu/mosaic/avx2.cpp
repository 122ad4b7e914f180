#include "loops.inc"
#include "mosaic.h"

namespace dq_fast {

void mosaic_rgb_avx2(const uint8_t* luma, const uint8_t* half, int64_t height, int64_t width, int64_t patch,
                     uint8_t* out, int16_t* scratch) {
  ::mosaic_rgb(luma, half, height, width, patch, out, scratch);
}

}  // namespace dq_fast
