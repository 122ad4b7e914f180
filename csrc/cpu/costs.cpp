#include "costs.h"

#include <algorithm>
#include <vector>

#include "directions.h"

namespace dq_fast {
namespace {

// Nanoseconds on one core of an AMD EPYC (Zen 3, AVX2), the least of several tries; `number`: of padded rows.
struct Line {
  double pair, number, narrow;  // narrow: more for a second factor
  double of(const Shape& shape) const {
    const bool two = shape.has_narrow;
    return pair + number * double(shape.d2 + (two ? padded(shape.d1) : 0)) + (two ? narrow : 0.0);
  }
};
constexpr Line kSimilarity{1.4, 0.024, 0.9};               // float32, in a block of many
constexpr Line kSimilarity64{1.3, 0.046, 0.9};             // float64
constexpr Line kAlone{1.6, 0.066, 1.5};                    // float32, of one row with others, the gain with it
constexpr Line kAlone64{20, 0.11, 26};                     // float64
constexpr double kRenewal = 12, kRenewalNumber = 0.04;     // float32, a row and a sum of rows
constexpr double kRenewal64 = 8, kRenewal64Number = 0.07;  // float64
constexpr double kPick = 50, kPickNumber = 0.45;           // three float64 sums and products of a pick
constexpr double kStoredGain = 0.5, kNaiveGain = 1.5, kGram64Gain = 1.0;  // one gain subtracted from and compared
// A float32 similarity put in both of its places: in memory that is new, and with long rows far apart.
constexpr double kKept = 3, kKeptRow = 1e-3, kKeptMost = 10;
constexpr double kCopied = 1.0;   // one number of half a matrix into the other half
constexpr double kBound = 2.3;    // renewed
constexpr double kHandling = 80;  // a renewed row: found, sorted, put elsewhere
// Finding directions: of so many rows, besides their similarities.
constexpr double kSampled = 256, kFinding = 250e3, kFindingNumber = 1e3;
constexpr double kPoolSize = 300;                     // usual of kPool
constexpr double kJoining = 1.3;                      // rows that join the pool for each that is picked
constexpr double kWorthTrying = 0.8;                  // of the best other way's cost: bounds that are tight cost less
constexpr double kNear = 1 << 18, kCached = 1 << 22;  // numbers that the second-level cache holds, and the third
constexpr double kNotNear = 0.02, kMemory = 0.12;     // more for a number that is not there

constexpr int64_t kNumbers64 = 1 << 25;  // of a float64 matrix, and of the float64 copy of the rows: 256 MB each
constexpr double kTight = 1e3;  // squared scale of centred rows above which p - m_i - m_j + m loses too many digits

bool fits64(const Shape& shape) {
  const int64_t d = padded(shape.d1) + shape.d2;
  return shape.n * shape.n <= kNumbers64 && shape.n * d <= kNumbers64 && !shape.is_tight;
}

}  // namespace

Shape Shape::of(const Rows& rows) {
  Shape shape{rows.n(), rows.d1(), rows.d2(), rows.has_narrow(), rows.centred(), rows.is_added(), false};
  for (int64_t i = 0; i < rows.n() && rows.centred() && !shape.is_tight; ++i)
    shape.is_tight = rows.scale(i) * rows.scale(i) > kTight;
  return shape;
}

Costs::Costs(const Shape& shape)
    : n_(double(shape.n)),
      numbers_(double(shape.d1 * shape.d2)),
      similarity_(kSimilarity.of(shape)),
      similarity64_(kSimilarity64.of(shape)),
      alone_(kAlone.of(shape)),
      alone64_(kAlone64.of(shape)),
      renewal_(kRenewal + kRenewalNumber * numbers_),
      renewal64_(kRenewal64 + kRenewal64Number * numbers_),
      pick_(kPick + kPickNumber * numbers_) {
  const double width = double(shape.d1 + shape.d2);
  if (n_ * width > kNear) alone_ += kNotNear * width, alone64_ += kNotNear * width;
  if (n_ * width > kCached) alone_ += kMemory * width, alone64_ += kMemory * width;
  if (shape.centred) alone64_ = renewal64_;
  sum_ = shape.is_added ? 0.0 : n_ * renewal64_;
}

double Costs::naive(const Job& job) const {
  const double picks = double(job.total());
  return sum_ + n_ * renewal64_ * double(job.bins) + picks * (n_ * (alone64_ + kNaiveGain) + kPick);
}

double Costs::gram64(const Job& job) const {
  const double picks = double(job.total());
  return n_ * n_ * (0.5 * similarity64_ + kCopied) + 2 * picks * n_ * kGram64Gain;
}

double Costs::bins(const Job& job) const { return sum_ + n_ * (renewal64_ + renewal_ * double(job.bins - 1)); }

double Costs::stored(const Job& job) const { return bins(job) + stored(n_, double(job.total())); }

double Costs::formed(const Job& job) const { return bins(job) + formed(n_, double(job.total())); }

double Costs::directions() const {
  const bool one_factor = numbers_ < 2 * similarity_ / kSimilarity.number;
  const double sample = std::min(kSampled, n_);
  return n_ * double(kDirections) * (one_factor ? similarity_ : renewal_) + sample * sample * similarity_ + kFinding +
         kFindingNumber * numbers_;
}

double Costs::lazy_at_least(const Job& job) const {
  const double picks = double(job.total());
  return bins(job) + directions() + joined(picks * kJoining * kPoolSize) + picked(picks, kPoolSize);
}

double Costs::stored(double m, double left) const {
  return 0.5 * m * m * (similarity_ + std::min(kKeptMost, kKept + kKeptRow * m)) + left * (m * kStoredGain + pick_);
}

double Costs::formed(double m, double left) const { return left * ((m - 0.5 * left) * alone_ + pick_); }

double Costs::all_rows(double m, double left, Method method, bool* is_stored) const {
  const double each = formed(m, left), once = stored(m, left);
  *is_stored = method == Method::kAuto && m * m <= double(kGramNumbers) && once < each;
  return *is_stored ? once : each;
}

double Costs::renewed(double rows) const { return rows * (renewal_ + kHandling); }

double Costs::looked(double bounds) const { return bounds * kBound; }

double Costs::picked(double picks, double pool) const { return picks * (pool * kStoredGain + pick_); }

Way way_to_begin(const Shape& shape, const Job& job) {
  const int64_t n = shape.n;
  if (job.method == Method::kNaive) return Way::kNaive;
  const Costs costs(shape);
  if (job.method == Method::kLazy) return n <= kPool ? Way::kStored : Way::kLazy;
  const bool fits = n * n <= kGramNumbers;
  Way best = fits ? Way::kStored : Way::kFormed;
  double least = fits ? costs.stored(job) : costs.formed(job);
  const auto consider = [&](Way way, double cost) {
    if (cost < least) best = way, least = cost;
  };
  if (fits64(shape)) consider(Way::kGram64, costs.gram64(job));
  if (job.method == Method::kGram) return best;
  consider(Way::kFormed, costs.formed(job));
  consider(Way::kNaive, costs.naive(job));
  if (n > kPool && costs.lazy_at_least(job) < kWorthTrying * least) return Way::kLazy;
  return best;
}

Ways graph_cut_ways(int64_t d1, int64_t d2, bool has_narrow, bool center, const Groups& groups, int64_t bins,
                    Method method, double looseness) {
  Ways ways{};
  std::vector<int64_t> sizes(size_t(groups.count * bins));
  bin_sizes(groups, bins, sizes.data());
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t n = groups.offsets[g + 1] - groups.offsets[g], wide = padded(d2);
    if (n == 0) continue;
    Job job{};
    job.sizes = sizes.data() + g * bins, job.bins = bins, job.method = method;
    const Shape shape{n, d1, wide, has_narrow, center, !Rows::defers_sum(n, d1, wide, center), false};
    Way way = way_to_begin(shape, job);
    const Costs costs(shape);
    if (way == Way::kLazy && looseness > kLoose) {  // at once, or given up after some picks
      bool is_stored;
      costs.all_rows(double(n), double(job.total()), method, &is_stored);
      way = is_stored ? Way::kStored : Way::kFormed;
    }
    ++(way == Way::kLazy ? ways.lazy : way == Way::kGram64 || way == Way::kStored ? ways.gram : ways.naive);
  }
  return ways;
}

}  // namespace dq_fast
