#include "outside.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace dq_fast {
namespace {

constexpr int64_t kChunk = 1 << 13;     // rows of a task: their coordinates take 50 microseconds to go through
constexpr int64_t kParallel = 1 << 15;  // rows: fewer are done sooner than another thread is awake

}  // namespace

Outside::Outside(const Rows& rows, const Directions* directions, double unit, int threads)
    : rows_(rows), directions_(directions), unit_(unit), threads_(threads) {
  row_.resize(rows.n()), gain_.resize(rows.n()), bound_.resize(rows.n());
}

void Outside::clear() {
  size_ = 0;
  segments_.clear();
}

void Outside::begin_bin() {
  clear();
  picked_ = 0;
  std::fill_n(along_, kDirections, 0.0);
}

void Outside::open_segment(const double* w) {
  if (!segments_.empty() && segments_.back().picked == picked_) return;
  segments_.push_back(moment(w));
}

Outside::Segment Outside::moment(const double* w) const {
  Segment s;
  s.begin = size_;
  s.picked = picked_;
  s.w.resize(rows_.numbers());
  std::copy_n(w, rows_.numbers(), s.w.data());
  std::copy_n(along_, kDirections, s.along);
  return s;
}

void Outside::remember(double largest, const double* w) {
  last_ = moment(w);
  last_largest_ = largest;
}

void Outside::append(const int64_t* rows, const double* gains, int64_t count, const double* w) {
  if (count == 0) return;
  open_segment(w);
  for (int64_t k = 0; k < count; ++k, ++size_) row_[size_] = rows[k], gain_[size_] = bound_[size_] = gains[k];
}

void Outside::filled(int64_t count, double error, const char* leave, const double* w) {
  clear();
  open_segment(w);
  for (int64_t k = 0; k < count; ++k)
    if (!leave[row_[k]]) {
      row_[size_] = row_[k];
      gain_[size_] = bound_[size_] = gain_[k] + error * rows_.scale(row_[k]);
      ++size_;
    }
  remember(simd().largest(gain_.data(), size_), w);
}

void Outside::picked(int64_t row) {
  ++picked_;
  const float* coordinate = directions_->coordinates(row);
  for (int64_t d = 0; d < directions_->count(); ++d) along_[d] += double(coordinate[d]);
}

double Outside::renew(const double* w) {
  double largest = -HUGE_VAL;
  for (size_t k = 0; k < segments_.size(); ++k) {
    const Segment& s = segments_[k];
    const int64_t begin = s.begin, count = end_of(k) - begin;
    if (count == 0) continue;
    const double picks = double(picked_ - s.picked);
    double square = simd().distance64(w, s.w.data(), rows_.numbers()), along2 = 0;
    float along[kDirections] = {};
    for (int64_t d = 0; d < directions_->count(); ++d) {
      const double a = along_[d] - s.along[d];
      along[d] = float(a);
      along2 += a * a;
    }
    const double error = directions_->error() * picks;
    const double rest = std::sqrt(std::max(0.0, square - along2) + error * picks) * (1 + 1e-6);
#pragma omp parallel for schedule(static) reduction(max : largest) \
    num_threads(threads_) if (threads_ > 1 && count > kParallel)
    for (int64_t p = begin; p < begin + count; p += kChunk) {
      const double most = simd().upper_bounds(gain_.data() + p, row_.data() + p, directions_->coordinates(),
                                              directions_->rests(), along, float(rest), 2 * unit_, 2 * unit_ * error,
                                              std::min(kChunk, begin + count - p), bound_.data() + p);
      largest = std::max(largest, most);
    }
  }
  remember(largest, w);
  return largest;
}

double Outside::largest_now(const double* w) const {
  const double picks = double(picked_ - last_.picked);
  if (size_ == 0 || picks == 0) return size_ == 0 ? -HUGE_VAL : last_largest_;
  const double error = directions_->error() * picks;
  const double along = along_[0] - last_.along[0];
  const double square = simd().distance64(w, last_.w.data(), rows_.numbers());
  const double across = std::sqrt(std::max(0.0, square - along * along) + error * picks) * (1 + 1e-6);
  // -<x, w> <= -a along + sqrt(1 - a^2) across for a row with coordinate a: largest at `best`, or where a row is.
  const double length = std::sqrt(along * along + across * across);
  const double best = length > 0 ? -along / length : 0.0;
  const double a = std::min(std::max(best, directions_->least()), directions_->most());
  const double rise = -a * along + std::sqrt(std::max(0.0, 1 - a * a)) * across;
  return last_largest_ + 2 * unit_ * (rise + error) + 1e-9 * std::fabs(last_largest_);
}

double Outside::limit_of(int64_t count) {
  if (count >= size_) return -HUGE_VAL;
  std::vector<double> bound(bound_.data(), bound_.data() + size_);
  std::nth_element(bound.begin(), bound.begin() + count, bound.end(), std::greater<double>());
  return bound[size_t(count)];
}

int64_t Outside::take(double limit, int64_t** taken, double** room) {
  int64_t to = 0;
  size_t kept = 0;
  std::vector<int64_t> ends;
  for (size_t k = 0; k < segments_.size(); ++k) ends.push_back(end_of(k));
  for (size_t k = 0; k < segments_.size(); ++k) {
    const int64_t begin = segments_[k].begin, end = ends[k], first = to;
    for (int64_t p = begin; p < end; ++p) {
      if (bound_[p] >= limit) continue;  // those from `to` on are out: one of them changes places with a row that stays
      std::swap(row_[to], row_[p]);
      gain_[to] = gain_[p], bound_[to] = bound_[p];
      ++to;
    }
    if (to == first) continue;  // nothing left of this segment
    if (kept != k) segments_[kept] = std::move(segments_[k]);
    segments_[kept++].begin = first;
  }
  segments_.resize(kept);
  const int64_t count = size_ - to;
  size_ = to;
  *taken = row_.data() + to, *room = bound_.data() + to;
  return count;
}

}  // namespace dq_fast
