#include "pool.h"

#include <algorithm>
#include <cmath>

namespace dq_fast {
namespace {

constexpr int64_t kBatch =
    64;  // rows added together: their products fill the registers, their copy of the result the cache
constexpr double kGone = -HUGE_VAL;

}  // namespace

void Pool::reset(int64_t capacity, Source source) {
  capacity_ = padded(capacity);
  source_ = source;
  used_ = 0;
  free_.clear();
  row_.resize(capacity_), gain_.resize(capacity_), scale_.resize(capacity_);
  if (source == Source::kStored)
    gram_.resize(capacity_ * capacity_);
  else if (source == Source::kFormed32)
    formed32_.resize(capacity_);
  else
    formed64_.resize(capacity_);
}

void Pool::remove(int64_t slot) {
  row_[slot] = -1;
  gain_[slot] = kGone;
  free_.push_back(slot);
}

void Pool::add(const int64_t* rows, const double* gains, int64_t count) {
  Array<float> out;
  std::vector<int64_t> slots, others, other_slots;
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

void Pool::subtract(int64_t slot, double factor) {
  if (source_ == Source::kStored) {
    simd().subtract32(gram_.data() + slot * capacity_, factor, gain_.data(), used_);
    return;
  }
  // Rows are only taken out here, never added: the free slots keep a row that is there, so that every slot has one.
  products_ += used_;
  Array<int64_t> list(std::max<int64_t>(1, used_));
  for (int64_t s = 0; s < used_; ++s) list[s] = row_[s] >= 0 ? row_[s] : row_[slot];
  if (source_ == Source::kFormed32) {
    copies_.one(row_[slot], list.data(), used_, formed32_.data());
    simd().subtract32(formed32_.data(), factor, gain_.data(), used_);
  } else {
    rows_.cosines(row_[slot], list.data(), used_, formed64_.data());
    simd().subtract64(formed64_.data(), factor, gain_.data(), used_);
  }
}

}  // namespace dq_fast
