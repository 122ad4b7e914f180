#include "outside.h"

#include <algorithm>
#include <cmath>

namespace dq_fast {

Outside::Outside(const Rows& rows, const Directions* directions, double unit)
    : rows_(rows), directions_(directions), unit_(unit), ld_(padded(rows.n()) + kPad) {
  row_.resize(ld_), gain_.zero(ld_), bound_.zero(ld_), rest_.zero(ld_);
  coordinate_.zero(kDirections * ld_);
  for (int64_t i = 0; i < rows.n(); ++i) largest_scale_ = std::max(largest_scale_, rows.scale(i));
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

void Outside::append(const int64_t* rows, const double* gains, int64_t count, const double* w) {
  if (count == 0) return;
  if (segments_.empty() || segments_.back().picked != picked_) {
    Segment s;
    s.begin = size_;
    s.picked = picked_;
    s.w.resize(rows_.numbers());
    std::copy_n(w, rows_.numbers(), s.w.data());
    std::copy_n(along_, kDirections, s.along);
    segments_.push_back(std::move(s));
  }
  for (int64_t k = 0; k < count; ++k, ++size_) {
    row_[size_] = rows[k];
    gain_[size_] = gains[k];
    bound_[size_] = gains[k];
    rest_[size_] = directions_->rest(rows[k]);
    const float* coordinate = directions_->coordinates(rows[k]);
    for (int64_t d = 0; d < directions_->count(); ++d) coordinate_[d * ld_ + size_] = coordinate[d];
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
    float along[kDirections];
    for (int64_t d = 0; d < directions_->count(); ++d) {
      const double a = along_[d] - s.along[d];
      along[d] = float(a);
      along2 += a * a;
    }
    const double error = directions_->error() * picks;
    const double rest = std::sqrt(std::max(0.0, square - along2) + error * picks) * (1 + 1e-6);
    const double most = simd().upper_bounds(gain_.data() + begin, coordinate_.data() + begin, ld_, directions_->count(),
                                            rest_.data() + begin, along, float(rest), 2 * unit_, 2 * unit_ * error,
                                            count, bound_.data() + begin);
    largest = std::max(largest, most);
  }
  return largest;
}

void Outside::take(double limit, std::vector<int64_t>* taken) {
  int64_t to = 0;
  size_t kept = 0;
  std::vector<int64_t> ends;
  for (size_t k = 0; k < segments_.size(); ++k) ends.push_back(end_of(k));
  for (size_t k = 0; k < segments_.size(); ++k) {
    const int64_t begin = segments_[k].begin, end = ends[k], first = to;
    for (int64_t p = begin; p < end; ++p) {
      if (bound_[p] >= limit) {
        taken->push_back(row_[p]);
        continue;
      }
      if (to != p) {
        row_[to] = row_[p], gain_[to] = gain_[p], bound_[to] = bound_[p], rest_[to] = rest_[p];
        for (int64_t d = 0; d < directions_->count(); ++d) coordinate_[d * ld_ + to] = coordinate_[d * ld_ + p];
      }
      ++to;
    }
    if (to == first) continue;  // nothing left of this segment
    if (kept != k) segments_[kept] = std::move(segments_[k]);
    segments_[kept++].begin = first;
  }
  segments_.resize(kept);
  size_ = to;
}

}  // namespace dq_fast
