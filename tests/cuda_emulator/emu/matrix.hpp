// Tensor cores: mma.sync.m16n8k16 with bfloat16 operands and float32 sums, and ldmatrix, with the layouts of registers
// over lanes that the PTX manual gives.
#pragma once
#include <cstdint>

#include "half.hpp"
#include "warp.hpp"

namespace emu {

// d [16, 8] += a [16, 16] b [16, 8]
EMU_UNSEEN inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                         const std::source_location& location) {
  struct Registers {
    const uint32_t *a, *b;
    float* d;
  } mine{a, b, d};
  const Complete complete = [](void** arguments, uint32_t lanes) {
    if (lanes != 0xffffffffu) fail("mma.sync needs all 32 lanes");
    const auto element = [](uint32_t pair, int which) { return bfloat16_to_float(uint16_t(pair >> (16 * which))); };
    float A[16][16], B[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto* it = static_cast<Registers*>(arguments[lane]);
      const int group = lane / 4, in_group = lane % 4;
      for (int r = 0; r < 4; ++r)
        for (int h = 0; h < 2; ++h) A[group + 8 * (r % 2)][in_group * 2 + h + 8 * (r / 2)] = element(it->a[r], h);
      for (int r = 0; r < 2; ++r)
        for (int h = 0; h < 2; ++h) B[in_group * 2 + h + 8 * r][group] = element(it->b[r], h);
    }
    for (int lane = 0; lane < 32; ++lane) {
      const auto* it = static_cast<Registers*>(arguments[lane]);
      for (int i = 0; i < 4; ++i) {
        const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
        double sum = it->d[i];
        for (int k = 0; k < 16; ++k) sum += double(A[row][k]) * B[k][column];
        it->d[i] = float(sum);
      }
    }
  };
  warp_operation(kMatrix, 0xffffffffu, &mine, complete, location);
}

// `matrices` 8 x 8 matrices of 16-bit elements; lane 8 m + i holds the address of row i of matrix m.
template <int matrices>
void load_matrices(uint32_t (&r)[matrices], const void* row, const std::source_location& location) {
  if (uintptr_t(row) % 16) fail("ldmatrix: misaligned row", location);
  for (int m = 0; m < matrices; ++m) {
    const auto address = shuffle(0xffffffffu, uint64_t(uintptr_t(row)), 8 * m + lane() / 4, location);
    r[m] = reinterpret_cast<const uint32_t*>(uintptr_t(address))[lane() % 4];
  }
}

}  // namespace emu

inline void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], EMU_LOCATION) {
  emu::mma_m16n8k16_bf16(d, a, b, location);
}
inline void ldsm_x4(uint32_t (&r)[4], const void* row, EMU_LOCATION) { emu::load_matrices<4>(r, row, location); }
inline void ldsm_x2(uint32_t (&r)[2], const void* row, EMU_LOCATION) { emu::load_matrices<2>(r, row, location); }
