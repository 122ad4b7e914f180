// The inner loops, compiled once for each instruction set from loops.inc and chosen when the module is loaded.
// Widths are padded: every row handed to a loop has its numbers up to a multiple of kPad, the padding being zero.
#pragma once
#include <cstdint>

namespace dq_fast {

constexpr int64_t kPad = 16;         // numbers; one AVX-512 register of float32, so that no loop needs a tail
constexpr int64_t kAlign = 64;       // bytes; a cache line, and the widest register
constexpr int64_t kRowsTogether = 4; // rows that share each load of the matrix in the float64 loops: 8 accumulators

inline int64_t padded(int64_t width) { return (width + kPad - 1) / kPad * kPad; }

struct Simd {
  const char* name;

  double (*sum_squares32)(const float* x, int64_t d);   // x [d], any alignment and width
  double (*sum_squares64)(const double* x, int64_t d);
  void (*scale32)(const float* x, double factor, double* out, int64_t d);  // out = factor * x
  void (*scale64)(const double* x, double factor, double* out, int64_t d);

  // With phi_r = b_r (x) h_r - mean (mean may be null), b [rows, d1], h [rows, d2], g and mean [d1, d2], rows <= 4,
  // d2 padded; b has row stride ldb.
  void (*dot64)(const double* g, const double* mean, const double* b, int64_t ldb, const double* h, int64_t rows,
                int64_t d1, int64_t d2, double* out);    // out[r] = <phi_r, g>
  void (*add64)(double* g, const double* mean, const double* factor, const double* b, int64_t ldb, const double* h,
                int64_t rows, int64_t d1, int64_t d2);   // g += sum_r factor[r] phi_r
  void (*norm64)(const double* mean, const double* b, int64_t ldb, const double* h, int64_t rows, int64_t d1,
                 int64_t d2, double* out);               // out[r] = ||phi_r||^2
};

const Simd& simd();  // the best that this processor runs

const Simd* simd_baseline();
const Simd* simd_avx2();
const Simd* simd_avx512();

}  // namespace dq_fast
