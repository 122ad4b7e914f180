#include "pool.h"

#include <algorithm>
#include <cmath>

namespace dq_fast {
namespace {

constexpr int64_t kBatch =
    64;  // rows added together: their products fill the registers, their copy of the result the cache
constexpr int64_t kPart = 512;  // slots whose largest gain is remembered: their numbers stay in the first-level cache
// Products, about 150 microseconds: with fewer, threads that are late on a busy machine cost more than they are worth
// (measured with two: ten times as long and more, from 2^19 on).
constexpr int64_t kParallel = 1 << 21;
constexpr double kGone = -HUGE_VAL;

}  // namespace

void Pool::reset(int64_t capacity, Source source) {
  capacity_ = padded(capacity);
  source_ = source;
  used_ = 0;
  known_ = false;
  free_.clear();
  row_.resize(capacity_), gain_.resize(capacity_), scale_.resize(capacity_);
  low_.resize(capacity_ / kPart + 1), high_.resize(capacity_ / kPart + 1);
  if (source == Source::kStored) {
    gram_.resize(capacity_ * capacity_);
    return;
  }
  formed_.resize(capacity_), inverse_.resize(capacity_);
  if (source == Source::kFormed32)
    formed32_.resize(capacity_);
  else
    formed64_.resize(capacity_);
}

void Pool::remove(int64_t slot) {
  row_[slot] = -1;
  gain_[slot] = kGone;
  free_.push_back(slot);
  known_ = false;
}

void Pool::add(const int64_t* rows, const double* gains, int64_t count) {
  Array<float> out;
  std::vector<int64_t> slots, others, other_slots;
  known_ = false;
  for (int64_t first = 0; first < count; first += kBatch) {
    const int64_t batch = std::min(kBatch, count - first);
    slots.clear();
    for (int64_t k = 0; k < batch; ++k) {
      int64_t slot = used_;
      if (free_.empty())
        ++used_;
      else
        slot = free_.back(), free_.pop_back();
      slots.push_back(slot);
      row_[slot] = rows[first + k];
      gain_[slot] = gains[first + k];
      scale_[slot] = rows_.scale(rows[first + k]);
      if (source_ != Source::kStored)
        formed_[slot] = rows[first + k], inverse_[slot] = copies_.inverse(rows[first + k]);
    }
    if (source_ != Source::kStored) continue;
    others.clear(), other_slots.clear();
    for (int64_t s = 0; s < used_; ++s)
      if (row_[s] >= 0) others.push_back(row_[s]), other_slots.push_back(s);
    const int64_t width = int64_t(others.size());
    out.resize(batch * width);
    copies_.gram(rows + first, batch, others.data(), width, out.data(), width);
    products_ += batch * width;
    for (int64_t k = 0; k < batch; ++k) {
      float* row = gram_.data() + slots[k] * capacity_;
      for (int64_t j = 0; j < width; ++j) row[other_slots[j]] = out[k * width + j];
    }
    for (int64_t j = 0; j < width; ++j) {
      float* row = gram_.data() + other_slots[j] * capacity_;
      for (int64_t k = 0; k < batch; ++k) row[slots[k]] = out[k * width + j];
    }
  }
}

// Rows are taken out of a pool whose similarities are formed, never added: close the gaps, in order.
void Pool::compact() {
  int64_t to = 0;
  for (int64_t s = 0; s < used_; ++s) {
    if (row_[s] < 0) continue;
    row_[to] = row_[s], formed_[to] = formed_[s], gain_[to] = gain_[s];
    scale_[to] = scale_[s], inverse_[to] = inverse_[s];
    ++to;
  }
  used_ = to;
  free_.clear();
}

void Pool::subtract_part(int64_t begin, int64_t end, int64_t slot, int64_t row, double factor) {
  double* gains = gain_.data() + begin;
  const int64_t count = end - begin;
  if (source_ == Source::kStored)
    return simd().subtract32(gram_.data() + slot * capacity_ + begin, factor, gains, count);
  if (source_ == Source::kFormed64) return simd().subtract64(formed64_.data() + begin, factor, gains, count);
  copies_.one(row, formed_.data() + begin, count, formed32_.data() + begin);
  if (rows_.centred()) return simd().subtract32(formed32_.data() + begin, factor, gains, count);
  simd().subtract_scaled(formed32_.data() + begin, inverse_.data() + begin, factor * copies_.inverse(row), gains,
                         count);
}

void Pool::look(int64_t part) {
  const int64_t begin = part * kPart, count = std::min(kPart, used_ - begin);
  if (!rows_.centred()) {  // all scales are 1
    const double largest = simd().largest(gain_.data() + begin, count);
    low_[part] = largest - error_, high_[part] = largest + error_;
    return;
  }
  low_[part] = simd().largest_sum(gain_.data() + begin, scale_.data() + begin, -error_, count);
  high_[part] = simd().largest_sum(gain_.data() + begin, scale_.data() + begin, error_, count);
}

void Pool::subtract(int64_t slot, int64_t row, double factor, double error) {
  constexpr int64_t kGaps = 8;  // one slot in so many may be free before the others move up
  error_ = error;
  if (source_ != Source::kStored) {
    if (int64_t(free_.size()) * kGaps > used_) compact();
    if (source_ == Source::kFormed32) rows_.count(1 + used_);
  }
  if (source_ == Source::kFormed64) rows_.cosines(row, formed_.data(), used_, formed64_.data());
  const int64_t parts = (used_ + kPart - 1) / kPart;
  const bool parallel = threads_ > 1 && source_ == Source::kFormed32 && used_ * (rows_.d2() + rows_.d1()) > kParallel;
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (parallel)
  for (int64_t k = 0; k < parts; ++k) {
    subtract_part(k * kPart, std::min(used_, (k + 1) * kPart), slot, row, factor);
    look(k);
  }
  known_ = true;
}

double Pool::largest(double error) {
  const int64_t parts = (used_ + kPart - 1) / kPart;
  if (!known_ || error != error_) {
    error_ = error;
    for (int64_t k = 0; k < parts; ++k) look(k);
    known_ = true;
  }
  double largest = kGone;
  for (int64_t k = 0; k < parts; ++k) largest = std::max(largest, low_[k]);
  return largest;
}

int64_t Pool::at_least(double error, double limit, int32_t* where) {
  largest(error);
  int64_t count = 0;
  for (int64_t begin = 0; begin < used_; begin += kPart) {
    if (!(high_[begin / kPart] >= limit)) continue;
    const int64_t found = simd().all_at_least(gain_.data() + begin, scale_.data() + begin, error, limit,
                                              std::min(kPart, used_ - begin), where + count);
    for (int64_t k = 0; k < found; ++k) where[count + k] += int32_t(begin);
    count += found;
  }
  return count;
}

}  // namespace dq_fast
