// The inner loops, compiled once for each instruction set from loops.inc and chosen when the module is loaded.
// Widths are padded unless said otherwise: every row handed to a loop has its numbers up to a multiple of kPad, the
// padding being zero.
#pragma once
#include <cstdint>

namespace dq_fast {

constexpr int64_t kPad = 16;          // numbers; one AVX-512 register of float32, so that no loop needs a tail
constexpr int64_t kAlign = 64;        // bytes; a cache line, and the widest register
constexpr int64_t kRowsTogether = 4;  // rows that share each load of the matrix in the float64 loops: 8 accumulators

inline int64_t padded(int64_t width) { return (width + kPad - 1) / kPad * kPad; }

struct Simd {
  const char* name;

  double (*sum_squares32)(const float* x, int64_t d);  // x [d], any alignment and width
  double (*sum_squares64)(const double* x, int64_t d);
  // out = x; returns the sum of squares, as sum_squares32. `ahead` numbers behind what it reads is what is read next:
  // asked for line by line, as the processor's own guesses stop where it computes.
  double (*widen32)(const float* x, int64_t ahead, double* out, int64_t d);
  void (*scale32)(const float* x, double factor, double* out, int64_t d);  // out = factor * x
  void (*scale64)(const double* x, double factor, double* out, int64_t d);

  // With phi_r = b_r (x) h_r - mean (mean may be null), b [rows, d1], h [rows, d2], g and mean [d1, d2], rows <= 4,
  // d2 padded; b has row stride ldb.
  void (*dot64)(const double* g, const double* mean, const double* b, int64_t ldb, const double* h, int64_t rows,
                int64_t d1, int64_t d2, double* out);  // out[r] = <phi_r, g>
  void (*add64)(double* g, const double* mean, const double* factor, const double* b, int64_t ldb, const double* h,
                int64_t rows, int64_t d1, int64_t d2);  // g += sum_r factor[r] phi_r
  void (*norm64)(const double* mean, const double* b, int64_t ldb, const double* h, int64_t rows, int64_t d1,
                 int64_t d2, double* out);                            // out[r] = ||phi_r||^2
  double (*dot_mixed32)(const float* x, const double* y, int64_t d);  // any width
  double (*dot_mixed64)(const double* x, const double* y, int64_t d);
  // out[r] = <x_r, y>, rows <= 4: they share the loads of y. `ahead` as above.
  void (*dots_mixed32)(const float* const* x, int64_t ahead, const double* y, int64_t rows, int64_t d, double* out);

  void (*add64_plain)(double* y, double factor, const double* x, int64_t n);  // y += factor * x, any width

  // The same in float32, rows given by pointers: out[r] = <b_r (x) h_r, w>, rows <= 4, sums of one lane's products
  // rounded to float32, all lanes added in float64. w has row stride ldw; d2 is a multiple of kPad or more than it.
  void (*dots32)(const float* w, int64_t ldw, const float* const* b, const float* const* h, int64_t rows, int64_t d1,
                 int64_t d2, double* out);
  // out[i * ld + j] = <xb_i, yb_j> <xh_i, yh_j>; d1 padded, 0: no narrow factor; d2 as above.
  void (*gram32)(const float* const* xh, const float* const* xb, int64_t nx, const float* const* yh,
                 const float* const* yb, int64_t ny, int64_t d1, int64_t d2, float* out, int64_t ld);
  // out[j] = <x, y_j>, d2 as above.
  void (*products32)(const float* x, const float* const* y, int64_t ny, int64_t d2, float* out);
  // out[i * ld + j] = <x_i, y_j> where j <= i + diagonal; elsewhere perhaps. Rows of x and y come in panels of lanes64
  // rows, number by number: [d, lanes64]. x is read and out written up to multiples of 4 rows, y of 24 columns.
  void (*gram_panels64)(const double* x, int64_t rows, const double* y, int64_t columns, int64_t d, int64_t diagonal,
                        double* out, int64_t ld);
  int64_t lanes64;
  int64_t lanes32;  // partial sums of a float32 product: the length of the chain of roundings is d / lanes32

  // Gains, float64 [n].
  double (*largest)(const double* x, int64_t n);                                 // -inf if n == 0
  double (*largest_sum)(const double* x, const double* y, double e, int64_t n);  // max x + e * y
  int64_t (*first_at_least)(const double* x, double limit, int64_t n);           // n if none is
  int64_t (*all_at_least)(const double* x, const double* y, double e, double limit, int64_t n, int32_t* where);
  void (*subtract32)(const float* s, double factor, double* gains, int64_t n);  // gains -= factor * s
  void (*subtract64)(const double* s, double factor, double* gains, int64_t n);
  void (*subtract_scaled)(const float* s, const double* scale, double factor, double* gains,
                          int64_t n);  // gains -= factor * scale * s
  // sums += each of the rows (at most 4), in order; *largest = max(|s|, *largest)
  void (*add_rows32)(const float* const* s, int64_t rows, double* sums, double* largest, int64_t n);
  void (*add_rows64)(const double* const* s, int64_t rows, double* sums, double* largest, int64_t n);
  double (*distance64)(const double* x, const double* y, int64_t n);  // ||x - y||^2
  // With i = row[p] and a [kPad]: bounds[p] = gains[p] - factor * (<coordinate[i], a> - rest[i] * rho) + more; returns
  // the largest.
  double (*upper_bounds)(const double* gains, const int64_t* row, const float* coordinate, const float* rest,
                         const float* a, float rho, double factor, double more, int64_t n, double* bounds);
};

const Simd& simd();  // the best that this processor runs

const Simd* simd_baseline();
const Simd* simd_avx2();
const Simd* simd_avx512();

}  // namespace dq_fast
