// All similarities in float64 first, then one row of them subtracted for each pick. Where the product of the factors is
// wider than the group is long (ImageNet by class: 1,300 rows of 1,000 x 769), sums of rows cost more than the matrix:
// n^2 (d1 + d2) / 2 products against 3 n d1 d2; and with float64 nothing is left to decide. Half of the matrix is
// formed, the other half copied.
#include <vector>

#include "pick_loop.h"

namespace dq_fast {
namespace {

constexpr int64_t kBatch = 96;    // rows of a task
constexpr int64_t kStrip = 48;    // columns together: 1,000 numbers of so many rows fit the second-level cache
constexpr int64_t kColumns = 24;  // columns are written up to a multiple of it

// What is written beyond the diagonal ends with the batch: no batch writes where another has left its mirror image.
static_assert(kBatch % kColumns == 0 && kStrip % kColumns == 0, "batches begin and end where panels do");

int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

class Gram64 {
 public:
  Gram64(const Rows& rows, const Job& job)
      : rows_(rows), n_(rows.n()), ld_(up(n_, kColumns)), job_(job), s_(up(n_, kColumns) * ld_), sums_(n_) {
    if (rows.centred()) find_shifts();
    copy();
    form();
    wide_ = Array<double>(), narrow_ = Array<double>();
    std::fill_n(sums_.data(), n_, 0.0);
    for (int64_t i = 0; i < n_; ++i) simd().subtract64(row(i), -1.0, sums_.data(), n_);
  }

  void start(double* gains) const {
    for (int64_t i = 0; i < n_; ++i) gains[i] = job_.unit() * job_.lam * sums_[i];
  }
  void after(int64_t i, double* gains) const { simd().subtract64(row(i), 2 * job_.unit(), gains, n_); }
  void end(const int64_t* rows, int64_t count) {
    for (int64_t t = 0; t < count; ++t) simd().subtract64(row(rows[t]), 1.0, sums_.data(), n_);
  }

 private:
  const double* row(int64_t i) const { return s_.data() + i * ld_; }

  void find_shifts() {
    double mean2 = 0;
    for (int64_t k = 0; k < rows_.numbers(); ++k) mean2 += rows_.mean()[k] * rows_.mean()[k];
    shift_.resize(n_);
    rows_.dots(rows_.mean(), shift_.data());
    for (int64_t i = 0; i < n_; ++i) shift_[i] = (rows_.scale(i) > 0 ? shift_[i] / rows_.scale(i) : 0.0) + 0.5 * mean2;
  }

  // The rows, normalised, in panels; those that fill the last ones are zero.
  void copy() {
    const int64_t lanes = simd().lanes64, d1 = rows_.d1(), d2 = rows_.raw_width(), panels = up(n_, kColumns) / lanes;
    wide_.zero(panels * lanes * d2);
    if (rows_.has_narrow()) narrow_.zero(panels * lanes * d1);
    rows_.count(n_);  // the rest is read from the copy
#pragma omp parallel num_threads(job_.threads) if (job_.threads > 1 && n_ * d2 > kParallel)
    {
      Array<double> scratch(rows_.d1() + rows_.d2());
      double *h = scratch.data(), *b = h + rows_.d2();
#pragma omp for schedule(static)
      for (int64_t p = 0; p < panels; ++p)
        for (int64_t i = p * lanes; i < std::min(n_, (p + 1) * lanes); ++i) {
          rows_.read(i, b, h);
          for (int64_t c = 0; c < d2; ++c) wide_[(p * d2 + c) * lanes + i % lanes] = h[c];
          for (int64_t c = 0; c < d1 && rows_.has_narrow(); ++c) narrow_[(p * d1 + c) * lanes + i % lanes] = b[c];
        }
    }
  }

  void form() {
    const int64_t batches = (n_ + kBatch - 1) / kBatch;
#pragma omp parallel num_threads(job_.threads) if (job_.threads > 1 && batches > 1)
    {
      Array<double> of_narrow(kBatch * kStrip);
#pragma omp for schedule(dynamic)
      for (int64_t k = batches - 1; k >= 0; --k) {  // the longest first
        if (job_.monitor->tick(0)) continue;
        const int64_t begin = k * kBatch, end = std::min(n_, begin + kBatch);
        for (int64_t j = 0; j < end; j += kStrip) form(begin, end, j, std::min(j + kStrip, ld_), of_narrow.data());
      }
    }
  }

  // Rows [begin, end) by columns [first, last), where those are not above the diagonal; and their mirror images.
  void form(int64_t begin, int64_t end, int64_t first, int64_t last, double* of_narrow) {
    const int64_t d1 = rows_.d1(), d2 = rows_.raw_width(), diagonal = begin - first;
    double* out = s_.data() + begin * ld_ + first;
    simd().gram_panels64(wide_.data() + begin * d2, end - begin, wide_.data() + first * d2, last - first, d2, diagonal,
                         out, ld_);
    if (rows_.has_narrow())
      simd().gram_panels64(narrow_.data() + begin * d1, end - begin, narrow_.data() + first * d1, last - first, d1,
                           diagonal, of_narrow, kStrip);
    for (int64_t r = std::max(begin, first); r < end; ++r) {
      double *s = s_.data() + r * ld_, *narrow = of_narrow + (r - begin) * kStrip;
      const int64_t stop = std::min(r + 1, last);
      for (int64_t c = first; c < stop && rows_.has_narrow(); ++c) s[c] *= narrow[c - first];
      for (int64_t c = first; c < stop && rows_.centred(); ++c)
        s[c] = (s[c] - shift_[r] - shift_[c]) * rows_.scale(r) * rows_.scale(c);
    }
    for (int64_t c = first; c < std::min(last, end); ++c)
      for (int64_t r = std::max(begin, c + 1); r < end; ++r) s_[c * ld_ + r] = s_[r * ld_ + c];
  }

  static constexpr int64_t kParallel = 1 << 18;  // numbers: fewer are copied sooner than another thread is awake

  const Rows& rows_;
  int64_t n_, ld_;  // numbers from row to row of the matrix
  const Job& job_;
  Array<double> s_, sums_, shift_;
  Array<double> wide_, narrow_;  // the rows, while they are multiplied
};

}  // namespace

void graph_cut_gram64(const Rows& rows, const Job& job) {
  job.trace->gram = 1;
  Gram64 source(rows, job);
  if (!job.monitor->stopped()) pick_loop(source, rows.n(), tie_tolerance(rows.n(), job.lam), job);
}

}  // namespace dq_fast
