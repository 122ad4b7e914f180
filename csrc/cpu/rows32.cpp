#include "rows32.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace dq_fast {
namespace {

constexpr double kRounding = 1.0 / (1 << 24);  // u
constexpr double kFew = 12;     // roundings besides the chain: copies, last additions, the two factors' product
constexpr int64_t kChunk = 64;  // rows of a task: their products take microseconds, more than handing it out
constexpr int64_t kParallel =
    1 << 24;  // products, about a millisecond: on a busy machine a thread can be as late as that
constexpr int64_t kParallelDots = 1 << 22;  // the same of products that wait for memory
constexpr double kSafeLength =
    double(1ull << 40);  // and its inverse: products of two rows, and their parts that count, fit

// Can the caller's rows be multiplied as they are? Zero rows can.
bool are_safe(const Rows& rows) {
  if (!rows.raw_wide() || rows.raw_width() < kPad) return false;
  for (int64_t i = 0; i < rows.n(); ++i) {
    const double inverse = rows.inv_wide(i);
    if (inverse != 0 && !(inverse < kSafeLength && inverse > 1 / kSafeLength)) return false;
  }
  return true;
}

}  // namespace

Rows32::Rows32(const Rows& rows, int threads)
    : rows_(rows),
      threads_(threads),
      n_(rows.n()),
      d1_(rows.d1()),
      d2_(rows.d2()),
      narrow_width_(rows.has_narrow() ? padded(rows.d1()) : 0),
      width_(rows.d2()) {
  const double lanes = double(simd().lanes32);
  dot_error_ = kRounding * (double(d2_) / lanes + double(d1_) + kFew);
  product_error_ = kRounding * (double(d2_) / lanes + double(narrow_width_) / lanes + kFew);
  if (are_safe(rows)) raw_ = rows.raw_wide(), width_ = rows.raw_width();
  if (!raw_) wide_.resize(std::max<int64_t>(1, n_ * d2_));
  narrow_.zero(std::max<int64_t>(kPad, n_ * narrow_width_));
  if (narrow_width_ == 0) narrow_[0] = 1.0f;
  if (!raw_ || narrow_width_ > 0) {
    rows.count(n_);
#pragma omp parallel num_threads(threads_) if (threads_ > 1 && n_ * d2_ > kParallelDots)
    {
      Array<double> row(d1_ + d2_);
#pragma omp for schedule(static)
      for (int64_t i = 0; i < n_; ++i) {
        double *h = row.data(), *b = h + d2_;
        rows.read(i, b, h);
        for (int64_t c = 0; c < d2_ && !raw_; ++c) wide_[i * d2_ + c] = float(h[c]);
        for (int64_t a = 0; a < d1_ && narrow_width_ > 0; ++a) narrow_[i * narrow_width_ + a] = float(b[a]);
      }
    }
  }
  if (!rows.centred()) return;
  double mean2 = 0;  // <mean, mean>
  for (int64_t k = 0; k < rows.numbers(); ++k) mean2 += rows.mean()[k] * rows.mean()[k];
  shift_.resize(n_);
  rows.dots(rows.mean(), shift_.data());  // scale_i (m_i - <mean, mean>)
  for (int64_t i = 0; i < n_; ++i) shift_[i] = (rows.scale(i) > 0 ? shift_[i] / rows.scale(i) : 0.0) + 0.5 * mean2;
}

void Rows32::dots(const double* w, const int64_t* list, int64_t count, double* out) const {
  rows_.count(count);
  Array<float> w32(rows_.numbers());
  double of_mean = 0;  // <mean, w>
  for (int64_t k = 0; k < rows_.numbers(); ++k) w32[k] = float(w[k]);
  if (rows_.centred())
    for (int64_t k = 0; k < rows_.numbers(); ++k) of_mean += rows_.mean()[k] * w[k];
  const int64_t chunks = (count + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(dynamic, 4) \
    num_threads(threads_) if (threads_ > 1 && count * rows_.numbers() > kParallelDots)
  for (int64_t k = 0; k < chunks; ++k) {
    const int64_t end = std::min(count, (k + 1) * kChunk);
    for (int64_t i = k * kChunk; i < end; i += kRowsTogether) {
      const int64_t rows = std::min(kRowsTogether, end - i);
      const float *b[kRowsTogether], *h[kRowsTogether];
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = list ? list[i + r] : i + r;
        b[r] = narrow(row), h[r] = wide(row);
      }
      simd().dots32(w32.data(), d2_, b, h, rows, d1_, width_, out + i);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = list ? list[i + r] : i + r;
        out[i + r] = (out[i + r] * inverse(row) - of_mean) * rows_.scale(row);
      }
    }
  }
}

void Rows32::dots_of_all(const double* w, int64_t count, float* out) const {
  const int64_t numbers = rows_.numbers();
  rows_.count(n_);
  Array<float> w32(std::max<int64_t>(1, count * numbers));
  std::vector<double> of_mean(size_t(count), 0.0);  // <mean, w>
  std::vector<const float*> each(static_cast<size_t>(count));
  for (int64_t k = 0; k < count; ++k) {
    for (int64_t c = 0; c < numbers; ++c) w32[k * numbers + c] = float(w[k * numbers + c]);
    if (rows_.centred())
      for (int64_t c = 0; c < numbers; ++c) of_mean[k] += rows_.mean()[c] * w[k * numbers + c];
    each[k] = w32.data() + k * numbers;
  }
  const int64_t chunks = (n_ + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(dynamic, 4) \
    num_threads(threads_) if (threads_ > 1 && n_ * count * numbers > kParallel)
  for (int64_t q = 0; q < chunks; ++q) {
    const int64_t begin = q * kChunk, rows = std::min(kChunk, n_ - begin);
    const float *b[kChunk], *h[kChunk];
    double dot[kRowsTogether];
    for (int64_t r = 0; r < rows; ++r) b[r] = narrow(begin + r), h[r] = wide(begin + r);
    if (narrow_width_ == 0) {
      simd().gram32(h, h, rows, each.data(), each.data(), count, 0, width_, out + begin * count, count);
    } else {
      for (int64_t k = 0; k < count; ++k)  // the rows of a chunk stay in the first-level cache, or the second
        for (int64_t i = 0; i < rows; i += kRowsTogether) {
          const int64_t together = std::min(kRowsTogether, rows - i);
          simd().dots32(each[k], d2_, b + i, h + i, together, d1_, width_, dot);
          for (int64_t r = 0; r < together; ++r) out[(begin + i + r) * count + k] = float(dot[r]);
        }
    }
    for (int64_t i = begin; i < begin + rows; ++i)
      for (int64_t k = 0; k < count; ++k)
        out[i * count + k] = float((double(out[i * count + k]) * inverse(i) - of_mean[k]) * rows_.scale(i));
  }
}

// What products of the rows as they are lack to be cosines: their lengths, and the mean.
void Rows32::finish(const int64_t* x, int64_t nx, const int64_t* y, int64_t ny, float* out, int64_t ld) const {
  if (!raw_ && !rows_.centred()) return;
  for (int64_t i = 0; i < nx; ++i) {
    const double inv = inverse(x[i]);
    if (!rows_.centred()) {
      for (int64_t j = 0; j < ny; ++j) out[i * ld + j] = float(double(out[i * ld + j]) * inv * rows_.inv_wide(y[j]));
      continue;
    }
    const double shift = shift_[x[i]], scale = rows_.scale(x[i]);
    for (int64_t j = 0; j < ny; ++j) {
      const double c = double(out[i * ld + j]) * inv * inverse(y[j]);
      out[i * ld + j] = float((c - shift - shift_[y[j]]) * scale * rows_.scale(y[j]));
    }
  }
}

void Rows32::gram(const int64_t* x, int64_t nx, const int64_t* y, int64_t ny, float* out, int64_t ld) const {
  rows_.count(nx + ny);
  std::vector<const float*> p(2 * size_t(nx + ny));
  const float **xh = p.data(), **xb = xh + nx, **yh = xb + nx, **yb = yh + ny;
  for (int64_t i = 0; i < nx; ++i) xh[i] = wide(x[i]), xb[i] = narrow(x[i]);
  for (int64_t j = 0; j < ny; ++j) yh[j] = wide(y[j]), yb[j] = narrow(y[j]);
  const int64_t chunks = (ny + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1 && nx * ny * d2_ > kParallel)
  for (int64_t k = 0; k < chunks; ++k) {
    const int64_t j = k * kChunk, width = std::min(kChunk, ny - j);
    simd().gram32(xh, xb, nx, yh + j, yb + j, width, narrow_width_, width_, out + j, ld);
    finish(x, nx, y + j, width, out + j, ld);
  }
}

void Rows32::one(int64_t x, const int64_t* y, int64_t ny, float* out) const {
  for (int64_t j = 0; j < ny; j += kChunk) {
    const int64_t rows = std::min(kChunk, ny - j);
    const float* row[kChunk];
    float narrows[kChunk];
    for (int64_t r = 0; r < rows; ++r) row[r] = wide(y[j + r]);
    simd().products32(wide(x), row, rows, width_, out + j);
    if (narrow_width_ > 0) {
      for (int64_t r = 0; r < rows; ++r) row[r] = narrow(y[j + r]);
      simd().products32(narrow(x), row, rows, narrow_width_, narrows);
      for (int64_t r = 0; r < rows; ++r) out[j + r] *= narrows[r];
    }
  }
  if (rows_.centred()) finish(&x, 1, y, ny, out, 0);
}

}  // namespace dq_fast
