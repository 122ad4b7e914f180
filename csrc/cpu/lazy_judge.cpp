// Lazy: whether the bounds are worth it, and what to do if not.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "lazy.h"

namespace dq_fast {
namespace {

constexpr double kSure = 0.03;     // of the other way's cost: spent before judging
constexpr double kWorse = 1.15;    // how much worse the bounds must look: what was spent is spent
constexpr int64_t kRecently = 32;  // picks that tell how it goes on, and one in so many of all picks: exchanges come in
constexpr int64_t kShare = 8;      // clusters, so that fewer picks tell of the last one only
constexpr int64_t kMostTwins = 4;  // one row in so many waits behind another: then it is they that left doubt

constexpr double kDear = 0.05;  // of the other way's cost: where directions cost less, the first picks tell more
constexpr double kReach =
    0.25;  // of the rows that bounds do not tell from those picked: with more, all are often renewed

}  // namespace

// The better way of having all rows in the pool, for `left` picks of m rows, and its cost.
Lazy::Everything Lazy::other_way(double m, double left, double* cost) const {
  bool is_stored;
  *cost = costs_.all_rows(m, left, job_.method, &is_stored);
  return is_stored ? Everything::kStored : Everything::kFormed;
}

// The share of the rows whose bounds come near the gains of the first bin's picks. Of p picks that have nothing in
// common outside the directions, the sum has a length of sqrt(p * loose) there; a row's product with it is at most that
// times sqrt(loose).
double Lazy::within_reach(double loose) const {
  const int64_t picks = std::min(n_, *std::max_element(job_.sizes, job_.sizes + job_.bins));
  if (picks == 0) return 0;
  std::vector<double> gain(base_.data(), base_.data() + n_);
  std::nth_element(gain.begin(), gain.begin() + (picks - 1), gain.end(), std::greater<double>());
  const double least = job_.lam * gain[size_t(picks - 1)] - 2 * loose * std::sqrt(double(picks));
  return double(std::count_if(gain.begin(), gain.end(), [&](double g) { return job_.lam * g >= least; })) / double(n_);
}

// Before directions are formed: are the bounds likely to be of use?
void Lazy::probe() {
  double cost;
  const Everything other = other_way(double(n_), double(job_.total()), &cost);
  if (job_.method != Method::kAuto || costs_.directions() <= kDear * cost) return;
  const double loose = looseness(rows_, copies_);
  if (loose > kLoose && within_reach(loose) > kReach) everything_ = other;
}

// Compares what was spent for each row ranked of late with what it would cost if all rows were in the pool: with their
// similarities formed once, or for each pick on the spot.
void Lazy::judge() {
  if (everything_ != Everything::kNo) return;
  const double m = double(pool_.alive() + outside_->size() + (far_ ? far_->size() : 0));
  const double spent = costs_.renewed(double(renewed_)) + costs_.looked(double(looked_)) +
                       costs_.joined(double(pool_.products())) + costs_.picked(double(ranked_), double(pool_.used()));
  const double left = double(job_.total() - ranked_), recently = double(ranked_ - judged_ranked_);
  double best;
  const Everything other = other_way(m, left, &best);
  const double rate = (spent - judged_spent_) / std::max(1.0, recently);
  if (recently >= double(std::max(kRecently, ranked_ / kShare))) judged_spent_ = spent, judged_ranked_ = ranked_;
  // A group of which all is ranked ends in the pool alone.
  const double last = job_.total() == n_ ? std::min(left, double(kPool)) : 0;
  if (spent < kSure * best || rate * (left - last) + costs_.stored(last, last) < kWorse * best) return;
  everything_ = other;
  reset_pool();
}

// Too many rows too near each other for float32: first treat rows that are the same bit for bit as one, then use
// float64.
void Lazy::degrade() {
  if (!twins_.found()) {
    const std::vector<int64_t> waiting = twins_.find(here());
    for (int64_t i : waiting) state_[i] = State::kHidden;
    if (int64_t(waiting.size()) * kMostTwins > n_) return reset_pool();
  }
  everything_ = Everything::kExact;
  reset_pool();
}

void Lazy::reset_pool() {
  pool_.reset(0, Pool::Source::kStored);
  populate();
}

}  // namespace dq_fast
