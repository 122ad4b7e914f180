#include "rows32.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace dq_fast {
namespace {

constexpr double kRounding = 1.0 / (1 << 24);  // u
constexpr double kFew = 12;             // roundings besides the chain: copies, last additions, the two factors' product
constexpr int64_t kChunk = 64;          // rows of a task: their products take microseconds, more than handing it out
constexpr int64_t kParallel = 1 << 18;  // products: below, waking threads costs more than the work

}  // namespace

Rows32::Rows32(const Rows& rows, int threads)
    : rows_(rows),
      threads_(threads),
      n_(rows.n()),
      d1_(rows.d1()),
      d2_(rows.d2()),
      narrow_width_(rows.d1() > 1 ? padded(rows.d1()) : 0),
      wide_(std::max<int64_t>(1, n_ * d2_)) {
  const double lanes = double(simd().lanes32);
  dot_error_ = kRounding * (double(d2_) / lanes + double(d1_) + kFew);
  product_error_ = kRounding * (double(d2_) / lanes + double(narrow_width_) / lanes + kFew);
  narrow_.zero(std::max<int64_t>(kPad, n_ * narrow_width_));
  if (d1_ == 1) narrow_[0] = 1.0f;
#pragma omp parallel num_threads(threads_) if (threads_ > 1 && n_ * d2_ > kParallel)
  {
    Array<double> row(d1_ + d2_);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n_; ++i) {
      double *h = row.data(), *b = h + d2_;
      rows.read(i, b, h);
      for (int64_t c = 0; c < d2_; ++c) wide_[i * d2_ + c] = float(h[c]);
      if (d1_ > 1)
        for (int64_t a = 0; a < d1_; ++a) narrow_[i * narrow_width_ + a] = float(b[a]);
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
  Array<float> w32(rows_.numbers());
  double of_mean = 0;  // <mean, w>
  for (int64_t k = 0; k < rows_.numbers(); ++k) w32[k] = float(w[k]);
  if (rows_.centred())
    for (int64_t k = 0; k < rows_.numbers(); ++k) of_mean += rows_.mean()[k] * w[k];
  const int64_t chunks = (count + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(dynamic) \
    num_threads(threads_) if (threads_ > 1 && count * rows_.numbers() > kParallel)
  for (int64_t k = 0; k < chunks; ++k) {
    const int64_t end = std::min(count, (k + 1) * kChunk);
    for (int64_t i = k * kChunk; i < end; i += kRowsTogether) {
      const int64_t rows = std::min(kRowsTogether, end - i);
      const float *b[kRowsTogether], *h[kRowsTogether];
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t row = list ? list[i + r] : i + r;
        b[r] = narrow(row), h[r] = wide(row);
      }
      simd().dots32(w32.data(), b, h, rows, d1_, d2_, out + i);
      if (rows_.centred())
        for (int64_t r = 0; r < rows; ++r)
          out[i + r] = (out[i + r] - of_mean) * rows_.scale(list ? list[i + r] : i + r);
    }
  }
}

void Rows32::centre(const int64_t* x, int64_t nx, const int64_t* y, int64_t ny, float* out, int64_t ld) const {
  for (int64_t i = 0; i < nx; ++i) {
    const double shift = shift_[x[i]], scale = rows_.scale(x[i]);
    for (int64_t j = 0; j < ny; ++j)
      out[i * ld + j] = float((double(out[i * ld + j]) - shift - shift_[y[j]]) * scale * rows_.scale(y[j]));
  }
}

void Rows32::gram(const int64_t* x, int64_t nx, const int64_t* y, int64_t ny, float* out, int64_t ld) const {
  std::vector<const float*> p(2 * size_t(nx + ny));
  const float **xh = p.data(), **xb = xh + nx, **yh = xb + nx, **yb = yh + ny;
  for (int64_t i = 0; i < nx; ++i) xh[i] = wide(x[i]), xb[i] = narrow(x[i]);
  for (int64_t j = 0; j < ny; ++j) yh[j] = wide(y[j]), yb[j] = narrow(y[j]);
  const int64_t chunks = (ny + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1 && nx * ny * d2_ > kParallel)
  for (int64_t k = 0; k < chunks; ++k) {
    const int64_t j = k * kChunk, width = std::min(kChunk, ny - j);
    simd().gram32(xh, xb, nx, yh + j, yb + j, width, narrow_width_, d2_, out + j, ld);
    if (rows_.centred()) centre(x, nx, y + j, width, out + j, ld);
  }
}

void Rows32::one(int64_t x, const int64_t* y, int64_t ny, float* out) const {
  static const float kOne = 1.0f;
  const float* ones[kRowsTogether] = {&kOne, &kOne, &kOne, &kOne};
  const int64_t chunks = (ny + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1 && ny * d2_ > kParallel)
  for (int64_t k = 0; k < chunks; ++k) {
    const int64_t end = std::min(ny, (k + 1) * kChunk);
    for (int64_t j = k * kChunk; j < end; j += kRowsTogether) {
      const int64_t rows = std::min(kRowsTogether, end - j);
      const float *h[kRowsTogether], *b[kRowsTogether];
      double dots[kRowsTogether], narrows[kRowsTogether];
      for (int64_t r = 0; r < rows; ++r) h[r] = wide(y[j + r]), b[r] = narrow(y[j + r]);
      simd().dots32(wide(x), ones, h, rows, 1, d2_, dots);
      if (d1_ > 1) simd().dots32(narrow(x), ones, b, rows, 1, narrow_width_, narrows);
      for (int64_t r = 0; r < rows; ++r) out[j + r] = float(d1_ > 1 ? dots[r] * narrows[r] : dots[r]);
    }
    if (rows_.centred()) centre(&x, 1, y + k * kChunk, end - k * kChunk, out + k * kChunk, 0);
  }
}

}  // namespace dq_fast
