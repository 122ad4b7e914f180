// Lazy: rows in and out of the pool.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "lazy.h"

namespace dq_fast {
namespace {

constexpr int64_t kFirst = 192;    // rows in the pool when a bin starts
constexpr int64_t kSegments = 24;  // moments of renewal; each costs a distance of matrices whenever bounds are renewed
constexpr double kHorizon = 48;    // picks ahead that an exchange looks
constexpr int64_t kJoin = 128;     // rows that join at once, at most

// Places of the `most` largest gains of at least `least`, in order of place; of equal ones the first.
std::vector<int64_t> largest_of(const double* gain, int64_t count, int64_t most, double least) {
  std::vector<int64_t> heap;  // the worst on top
  const auto better = [&](int64_t a, int64_t b) { return gain[a] != gain[b] ? gain[a] > gain[b] : a < b; };
  for (int64_t k = 0; k < count; ++k) {
    if (!(gain[k] >= least)) continue;
    if (int64_t(heap.size()) == most) {
      if (!better(k, heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end(), better);
      heap.pop_back();
    }
    heap.push_back(k);
    std::push_heap(heap.begin(), heap.end(), better);
  }
  std::sort(heap.begin(), heap.end());
  return heap;
}

}  // namespace

std::vector<int64_t> Lazy::here() const {
  std::vector<int64_t> list;
  for (int64_t i = 0; i < n_; ++i)
    if (state_[i] == State::kHere) list.push_back(i);
  return list;
}

void Lazy::populate() {
  const int64_t left = int64_t(std::count(state_.begin(), state_.end(), State::kHere));
  if (everything_ == Everything::kNo && left <= kPool)
    everything_ = Everything::kFew, pool_.reset(0, Pool::Source::kStored);
  if (everything_ != Everything::kNo) return populate_pool();
  if (pool_.capacity() == 0) pool_.reset(kPool, Pool::Source::kStored);
  int64_t* list;
  double* gain;
  Outside& all = far_ ? *far_ : *outside_;
  all.fill(&list, &gain);
  int64_t count = 0;
  for (int64_t i = 0; i < n_; ++i)
    if (state_[i] == State::kHere) list[count++] = i;
  fresh(list, count, gain);
  wanted_.resize(size_t(n_));
  std::fill(wanted_.begin(), wanted_.end(), 0);
  std::vector<int64_t> in;
  std::vector<double> in_gain;
  const std::vector<int64_t> chosen = largest_of(gain, count, kFirst, -HUGE_VAL);
  for (int64_t k : chosen) wanted_[list[k]] = 1;
  std::unordered_map<int64_t, double> renewed;
  for (int64_t k : chosen) renewed[list[k]] = gain[k];
  for (int64_t s = 0; s < pool_.used(); ++s) {
    if (!pool_.is_alive(s)) continue;
    if (!wanted_[pool_.row(s)])
      pool_.remove(s);
    else
      pool_.set_gain(s, renewed[pool_.row(s)]), wanted_[pool_.row(s)] = 2;
  }
  for (int64_t k : chosen)
    if (wanted_[list[k]] == 1) in.push_back(list[k]), in_gain.push_back(gain[k]);
  pool_.add(in.data(), in_gain.data(), int64_t(in.size()));
  if (scales_ == 0) {
    outside_->begin_bin();
    if (far_) far_->begin_bin();
  }
  all.filled(count, error(), wanted_.data(), sum_.data());
  if (far_) {
    outside_->clear();
    int64_t* taken;
    double* bound;
    const int64_t near = far_->take(far_->limit_of(near_), &taken, &bound);
    std::sort(taken, taken + near);
    fresh(taken, near, bound);  // there is room for bounds, not the bounds themselves
    for (int64_t k = 0; k < near; ++k) bound[k] += error() * rows_.scale(taken[k]);
    outside_->append(taken, bound, near, sum_.data());
    far_bound_ = far_->renew(sum_.data());
    refilled_ = picked_;
  }
  outside_bound_ = outside_->size() ? outside_->renew(sum_.data()) : -HUGE_VAL;
}

void Lazy::populate_pool() {
  directions_.reset(), outside_.reset(), far_.reset();
  const std::vector<int64_t> list = here();
  const int64_t count = int64_t(list.size());
  Array<double> gain(std::max<int64_t>(1, count));
  fresh(list.data(), count, gain.data());
  if (pool_.capacity() == 0) {
    pool_.reset(count, everything_ == Everything::kFormed  ? Pool::Source::kFormed32
                       : everything_ == Everything::kExact ? Pool::Source::kFormed64
                                                           : Pool::Source::kStored);
    pool_.add(list.data(), gain.data(), count);
  } else {
    std::vector<double> by_row(size_t(n_), 0.0);
    for (int64_t k = 0; k < count; ++k) by_row[list[k]] = gain[k];
    for (int64_t s = 0; s < pool_.used(); ++s)
      if (pool_.is_alive(s)) pool_.set_gain(s, by_row[pool_.row(s)]);
  }
  outside_bound_ = far_bound_ = -HUGE_VAL;
}

void Lazy::fresh(const int64_t* list, int64_t count, double* gain) const {
  if (everything_ == Everything::kExact) return rows_.dots(gradient_.data(), list, count, gain);
  if (scales_ > 0)
    copies_.dots(sum_.data(), list, count, gain);
  else
    std::fill_n(gain, count, 0.0);
  for (int64_t k = 0; k < count; ++k) gain[k] = unit() * (job_.lam * base_[list[k]] - 2 * gain[k]);
}

// Renew the rows outside that may win, and those not far from it; the best of them join the pool.
void Lazy::exchange(double low) {
  const double fall =
      std::isfinite(last_low_) && picked_ > last_picked_ ? (last_low_ - low) / double(picked_ - last_picked_) : unit();
  last_low_ = low, last_picked_ = picked_;
  const double near = kHorizon * std::max(0.25 * unit(), fall);
  int64_t* taken;
  double* gain;
  const int64_t count =
      outside_->take(outside_->segments() >= kSegments ? -HUGE_VAL : low - tolerance_ - near, &taken, &gain);
  renewed_ += count;
  std::sort(taken, taken + count);  // rows may lie in a file: forwards through it
  fresh(taken, count, gain);
  std::vector<int64_t> in, out;
  std::vector<double> in_gain, out_gain;
  const std::vector<int64_t> joining = largest_of(gain, count, kJoin, low - near);
  const int64_t join = int64_t(joining.size());
  for (int64_t k : joining) in.push_back(taken[k]), in_gain.push_back(gain[k]);
  int64_t staying = 0;
  for (int64_t k = 0, next = 0; k < count; ++k) {
    if (next < join && joining[next] == k) {
      ++next;
      continue;
    }
    taken[staying] = taken[k];
    gain[staying++] = gain[k] + error() * rows_.scale(taken[k]);
  }
  outside_->append(taken, gain, staying, sum_.data());
  make_room(join, &out, &out_gain);
  pool_.add(in.data(), in_gain.data(), join);
  outside_->append(out.data(), out_gain.data(), int64_t(out.size()), sum_.data());
  outside_bound_ = outside_->size() ? outside_->renew(sum_.data()) : -HUGE_VAL;
  judge();
}

// The worst rows of the pool go outside.
void Lazy::make_room(int64_t wanted, std::vector<int64_t>* out, std::vector<double>* out_gain) {
  const int64_t excess = pool_.alive() + wanted - pool_.capacity();
  if (excess <= 0) return;
  std::vector<int64_t> slots;
  for (int64_t s = 0; s < pool_.used(); ++s)
    if (pool_.is_alive(s)) slots.push_back(s);
  std::nth_element(slots.begin(), slots.begin() + excess - 1, slots.end(),
                   [&](int64_t a, int64_t b) { return pool_.gain(a) < pool_.gain(b); });
  for (int64_t k = 0; k < excess; ++k) {
    out->push_back(pool_.row(slots[k]));
    out_gain->push_back(pool_.gain(slots[k]) + error() * pool_.scale(slots[k]));
    pool_.remove(slots[k]);
  }
}

// Rows that are far may win by now: all their bounds are renewed, and the best of the rows come near.
void Lazy::refill(double low) {
  constexpr int64_t kOften = 64;  // picks: where the far rows' common bound does not even last so long, more come near
  if (picked_ - refilled_ < kOften) near_ = std::min(2 * near_, n_);
  refilled_ = picked_;
  far_->renew(sum_.data());
  looked_ += far_->size();
  int64_t* taken;
  double* gain;
  const int64_t count = far_->take(std::min(low - tolerance_, far_->limit_of(near_)), &taken, &gain);
  std::sort(taken, taken + count);
  renewed_ += count;
  fresh(taken, count, gain);
  for (int64_t k = 0; k < count; ++k) gain[k] += error() * rows_.scale(taken[k]);
  outside_->append(taken, gain, count, sum_.data());
  far_bound_ = far_->size() ? far_->renew(sum_.data()) : -HUGE_VAL;
  outside_bound_ = outside_->renew(sum_.data());
  judge();
}

}  // namespace dq_fast
