// A group's rows in float32, and products of them with a rigorous bound on the error.
//
// float32 rows of a safe length are multiplied as they came, and the products scaled in float64: no copy, which would
// double the memory. Other rows (float64; float16 was widened before; shorter than a register; of lengths whose
// products could overflow or underflow) are copied normalised, and so is the narrow factor, whose rows are padded to
// registers.
//
// u = 2^-24. A product of padded width d is the sum of `lanes32` chains of d / lanes32 fused multiply-adds: its error
// is at most (d / lanes32 + a few) u ||x|| ||y||, the few for the rounding of the copies and of the last additions.
#pragma once
#include <cstdint>

#include "rows.h"

namespace dq_fast {

class Rows32 {
 public:
  Rows32(const Rows& rows, int threads);

  int64_t d1() const { return d1_; }
  int64_t d2() const { return d2_; }
  double dot_error() const { return dot_error_; }          // of dots, for ||w|| = 1 and a row of scale 1
  double product_error() const { return product_error_; }  // of gram, for two rows of scale 1

  // out[k] = <row_(list[k]), w>, w [d1, d2] in float64 (rounded here); list null: rows 0 to count - 1.
  void dots(const double* w, const int64_t* list, int64_t count, double* out) const;
  // out[i * count + k] = <row_i, w_k> for all rows; w [count, d1, d2] in float64. One pass over the rows.
  void dots_of_all(const double* w, int64_t count, float* out) const;
  // out[i * ld + j] = c(x[i], y[j]).
  void gram(const int64_t* x, int64_t nx, const int64_t* y, int64_t ny, float* out, int64_t ld) const;
  // out[j] = c(x, y[j]) but for lengths: times inverse(x) inverse(y[j]) where the group is not centred. On the calling
  // thread, of which there may be several; whoever calls counts the rows.
  void one(int64_t x, const int64_t* y, int64_t ny, float* out) const;
  double inverse(int64_t i) const { return raw_ ? rows_.inv_wide(i) : 1.0; }  // of the length of a row as it is here

 private:
  const float* wide(int64_t i) const { return raw_ ? raw_ + i * width_ : wide_.data() + i * d2_; }
  const float* narrow(int64_t i) const { return narrow_.data() + i * narrow_width_; }
  void finish(const int64_t* x, int64_t nx, const int64_t* y, int64_t ny, float* out, int64_t ld) const;

  const Rows& rows_;
  int threads_;
  int64_t n_, d1_, d2_, narrow_width_;
  const float* raw_ = nullptr;  // the caller's rows [n, width_], where they are used
  int64_t width_;               // numbers of wide(i): d2_, or fewer of the caller's
  double dot_error_, product_error_;
  Array<float> wide_, narrow_;
  Array<double> shift_;  // m_i - m/2 of centred rows: <phi_i - mean, phi_j - mean> = <phi_i, phi_j> - shift_i - shift_j
};

}  // namespace dq_fast
