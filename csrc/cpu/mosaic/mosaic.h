// Colour of 4:2:0 JPEG mosaics: dq_fast/store/colour.py.
#pragma once
#include <cstdint>

namespace dq_fast {

// out [height, width, 3] RGB of Y luma [height, width] and YCbCr half [height / 2, width / 2, 3], chroma doubled within
// patches. height and width are multiples of patch, patch is even.
void mosaic_rgb(const uint8_t* luma, const uint8_t* half, int64_t height, int64_t width, int64_t patch, uint8_t* out);

// The same by AVX2, with memory to work in: patch * width / 2 + 2.5 * width + 2 numbers.
void mosaic_rgb_avx2(const uint8_t* luma, const uint8_t* half, int64_t height, int64_t width, int64_t patch,
                     uint8_t* out, int16_t* scratch);

}  // namespace dq_fast
