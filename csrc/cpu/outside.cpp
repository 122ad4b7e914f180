#include "outside.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace dq_fast {

Outside::Outside(const Rows& rows, const Directions* directions, double unit)
    : rows_(rows), directions_(directions), unit_(unit) {
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
  Segment s;
  s.begin = size_;
  s.picked = picked_;
  s.w.resize(rows_.numbers());
  std::copy_n(w, rows_.numbers(), s.w.data());
  std::copy_n(along_, kDirections, s.along);
  segments_.push_back(std::move(s));
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
    const double most =
        simd().upper_bounds(gain_.data() + begin, row_.data() + begin, directions_->coordinates(), directions_->rests(),
                            along, float(rest), 2 * unit_, 2 * unit_ * error, count, bound_.data() + begin);
    largest = std::max(largest, most);
  }
  return largest;
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
