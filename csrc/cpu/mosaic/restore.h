// All images of a shard from their kept patches: dq_fast/restore/shards.py.
#pragma once
#include <cstdint>

namespace dq_fast {

// Image i [sizes[2i], sizes[2i + 1], 3] at out + offsets[i]: its patches starts[i] to starts[i + 1] - 1 of patches
// [m, patch, patch, 3] at ascending row-major positions of its grid, and elsewhere the rounded mean of their pixels
// that lie in the image. offsets [n], starts [n + 1]. False: an image's positions are none, not ascending, or not of
// its grid.
bool restore_images(const uint8_t* patches, const int64_t* starts, const int64_t* positions, const int64_t* sizes,
                    int64_t n, int64_t patch, const int64_t* offsets, uint8_t* out);

}  // namespace dq_fast
