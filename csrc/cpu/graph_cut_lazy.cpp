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
#include <memory>
#include <unordered_map>
#include <vector>

#include "graph_cut.h"
#include "outside.h"
#include "pool.h"

namespace dq_fast {
namespace {

constexpr int64_t kPool = 512;     // slots of the pool: its similarities, 1 MB, stay in the second-level cache
constexpr int64_t kFirst = 192;    // rows in it when a bin starts
constexpr int64_t kSegments = 24;  // moments of renewal; each costs a distance of matrices whenever bounds are renewed
constexpr int64_t kFar = 1 << 14;  // rows of a group: with fewer, all bounds are renewed in a tenth of a millisecond
constexpr double kNear = 8;        // times sqrt(rows) are near at first: all near rows are renewed often, all far ones
                                   // whenever the near run out
constexpr int64_t kGramNumbers = 1 << 27;  // of a pool of everything: 512 MB
constexpr int64_t kDoubtful = 12;  // float64 decisions a pick, on average: from here float64 everywhere costs less
constexpr int64_t kJudge = 64;     // picks between looks at how it goes

enum class State : char {
  kHere,
  kGone,
  kHidden
};  // kHidden: the same, bit for bit, as a row with a lower number that is here

class Lazy {
 public:
  Lazy(const Rows& rows, const Job& job)
      : rows_(rows),
        job_(job),
        copies_(rows, job.threads),
        pool_(rows, copies_),
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
    const bool fits = n_ * n_ <= kGramNumbers;
    if (n_ <= kPool || (job.method == Method::kGram && fits))
      everything_ = Everything::kStored;
    else if (job.method == Method::kGram)
      everything_ = Everything::kFormed;
    first_ = everything_;
    if (everything_ == Everything::kNo) {
      directions_.reset(new Directions(rows, copies_));
      outside_.reset(new Outside(rows, directions_.get(), job.unit(), job.threads));
      if (n_ >= kFar) far_.reset(new Outside(rows, directions_.get(), job.unit(), job.threads));
      near_ = int64_t(kNear * std::sqrt(double(n_)));
    }
  }

  void run() {
    rank();
    const bool looked_for = everything_ == Everything::kNo || everything_ == Everything::kFew;
    (looked_for ? job_.trace->lazy : everything_ == Everything::kStored ? job_.trace->gram : job_.trace->naive) = 1;
    job_.trace->switched = everything_ != first_ && !looked_for;
    job_.trace->decisions = decided_;
  }

 private:
  void rank() {
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

  enum class Everything {
    kNo,
    kFew,  // the last rows of a group, all in the pool
    kStored,
    kFormed,
    kExact
  };  // are all rows in the pool, and where its similarities come from

  double unit() const { return job_.unit(); }
  double error() const {  // of a gain of a row of scale 1, at any time in the bin
    if (everything_ == Everything::kExact) return 0;
    return unit() * (job_.lam * base_error_ + 2 * (copies_.dot_error() * scales_ + copies_.product_error() * scales_)) *
           (1 + 1e-9);
  }

  void begin_bin() {
    for (int64_t k = 0; k < rows_.numbers(); ++k) gradient_[k] = unit() * job_.lam * total_[k], sum_[k] = 0;
    scales_ = 0;
    last_low_ = NAN;
    populate();
  }

  std::vector<int64_t> here() const {
    std::vector<int64_t> list;
    for (int64_t i = 0; i < n_; ++i)
      if (state_[i] == State::kHere) list.push_back(i);
    return list;
  }

  // Renew the gains of all rows and share them between the pool and the outside.
  void populate() {
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
        pool_.gains()[s] = renewed[pool_.row(s)], wanted_[pool_.row(s)] = 2;
    }
    for (int64_t k : chosen)
      if (wanted_[list[k]] == 1) in.push_back(list[k]), in_gain.push_back(gain[k]);
    pool_.add(in.data(), in_gain.data(), int64_t(in.size()));
    if (picked_since_bin() == 0) {
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

  // Rows that are far may win by now: all their bounds are renewed, and the best of the rows come near.
  void refill(double low) {
    constexpr int64_t kOften =
        64;  // picks: where the far rows' common bound does not even last so long, more come near
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

  // Places of the `most` largest gains of at least `least`, in order of place; of equal ones the first.
  static std::vector<int64_t> largest_of(const double* gain, int64_t count, int64_t most, double least) {
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

  // The same where all rows are in the pool.
  void populate_pool() {
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
        if (pool_.is_alive(s)) pool_.gains()[s] = by_row[pool_.row(s)];
    }
    outside_bound_ = far_bound_ = -HUGE_VAL;
  }

  double picked_since_bin() const { return scales_; }

  // Plain gains that are true now.
  void fresh(const int64_t* list, int64_t count, double* gain) const {
    if (everything_ == Everything::kExact) return rows_.dots(gradient_.data(), list, count, gain);
    if (scales_ > 0)
      copies_.dots(sum_.data(), list, count, gain);
    else
      std::fill_n(gain, count, 0.0);
    for (int64_t k = 0; k < count; ++k) gain[k] = unit() * (job_.lam * base_[list[k]] - 2 * gain[k]);
  }

  // The slot of the row to pick.
  int64_t choose() {
    for (int tries = 0;; ++tries) {
      const double low =
          pool_.alive() ? simd().largest_sum(pool_.gains(), pool_.scales(), -error(), pool_.used()) : -HUGE_VAL;
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
      const int64_t count =
          simd().all_at_least(pool_.gains(), pool_.scales(), error(), limit, pool_.used(), where_.data());
      if (count == 1) return where_[0];
      if (everything_ != Everything::kExact) {
        doubts_ += count;
        if (count > kDoubtful * kJudge || doubts_ > kDoubtful * kJudge) {
          doubts_ = 0;
          degrade();
          continue;
        }
      }
      return decide(count);
    }
  }

  int64_t decide(int64_t count) {
    decided_ += count;
    double best = -HUGE_VAL;
    for (int64_t k = 0; k < count && everything_ != Everything::kExact; ++k) {
      const int64_t slot = where_[k];
      pool_.gains()[slot] = rows_.dot(pool_.row(slot), gradient_.data(), scratch_.data());
    }
    for (int64_t k = 0; k < count; ++k) best = std::max(best, pool_.gains()[where_[k]]);
    int64_t chosen = -1;
    for (int64_t k = 0; k < count; ++k) {
      const int64_t slot = where_[k];
      if (pool_.gains()[slot] >= best - tolerance_ && (chosen < 0 || pool_.row(slot) < pool_.row(chosen)))
        chosen = slot;
    }
    return chosen;
  }

  void pick(int64_t slot, int64_t row) {
    rows_.add(row, -2 * unit(), gradient_.data(), scratch_.data());
    rows_.add(row, 1.0, sum_.data(), scratch_.data());
    scales_ += std::max(1.0, rows_.scale(row));
    pool_.subtract(slot, 2 * unit());
    if (outside_ && everything_ == Everything::kNo) outside_->picked(row);
    if (far_) far_->picked(row);
    outside_bound_ += 2 * unit() * (1 + 1e-9);  // c >= -1
    far_bound_ += 2 * unit() * (1 + 1e-9);
    state_[row] = State::kGone;
    const int64_t twin = merged_ ? twin_[row] : -1;
    if (twin >= 0) {
      state_[twin] = State::kHere;
      base_[twin] = base_[row];
      pool_.replace(slot, twin);
    } else {
      pool_.remove(slot);
    }
    if (picked_ % kJudge == 0) doubts_ = 0;
  }

  void end_bin() {
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

  // Renew the rows outside that may win, and those not far from it; the best of them join the pool.
  void exchange(double low) {
    const double fall = std::isfinite(last_low_) && picked_ > last_picked_
                            ? (last_low_ - low) / double(picked_ - last_picked_)
                            : unit();
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
  void make_room(int64_t wanted, std::vector<int64_t>* out, std::vector<double>* out_gain) {
    const int64_t excess = pool_.alive() + wanted - pool_.capacity();
    if (excess <= 0) return;
    std::vector<int64_t> slots;
    for (int64_t s = 0; s < pool_.used(); ++s)
      if (pool_.is_alive(s)) slots.push_back(s);
    std::nth_element(slots.begin(), slots.begin() + excess - 1, slots.end(),
                     [&](int64_t a, int64_t b) { return pool_.gains()[a] < pool_.gains()[b]; });
    for (int64_t k = 0; k < excess; ++k) {
      out->push_back(pool_.row(slots[k]));
      out_gain->push_back(pool_.gains()[slots[k]] + error() * pool_.scales()[slots[k]]);
      pool_.remove(slots[k]);
    }
  }

  // Are the bounds worth it? Compares, in products, what was spent for each row ranked so far with what it would cost
  // if all rows were in the pool: with their similarities formed once, or for each pick on the spot.
  void judge() {
    if (everything_ != Everything::kNo) return;
    const double d = double(rows_.d1() + rows_.d2()),
                 m = double(pool_.alive() + outside_->size() + (far_ ? far_->size() : 0));
    const double spent = double(renewed_) * (double(rows_.numbers()) + kHandling) + double(looked_) * kDirections +
                         double(pool_.products()) * d;
    const double done = double(ranked_), left = double(job_.total()) - done;
    const double formed = left * m * (d * kFromMemory + kGain);
    const double stored = 0.5 * m * m * d + left * m * kGain;
    const bool fits = job_.method == Method::kAuto && m * m <= double(kGramNumbers);
    const double best = fits ? std::min(formed, stored) : formed;
    if (spent < kSure * best || spent / std::max(1.0, done) * left < kWorse * best) return;
    everything_ = fits && stored < formed ? Everything::kStored : Everything::kFormed;
    reset_pool();
  }

  // Too many rows too near each other for float32: first treat rows that are the same bit for bit as one, then use
  // float64.
  void degrade() {
    if (!merged_) {
      merged_ = true;
      twin_.assign(size_t(n_), -1);
      if (merge_twins() * 4 > n_) {
        reset_pool();
        return;
      }
    }
    everything_ = Everything::kExact;
    reset_pool();
  }

  void reset_pool() {
    pool_.reset(0, Pool::Source::kStored);
    populate();
  }

  // Hide every row that equals one with a lower number; returns how many.
  int64_t merge_twins() {
    std::unordered_map<uint64_t, std::vector<int64_t>> last;  // the last row of each kind, by hash
    int64_t hidden = 0;
    for (int64_t i = 0; i < n_; ++i) {
      if (state_[i] != State::kHere) continue;
      std::vector<int64_t>& kinds = last[rows_.hash(i)];
      const auto same = std::find_if(kinds.begin(), kinds.end(), [&](int64_t j) { return rows_.same(i, j); });
      if (same == kinds.end()) {
        kinds.push_back(i);
      } else {
        twin_[*same] = i;
        *same = i;
        state_[i] = State::kHidden;
        ++hidden;
      }
    }
    return hidden;
  }

  static constexpr double kHandling = 1500;  // products that sorting and moving a renewed row is worth
  static constexpr double kFromMemory = 3;   // a product of a row read for it alone, against one of a matrix product
  static constexpr double kGain = 4;         // updating one gain
  static constexpr double kSure = 0.02;      // of the other way's cost: spent before judging
  static constexpr double kWorse = 1.3;      // how much worse the bounds must look: what was spent is spent
  static constexpr double kHorizon = 48;     // picks ahead that an exchange looks
  static constexpr int64_t kJoin = 128;      // rows that join at once, at most

  const Rows& rows_;
  const Job& job_;
  Rows32 copies_;
  std::unique_ptr<Directions> directions_;
  std::unique_ptr<Outside> outside_, far_;  // far_: of a long group, most rows, which share one bound
  Pool pool_;
  int64_t n_;
  double tolerance_;
  std::vector<State> state_;
  std::vector<int64_t> twin_;  // once merged_: the next row that is the same, or -1
  std::vector<char> wanted_;   // populate()'s: is the row to be in the pool (1), is it there (2)
  bool merged_ = false;
  Everything everything_ = Everything::kNo, first_ = Everything::kNo;  // first_: as it began
  Array<double> scratch_, total_, gradient_, sum_;                     // [d1 + d2], then [d1, d2]: M, G and W
  Array<double> base_;                                                 // [n]: <x, M> within base_error_ * scale
  Array<int32_t> where_;
  double base_error_ = 0, scales_ = 0;  // scales_: of the rows picked in this bin, each at least 1, added up
  double outside_bound_ = 0, far_bound_ = -HUGE_VAL, last_low_ = NAN;
  int64_t near_ = 0, refilled_ = 0;  // rows that come near at once; when they last did
  int64_t decided_ = 0;
  int64_t picked_ = 0, last_picked_ = 0, doubts_ = 0;
  int64_t renewed_ = 0, looked_ = 0, ranked_ = 0;  // what judge() goes by
};

}  // namespace

void graph_cut_lazy(const Rows& rows, const Job& job) { Lazy(rows, job).run(); }

}  // namespace dq_fast
