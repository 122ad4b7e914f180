// The product embedding phi_i = b_i (x) h_i of one group in float64, never materialised: norms, sums and inner
// products.
#pragma once
#include <cstdint>

#include "../kernels.h"
#include "memory.h"

namespace dq_fast {

// A row this near to its group's mean (rows have norm 1) is the mean, but for rounding. dq_fast/ops/embedding.py:
// CENTRE_FLOOR
constexpr double kCentreFloor = 1e-12;

// Rows [0, n) of one group. Reads the caller's rows each time: holds 1 / norm of each factor's rows, their sum, and for
// centred groups the mean and 1 / ||phi_i - mean||. Forming it reads the rows once, centred twice; a sum that costs
// more than all else and that not every method needs is formed when it is asked for. Sums go by chunks of rows fixed by
// n alone, added in order: the same bits for any number of threads.
class Rows {
 public:
  // The rows of x from `begin` on. `threads` work on them. first_bad() tells a row with a NaN or an infinity.
  Rows(const Embedding& x, int64_t begin, int64_t n, int threads);

  // Whether a sum is not formed at once, but when it is asked for: it costs more than all else.
  static bool defers_sum(int64_t n, int64_t d1, int64_t d2, bool center);

  int64_t first_bad() const { return first_bad_; }  // index in the group, or kAllFinite
  int64_t n() const { return n_; }
  int64_t d1() const { return d1_; }
  int64_t d2() const { return d2_; }             // padded
  int64_t numbers() const { return d1_ * d2_; }  // of a matrix [d1, d2]
  bool centred() const { return centred_; }
  double scale(int64_t i) const { return centred_ ? scale_[i] : 1.0; }  // of phi_i - mean, to norm 1 (or 0)
  const double* mean() const { return centred_ ? mean_.data() : nullptr; }
  bool has_narrow() const { return narrow_.rows != nullptr; }  // one number a row it may be, and negative
  bool is_zero(int64_t i) const { return inv_wide_[i] == 0 || inv_narrow(i) == 0; }
  double inv_wide(int64_t i) const { return inv_wide_[i]; }
  double inv_narrow(int64_t i) const { return narrow_.rows ? inv_narrow_[i] : 1.0; }
  // The wide factor's rows as they came, float32 [n, raw_width]; null if they are float64.
  const float* raw_wide() const { return wide_.is_float64 ? nullptr : static_cast<const float*>(wide_.rows); }
  int64_t raw_width() const { return wide_.width; }

  void count(int64_t rows) const { rows_read_ += rows; }  // by one thread: whoever reads rows tells how many
  int64_t rows_read() const { return rows_read_; }
  int64_t row_bytes() const { return bytes(wide_) + (narrow_.rows ? bytes(narrow_) : 0); }

  bool same(int64_t i, int64_t j) const;  // bit for bit
  uint64_t hash(int64_t i) const;

  // b [d1] and h [d2] of row i, normalised; h is padded with zeros.
  void read(int64_t i, double* b, double* h) const;

  bool is_added() const { return added_; }  // is total() there, or formed when asked for
  const double* total() const;              // sum [d1, d2] of all rows; by one thread, as it may be formed here
  // out[k] = <row list[k], w>; list null: rows 0 to count - 1.
  void dots(const double* w, const int64_t* list, int64_t count, double* out) const;
  void dots(const double* w, double* out) const { dots(w, nullptr, n_, out); }
  double dot(int64_t i, const double* w, double* scratch) const;  // scratch [d1 + d2]
  // out[k] = c(row i, row list[k]); list null: rows 0 to count - 1.
  void cosines(int64_t i, const int64_t* list, int64_t count, double* out) const;
  void add(int64_t i, double factor, double* w, double* scratch) const;  // w += factor * row_i

 private:
  static int64_t bytes(const Factor& f) { return f.width * (f.is_float64 ? 8 : 4); }
  void normalise();
  void normalise_and_add();
  void add_all() const;
  void centre_and_add();
  double cosine(int64_t i, const double* b, const double* h) const;  // not centred: with a row that was read
  template <class Body>
  void each_chunk(int64_t count, int64_t chunk, Body body) const;
  void dots_as_they_came(const double* w, const int64_t* list, int64_t count, double* out) const;
  void find_bad();
  template <class Read>
  void sum_chunks(double* sum, Read read) const;

  Factor wide_, narrow_;
  int64_t n_, d1_, d2_;
  int threads_;
  bool centred_ = false;
  mutable int64_t rows_read_ = 0;
  int64_t first_bad_ = kAllFinite;  // set once, by the constructor
  mutable bool added_ = false;      // is total_ formed
  Array<double> inv_wide_, inv_narrow_, mean_, scale_;
  mutable Array<double> total_;
};

}  // namespace dq_fast
