#include "directions.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace dq_fast {
namespace {

constexpr int64_t kSample =
    256;  // rows that stand for the group: enough for 16 directions, 1 % of a group of 5,000's products
constexpr int kRounds = 4;             // of subspace iteration: the directions need not be eigenvectors, only useful
constexpr double kIndependent = 1e-3;  // of a direction's length must be new to it

double product(const double* x, const double* y, int64_t n) { return simd().dot_mixed64(x, y, n); }

// Make the rows of v [count, n] orthonormal, twice is enough; drops those that depend on the ones before.
int64_t orthonormalise(double* v, int64_t count, int64_t n) {
  int64_t kept = 0;
  for (int64_t k = 0; k < count; ++k) {
    double* row = v + kept * n;
    if (kept != k) std::copy_n(v + k * n, n, row);
    const double before = std::sqrt(product(row, row, n));
    for (int twice = 0; twice < 2; ++twice)
      for (int64_t j = 0; j < kept; ++j) simd().add64_plain(row, -product(row, v + j * n, n), v + j * n, n);
    const double after = std::sqrt(product(row, row, n));
    if (!(after > kIndependent * before) || before == 0) continue;
    for (int64_t c = 0; c < n; ++c) row[c] /= after;
    ++kept;
  }
  return kept;
}

// Nearly the leading eigenvectors v [wanted, width] of a sample's similarities; returns how many there are.
int64_t leading(const Rows32& copies, const std::vector<int64_t>& list, int64_t wanted, Array<float>* gram,
                Array<double>* found) {
  const int64_t sample = int64_t(list.size()), width = padded(sample);
  Array<double>& v = *found;
  Array<float> v32;
  gram->zero(sample * width);
  copies.gram(list.data(), sample, list.data(), sample, gram->data(), width);
  v.zero(wanted * width);
  uint64_t state = 88172645463325252ull;  // xorshift: the start is arbitrary but always the same
  for (int64_t k = 0; k < wanted; ++k)
    for (int64_t s = 0; s < sample; ++s) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      v[k * width + s] = k == 0 ? 1.0 : double(state >> 11) / double(1ull << 53) - 0.5;
    }
  int64_t count = orthonormalise(v.data(), wanted, width);
  v32.zero(wanted * width);
  Array<float> product32(wanted * width);
  std::vector<const float*> from(static_cast<size_t>(wanted)), to(static_cast<size_t>(sample));
  for (int64_t s = 0; s < sample; ++s) to[s] = gram->data() + s * width;
  for (int round = 0; round < kRounds && count > 0; ++round) {
    for (int64_t k = 0; k < count * width; ++k) v32[k] = float(v[k]);
    for (int64_t k = 0; k < count; ++k) from[k] = v32.data() + k * width;
    simd().gram32(from.data(), from.data(), count, to.data(), to.data(), sample, 0, width, product32.data(), width);
    for (int64_t k = 0; k < count; ++k)
      for (int64_t s = 0; s < sample; ++s) v[k * width + s] = double(product32[k * width + s]);
    count = orthonormalise(v.data(), count, width);
  }
  return count;
}

std::vector<int64_t> spread(int64_t n, int64_t sample) {
  std::vector<int64_t> list(static_cast<size_t>(sample));
  for (int64_t s = 0; s < sample; ++s) list[s] = s * n / sample;
  return list;
}

}  // namespace

double looseness(const Rows& rows, const Rows32& copies) {
  constexpr int64_t kFew = 128;
  const int64_t sample = std::min(kFew, rows.n()), width = padded(sample), wanted = std::min(kDirections, sample);
  Array<float> gram;
  Array<double> v;
  const int64_t count = leading(copies, spread(rows.n(), sample), wanted, &gram, &v);
  double whole = 0, held = 0;
  for (int64_t s = 0; s < sample; ++s) whole += double(gram[s * width + s]);
  for (int64_t k = 0; k < count; ++k)
    for (int64_t s = 0; s < sample; ++s)
      held += v[k * width + s] * simd().dot_mixed32(gram.data() + s * width, v.data() + k * width, width);
  return whole > 0 ? std::max(0.0, 1 - held / whole) : 0.0;
}

Directions::Directions(const Rows& rows, const Rows32& copies) {
  const int64_t n = rows.n();
  find(rows, copies);
  coordinate_.resize(std::max<int64_t>(1, n * kDirections));
  rest_.resize(std::max<int64_t>(1, n));
  double scale = 1;
  for (int64_t i = 0; i < n; ++i) scale = std::max(scale, rows.scale(i));
  // Coordinates are float32 products of rows and directions that were rounded to float32.
  error_ = 4 * std::sqrt(double(kDirections)) * copies.dot_error() * scale;
  copies.dots_of_all(direction_.data(), kDirections, coordinate_.data());
  for (int64_t i = 0; i < n; ++i) {
    double square = 0;
    for (int64_t k = 0; k < count_; ++k)
      square += double(coordinate_[i * kDirections + k]) * double(coordinate_[i * kDirections + k]);
    rest_[i] = float(std::sqrt(std::max(0.0, 1 - square) + error_) * (1 + 1e-6));
  }
  direction_ = Array<double>();
  for (int64_t i = 0; i < n; ++i) {
    const double first = double(coordinate_[i * kDirections]);
    least_ = i == 0 ? first : std::min(least_, first);
    most_ = i == 0 ? first : std::max(most_, first);
  }
  least_ -= error_, most_ += error_;
}

void Directions::find(const Rows& rows, const Rows32& copies) {
  const int64_t n = rows.n(), sample = std::min(kSample, n), width = padded(sample);
  const std::vector<int64_t> list = spread(n, sample);
  Array<float> gram;
  Array<double> v;
  const int64_t count = leading(copies, list, std::min(kDirections, sample), &gram, &v);
  direction_.zero(kDirections * rows.numbers());  // those that there are not stay zero
  Array<double> scratch(kRowsTogether * (rows.d1() + rows.d2()));
  for (int64_t s = 0; s < sample; s += kRowsTogether) {
    const int64_t together = std::min(kRowsTogether, sample - s);
    double *h = scratch.data(), *b = h + kRowsTogether * rows.d2(), factor[kRowsTogether];
    for (int64_t r = 0; r < together; ++r) rows.read(list[s + r], b + r * rows.d1(), h + r * rows.d2());
    for (int64_t k = 0; k < count; ++k) {
      for (int64_t r = 0; r < together; ++r) factor[r] = v[k * width + s + r] * rows.scale(list[s + r]);
      simd().add64(direction_.data() + k * rows.numbers(), rows.mean(), factor, b, rows.d1(), h, together, rows.d1(),
                   rows.d2());
    }
  }
  count_ = orthonormalise(direction_.data(), count, rows.numbers());
  std::fill(direction_.data() + count_ * rows.numbers(), direction_.data() + kDirections * rows.numbers(), 0.0);
}

}  // namespace dq_fast
