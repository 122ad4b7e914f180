// Graph cut on embeddings: exact greedy from float32 products with bounds, decided in float64 where the bounds leave
// doubt.
//
// Gains are linear: plain gain(x) = <x, G>, G = unit * (lam * M - 2 W), M the sum of the rows remaining at the start of
// the bin, W the sum of those picked since. A *pool* of rows of large gain has true gains: each pick subtracts a row of
// the pool's similarities. The rows *outside* have gains that were true when last renewed, and a bound on what they can
// be now (outside.h). A pool row is picked when nobody else can be better: gains differ from float64 by at most
// `error`, known at any time; rows within twice that of the best are decided by <x, G> in float64 (d1 * d2 products a
// row). Where a row outside may win, the rows near winning are renewed (<x, W>, one float32 product each) and the best
// of them join the pool.
//
// Floor, for n rows ranked in k bins, d1 * d2 numbers a row, d = d1 + d2: 16 + k passes of n d1 d2 products
// (directions, one renewal a bin), n times the pool's size times d for the similarities of rows entering it, 2 d1 d2
// float64 a pick. For a CIFAR-10 class (5,000 rows of 10 x 513, ten bins, pool 512): 0.4 + 0.14 + 1.3 G products
// against 13 G for the matrix (26 G as a library forms it): a tenth to a sixth. Rows without structure leave the bounds
// loose: then everything joins the pool (gram).
#include <algorithm>
#include <cmath>

#include "lazy.h"

namespace dq_fast {
namespace {

constexpr int64_t kFar = 1 << 14;  // rows of a group: with fewer, all bounds are renewed in a tenth of a millisecond
constexpr double kNear = 8;        // times sqrt(rows) are near at first: all near rows are renewed often, all far ones
                                   // whenever the near run out
constexpr int64_t kDoubtful = 12;  // float64 decisions a pick, on average: from here float64 everywhere costs less
constexpr int64_t kOften = 64;     // picks that this is the average of

}  // namespace

Lazy::Lazy(const Rows& rows, const Job& job, Way way)
    : rows_(rows),
      job_(job),
      copies_(rows, job.threads),
      pool_(rows, copies_, job.threads),
      costs_(rows),
      twins_(rows),
      n_(rows.n()),
      tolerance_(tie_tolerance(rows.n(), job.lam)),
      state_(size_t(n_), State::kHere) {
  scratch_.resize(rows.d1() + rows.d2());
  total_.resize(rows.numbers());
  gradient_.resize(rows.numbers());
  sum_.resize(rows.numbers());
  base_.resize(n_);
  std::copy_n(rows.total(), rows.numbers(), total_.data());
  rows.dots(total_.data(), base_.data());
  everything_ = way == Way::kLazy ? Everything::kNo : way == Way::kStored ? Everything::kStored : Everything::kFormed;
  if (way == Way::kLazy) probe();
  first_ = everything_;
  if (everything_ == Everything::kNo) {
    directions_.reset(new Directions(rows, copies_));
    outside_.reset(new Outside(rows, directions_.get(), job.unit(), job.threads));
    if (n_ >= kFar) far_.reset(new Outside(rows, directions_.get(), job.unit(), job.threads));
    near_ = int64_t(kNear * std::sqrt(double(n_)));
  }
}

void Lazy::run() {
  rank();
  const bool looked_for = everything_ == Everything::kNo || everything_ == Everything::kFew;
  (looked_for ? job_.trace->lazy : everything_ == Everything::kStored ? job_.trace->gram : job_.trace->naive) = 1;
  job_.trace->switched = everything_ != first_ && !looked_for;
  job_.trace->decisions = decided_;
}

void Lazy::rank() {
  int64_t done = 0, remaining = n_;
  for (int64_t k = 0; k < job_.bins; ++k) {
    const int64_t size = job_.sizes[k];
    if (size == 0) continue;
    begin_bin();
    for (picked_ = 0; picked_ < size; ++picked_, ++done, ++ranked_) {
      const int64_t slot = choose();
      const int64_t row = pool_.row(slot);
      const double plain = rows_.dot(row, gradient_.data(), scratch_.data());
      job_.indices[done] = job_.begin + row;
      job_.gains[done] = plain + job_.constant(remaining, picked_);
      pick(slot, row);
      if (job_.monitor->tick(1)) return;
    }
    remaining -= size;
    if (remaining == 0 || k + 1 == job_.bins) break;
    end_bin();
  }
}

double Lazy::error() const {
  if (everything_ == Everything::kExact) return 0;
  return unit() * (job_.lam * base_error_ + 2 * (copies_.dot_error() * scales_ + copies_.product_error() * scales_)) *
         (1 + 1e-9);
}

void Lazy::begin_bin() {
  for (int64_t k = 0; k < rows_.numbers(); ++k) gradient_[k] = unit() * job_.lam * total_[k], sum_[k] = 0;
  scales_ = 0;
  last_low_ = NAN;
  populate();
}

int64_t Lazy::choose() {
  for (int tries = 0;; ++tries) {
    const double low = pool_.largest(error());  // -inf if it is empty
    const double limit = low - tolerance_;
    // An empty pool has no limit: rows that are near join it first.
    if (far_ && far_->size() > 0 && far_bound_ >= limit && (pool_.alive() || outside_->size() == 0)) {
      far_bound_ = far_->largest_now(sum_.data());
      if (far_bound_ >= limit) {
        refill(low);
        continue;
      }
    }
    if (outside_bound_ >= limit) {
      outside_bound_ = outside_->size() ? outside_->renew(sum_.data()) : -HUGE_VAL;
      looked_ += outside_->size();
      if (outside_bound_ >= limit) {
        constexpr int kTries = 40;  // rows that tie by hundreds do not fit the pool
        if (tries >= kTries)
          degrade();
        else
          exchange(low);
        continue;
      }
    }
    where_.resize(pool_.used());
    const int64_t count = pool_.at_least(error(), limit, where_.data());
    if (count == 1) return where_[0];
    if (everything_ != Everything::kExact) {
      doubts_ += count;
      if (count > kDoubtful * kOften || doubts_ > kDoubtful * kOften) {
        doubts_ = 0;
        degrade();
        continue;
      }
    }
    return decide(count);
  }
}

int64_t Lazy::decide(int64_t count) {
  decided_ += count;
  double best = -HUGE_VAL;
  for (int64_t k = 0; k < count && everything_ != Everything::kExact; ++k) {
    const int64_t slot = where_[k];
    pool_.set_gain(slot, rows_.dot(pool_.row(slot), gradient_.data(), scratch_.data()));
  }
  for (int64_t k = 0; k < count; ++k) best = std::max(best, pool_.gain(where_[k]));
  int64_t chosen = -1;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t slot = where_[k];
    if (pool_.gain(slot) >= best - tolerance_ && (chosen < 0 || pool_.row(slot) < pool_.row(chosen))) chosen = slot;
  }
  return chosen;
}

void Lazy::pick(int64_t slot, int64_t row) {
  rows_.add(row, -2 * unit(), gradient_.data(), scratch_.data());
  rows_.add(row, 1.0, sum_.data(), scratch_.data());
  scales_ += std::max(1.0, rows_.scale(row));
  if (outside_ && everything_ == Everything::kNo) outside_->picked(row);
  if (far_) far_->picked(row);
  outside_bound_ += 2 * unit() * (1 + 1e-9);  // c >= -1
  far_bound_ += 2 * unit() * (1 + 1e-9);
  state_[row] = State::kGone;
  const int64_t twin = twins_.next(row);
  if (twin >= 0) {
    state_[twin] = State::kHere;
    base_[twin] = base_[row];
    pool_.replace(slot, twin);
  } else {
    pool_.remove(slot);
  }
  pool_.subtract(slot, row, 2 * unit(), error());
  if (picked_ % kOften == 0) doubts_ = 0;
}

void Lazy::end_bin() {
  for (int64_t k = 0; k < rows_.numbers(); ++k) total_[k] -= sum_[k];
  if (everything_ == Everything::kExact) return;
  constexpr int64_t kTogether = 1 << 14;
  Array<int64_t> list(kTogether);
  Array<double> taken(kTogether);
  for (int64_t i = 0; i < n_;) {
    int64_t count = 0;
    for (; i < n_ && count < kTogether; ++i)
      if (state_[i] == State::kHere) list[count++] = i;
    copies_.dots(sum_.data(), list.data(), count, taken.data());
    for (int64_t k = 0; k < count; ++k) base_[list[k]] -= taken[k];
  }
  base_error_ += copies_.dot_error() * scales_;
}

void graph_cut_lazy(const Rows& rows, const Job& job, Way way) { Lazy(rows, job, way).run(); }

}  // namespace dq_fast
