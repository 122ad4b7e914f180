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

// The first `count` patches [count, patch, patch, 3] RGB, row after row, of a mosaic `width` px wide, from its tall
// image (dq_fast/store/jpeg.py): YCbCr pixels of step (3 or 4) bytes, width / 2 a line. width is a multiple of patch,
// patch of 16.
void mosaic_patches(const uint8_t* tall, int64_t step, const int64_t* places, int64_t count, int64_t width,
                    int64_t patch, uint8_t* out);

// The same by AVX2, with memory to work in: as above, and 5 * width bytes.
void mosaic_patches_avx2(const uint8_t* tall, int64_t step, const int64_t* places, int64_t count, int64_t width,
                         int64_t patch, uint8_t* out, int16_t* scratch, uint8_t* bytes);

}  // namespace dq_fast
