#include "rows.h"

#include <algorithm>
#include <cmath>

namespace dq_fast {
namespace {

constexpr int64_t kChunks = 64;            // at most, of one group: enough for the threads of any machine to share
constexpr int64_t kChunkRows = 256;        // at least: a chunk costs one matrix [d1, d2] to zero and add
constexpr int64_t kParallel = 1 << 20;     // numbers: less is done sooner than another thread is awake
constexpr int64_t kDeferred = 1 << 16;     // numbers of a sum that is worth another read of the rows not to form
constexpr int64_t kPartNumbers = 1 << 23;  // numbers of all partial sums together: 64 MB

const void* row_of(const Factor& f, int64_t i) {
  return f.is_float64 ? static_cast<const void*>(static_cast<const double*>(f.rows) + i * f.width)
                      : static_cast<const void*>(static_cast<const float*>(f.rows) + i * f.width);
}

double largest(const Factor& f, int64_t i) {
  double m = 0;
  for (int64_t c = 0; c < f.width; ++c) {
    const double v =
        f.is_float64 ? static_cast<const double*>(row_of(f, i))[c] : static_cast<const float*>(row_of(f, i))[c];
    if (!std::isfinite(v)) return NAN;
    m = std::max(m, std::fabs(v));
  }
  return m;
}

// 1 / ||row||, 0 for a zero row, NaN for a row that is not finite, given the sum of its squares.
double inverse_norm(const Factor& f, int64_t i, double squares) {
  constexpr double kSafe = 1e280;  // squares that neither overflowed nor lost digits to underflow
  if (squares < kSafe && squares > 1 / kSafe) return 1 / std::sqrt(squares);
  const double m = largest(f, i);
  if (!(m > 0)) return m;                                      // 0, or NaN
  const auto* row = static_cast<const double*>(row_of(f, i));  // squares of float32 numbers are safe
  double scaled = 0;
  for (int64_t c = 0; c < f.width; ++c) scaled += (row[c] / m) * (row[c] / m);
  return 1 / m / std::sqrt(scaled);
}

double inverse_norm(const Factor& f, int64_t i) {
  if (!f.rows) return 1.0;
  const void* row = row_of(f, i);
  return inverse_norm(f, i,
                      f.is_float64 ? simd().sum_squares64(static_cast<const double*>(row), f.width)
                                   : simd().sum_squares32(static_cast<const float*>(row), f.width));
}

// The row times a factor; a missing factor of the embedding is 1.
void read_factor(const Factor& f, int64_t i, double factor, double* out, int64_t width) {
  if (!f.rows) {
    out[0] = 1.0;
    return;
  }
  if (f.is_float64)
    simd().scale64(static_cast<const double*>(row_of(f, i)), factor, out, f.width);
  else
    simd().scale32(static_cast<const float*>(row_of(f, i)), factor, out, f.width);
  for (int64_t c = f.width; c < width; ++c) out[c] = 0;
}

Factor from(Factor f, int64_t begin) {
  if (f.rows) f.rows = row_of(f, begin);
  return f;
}

}  // namespace

Rows::Rows(const Embedding& x, int64_t begin, int64_t n, int threads)
    : wide_(from(x.wide, begin)),
      narrow_(from(x.narrow, begin)),
      n_(n),
      d1_(x.narrow.width),
      d2_(padded(x.wide.width)),
      threads_(threads) {
  if (defers_sum(n_, d1_, d2_, x.center))
    normalise();
  else
    normalise_and_add();
  if (x.center && n_ > 0 && first_bad_ == kAllFinite) centre_and_add();
}

bool Rows::defers_sum(int64_t n, int64_t d1, int64_t d2, bool center) {
  const double sum = double(n) * double(d1 * d2), similarities = double(n) * double(n) * double(d1 + d2);
  return !center && d1 * d2 >= kDeferred && 4 * sum >= similarities;
}

template <class Body>
void Rows::each_chunk(int64_t count, int64_t chunk, Body body) const {
  const int64_t chunks = (count + chunk - 1) / chunk;
  if (chunks == 1) return body(0, 0, count);  // tiny inputs: not even a team of one
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1 && count * numbers() > kParallel)
  for (int64_t k = 0; k < chunks; ++k) body(k, k * chunk, std::min(count, (k + 1) * chunk));
}

const double* Rows::total() const {
  if (!added_) add_all();
  return total_.data();
}

void Rows::normalise() {
  count(n_);
  inv_wide_.resize(n_);
  if (narrow_.rows) inv_narrow_.resize(n_);
  each_chunk(n_, kChunkRows, [&](int64_t, int64_t i, int64_t end) {
    for (; i < end; ++i) {
      inv_wide_[i] = inverse_norm(wide_, i);
      if (narrow_.rows) inv_narrow_[i] = inverse_norm(narrow_, i);
    }
  });
  find_bad();
}

void Rows::add_all() const {
  added_ = true;
  total_.resize(numbers());
  sum_chunks(total_.data(), [&](int64_t i, double* b, double* h) {
    read(i, b, h);
    return 1.0;
  });
}

void Rows::find_bad() {
  for (int64_t i = 0; i < n_ && first_bad_ == kAllFinite; ++i)
    if (std::isnan(inv_wide_[i]) || std::isnan(inv_narrow(i))) first_bad_ = i;
}

void Rows::normalise_and_add() {
  added_ = true;
  inv_wide_.resize(n_);
  if (narrow_.rows) inv_narrow_.resize(n_);
  total_.resize(numbers());
  const int64_t ahead = kRowsTogether * wide_.width;
  sum_chunks(total_.data(), [&](int64_t i, double* b, double* h) {
    if (narrow_.rows) inv_narrow_[i] = inverse_norm(narrow_, i);
    if (wide_.is_float64) {
      inv_wide_[i] = inverse_norm(wide_, i);
      read(i, b, h);
      return 1.0;
    }
    // As they came, to be scaled while they are added: one conversion a number.
    inv_wide_[i] = inverse_norm(wide_, i, simd().widen32(raw_wide() + i * wide_.width, ahead, h, wide_.width));
    for (int64_t c = wide_.width; c < d2_; ++c) h[c] = 0;
    read_factor(narrow_, i, inv_narrow(i), b, d1_);
    return inv_wide_[i];
  });
  find_bad();
}

void Rows::centre_and_add() {
  std::swap(mean_, total_);
  for (int64_t k = 0; k < numbers(); ++k) mean_[k] /= double(n_);
  total_.resize(numbers());
  scale_.resize(n_);
  centred_ = true;
  sum_chunks(total_.data(), [&](int64_t i, double* b, double* h) {
    read(i, b, h);
    double square;
    simd().norm64(mean_.data(), b, d1_, h, 1, d1_, d2_, &square);
    const double norm = std::sqrt(square);
    return scale_[i] = norm > kCentreFloor ? 1 / norm : 0.0;
  });
}

void Rows::read(int64_t i, double* b, double* h) const {
  read_factor(wide_, i, inv_wide_[i], h, d2_);
  read_factor(narrow_, i, inv_narrow(i), b, d1_);
}

// sum [d1, d2] = sum_i factor_i (b_i (x) h_i - mean); read(i, b, h) gives b and h, and returns the factor.
template <class Read>
void Rows::sum_chunks(double* sum, Read read) const {
  count(n_);
  const int64_t parts = std::max<int64_t>(1, std::min(kChunks, kPartNumbers / numbers()));
  const int64_t chunk = std::max(kChunkRows, (n_ + parts - 1) / parts);
  const int64_t chunks = (n_ + chunk - 1) / chunk;
  Array<double> part;
  part.zero(std::max<int64_t>(1, chunks) * numbers());
  each_chunk(n_, chunk, [&](int64_t k, int64_t i, int64_t end) {
    Array<double> buffer(kRowsTogether * (d1_ + d2_));
    double *h = buffer.data(), *b = h + kRowsTogether * d2_, factor[kRowsTogether];
    for (; i < end; i += kRowsTogether) {
      const int64_t rows = std::min(kRowsTogether, end - i);
      for (int64_t r = 0; r < rows; ++r) factor[r] = read(i + r, b + r * d1_, h + r * d2_);
      simd().add64(part.data() + k * numbers(), mean(), factor, b, d1_, h, rows, d1_, d2_);
    }
  });
  std::copy_n(part.data(), numbers(), sum);
  for (int64_t k = 1; k < chunks; ++k)
    for (int64_t e = 0; e < numbers(); ++e) sum[e] += part[k * numbers() + e];
}

void Rows::dots(const double* w, const int64_t* list, int64_t count, double* out) const {
  rows_read_ += count;
  if (raw_wide() && !narrow_.rows && !centred_) return dots_as_they_came(w, list, count, out);
  each_chunk(count, kChunkRows, [&](int64_t, int64_t i, int64_t end) {
    Array<double> buffer(kRowsTogether * (d1_ + d2_));
    double *h = buffer.data(), *b = h + kRowsTogether * d2_;
    for (; i < end; i += kRowsTogether) {
      const int64_t rows = std::min(kRowsTogether, end - i);
      for (int64_t r = 0; r < rows; ++r) read(list ? list[i + r] : i + r, b + r * d1_, h + r * d2_);
      simd().dot64(w, mean(), b, d1_, h, rows, d1_, d2_, out + i);
      if (centred_)
        for (int64_t r = 0; r < rows; ++r) out[i + r] *= scale_[list ? list[i + r] : i + r];
    }
  });
}

// One float32 factor: converted within the products, scaled after them.
void Rows::dots_as_they_came(const double* w, const int64_t* list, int64_t count, double* out) const {
  const int64_t ahead = list ? 0 : kRowsTogether * wide_.width;
  each_chunk(count, kChunkRows, [&](int64_t, int64_t i, int64_t end) {
    for (; i < end; i += kRowsTogether) {
      const int64_t rows = std::min(kRowsTogether, end - i);
      int64_t row[kRowsTogether];
      const float* x[kRowsTogether];
      for (int64_t r = 0; r < rows; ++r) {
        row[r] = list ? list[i + r] : i + r;
        x[r] = raw_wide() + row[r] * wide_.width;
      }
      simd().dots_mixed32(x, ahead, w, rows, wide_.width, out + i);
      for (int64_t r = 0; r < rows; ++r) out[i + r] *= inv_wide_[row[r]];
    }
  });
}

void Rows::cosines(int64_t i, const int64_t* list, int64_t count, double* out) const {
  Array<double> row(d1_ + d2_);
  double *h = row.data(), *b = h + d2_;
  if (centred_) {  // number by number, so that tight groups keep their digits
    Array<double> w;
    w.zero(numbers());
    add(i, 1.0, w.data(), h);
    return dots(w.data(), list, count, out);
  }
  read(i, b, h);
  rows_read_ += count + 1;
  each_chunk(count, kChunkRows, [&](int64_t, int64_t k, int64_t end) {
    for (; k < end; ++k) out[k] = cosine(list ? list[k] : k, b, h);
  });
}

double Rows::cosine(int64_t i, const double* b, const double* h) const {
  const auto dot = [&](const Factor& f, double inv, const double* y) {
    const void* row = row_of(f, i);
    return inv * (f.is_float64 ? simd().dot_mixed64(static_cast<const double*>(row), y, f.width)
                               : simd().dot_mixed32(static_cast<const float*>(row), y, f.width));
  };
  const double wide = dot(wide_, inv_wide_[i], h);
  return narrow_.rows ? wide * dot(narrow_, inv_narrow_[i], b) : wide;
}

bool Rows::same(int64_t i, int64_t j) const {
  for (const Factor* f : {&wide_, &narrow_}) {
    if (!f->rows) continue;
    const size_t bytes = size_t(f->width) * (f->is_float64 ? 8 : 4);
    if (std::memcmp(row_of(*f, i), row_of(*f, j), bytes) != 0) return false;
  }
  return true;
}

uint64_t Rows::hash(int64_t i) const {
  uint64_t h = 1469598103934665603ull;  // FNV-1a, four bytes at a time: `same` has the last word
  for (const Factor* f : {&wide_, &narrow_}) {
    if (!f->rows) continue;
    const auto* word = static_cast<const unsigned char*>(row_of(*f, i));
    for (int64_t k = 0; k < f->width * (f->is_float64 ? 2 : 1); ++k) {
      uint32_t w;
      std::memcpy(&w, word + 4 * k, 4);
      h = (h ^ w) * 1099511628211ull;
    }
  }
  return h ^ (h >> 32);
}

double Rows::dot(int64_t i, const double* w, double* scratch) const {
  read(i, scratch + d2_, scratch);
  count(1);
  double out;
  simd().dot64(w, mean(), scratch + d2_, d1_, scratch, 1, d1_, d2_, &out);
  return out * scale(i);
}

void Rows::add(int64_t i, double factor, double* w, double* scratch) const {
  read(i, scratch + d2_, scratch);
  count(1);
  factor *= scale(i);
  simd().add64(w, mean(), &factor, scratch + d2_, d1_, scratch, 1, d1_, d2_);
}

}  // namespace dq_fast
