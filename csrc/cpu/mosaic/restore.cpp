#include "restore.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace dq_fast {
namespace {

struct Part {
  int64_t top, left, height, width;  // of a cell, what lies in the image
};

Part part_of(int64_t cell, int64_t columns, int64_t patch, const int64_t* size) {
  const int64_t top = cell / columns * patch, left = cell % columns * patch;
  return {top, left, std::min(patch, size[0] - top), std::min(patch, size[1] - left)};
}

// line [3 * width] takes what lines of a patch add to it; sums [3] their totals.
void add(const uint8_t* patch, int64_t stride, int64_t height, int64_t width, uint32_t* line, int64_t* sums) {
  std::fill(line, line + 3 * width, 0u);
  for (int64_t y = 0; y < height; ++y, patch += stride) {
    for (int64_t x = 0; x < 3 * width; ++x) line[x] += patch[x];
  }
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t c = 0; c < 3; ++c) sums[c] += line[3 * x + c];
  }
}

bool fits(const int64_t* positions, int64_t count, int64_t cells) {
  if (count < 1 || positions[0] < 0 || positions[count - 1] >= cells) return false;
  for (int64_t k = 1; k < count; ++k) {
    if (positions[k] <= positions[k - 1]) return false;
  }
  return true;
}

}  // namespace

bool restore_images(const uint8_t* patches, const int64_t* starts, const int64_t* positions, const int64_t* sizes,
                    int64_t n, int64_t patch, const int64_t* offsets, uint8_t* out) {
  const int64_t stride = 3 * patch;
  std::vector<uint32_t> line(stride);
  std::vector<uint8_t> filled(stride);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t *size = sizes + 2 * i, *kept = positions + starts[i], *last = positions + starts[i + 1];
    const int64_t rows = (size[0] + patch - 1) / patch, columns = (size[1] + patch - 1) / patch;
    if (!fits(kept, last - kept, rows * columns)) return false;
    const uint8_t* source = patches + starts[i] * stride * patch;
    uint8_t* image = out + offsets[i];
    if (last - kept < rows * columns) {
      int64_t sums[3] = {0, 0, 0}, count = 0;
      for (int64_t k = 0; k < last - kept; ++k) {
        const Part part = part_of(kept[k], columns, patch, size);
        add(source + k * stride * patch, stride, part.height, part.width, line.data(), sums);
        count += part.height * part.width;
      }
      for (int64_t x = 0; x < stride; ++x) filled[x] = uint8_t(std::nearbyint(double(sums[x % 3]) / double(count)));
    }
    for (int64_t cell = 0; cell < rows * columns; ++cell) {
      const Part part = part_of(cell, columns, patch, size);
      const bool is_kept = kept < last && *kept == cell;
      for (int64_t y = 0; y < part.height; ++y) {
        const uint8_t* from = is_kept ? source + y * stride : filled.data();
        std::memcpy(image + 3 * ((part.top + y) * size[1] + part.left), from, size_t(3 * part.width));
      }
      if (is_kept) ++kept, source += stride * patch;
    }
  }
  return true;
}

}  // namespace dq_fast
