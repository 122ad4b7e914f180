// All similarities in float64 first, then one row of them subtracted for each pick. Where the product of the factors is
// wider than the group is long (ImageNet by class: 1,300 rows of 1,000 x 769), sums of rows cost more than the matrix:
// n^2 (d1 + d2) / 2 products against 3 n d1 d2; and with float64 nothing is left to decide. Half of the matrix is
// formed, the other half copied.
#include <vector>

#include "pick_loop.h"

namespace dq_fast {
namespace {

constexpr int64_t kNumbers = 1 << 25;  // of the matrix, and of the float64 copy of the rows: 256 MB each
constexpr int64_t kBatch = 64;         // rows of a tile
constexpr double kWorth = 4;           // sums of rows are formed once and then taken apart and used for each pick
constexpr double kTight = 1e3;  // squared scale of centred rows above which p - m_i - m_j + m loses too many digits

class Gram64 {
 public:
  Gram64(const Rows& rows, const Job& job) : n_(rows.n()), job_(job), s_(n_ * n_), sums_(n_) {
    const int64_t width = padded(rows.d1()), stride = rows.d2() + width;
    Array<double> copy;
    copy.zero(n_ * stride);
    std::vector<const double*> h(static_cast<size_t>(n_)), b(static_cast<size_t>(n_));
    for (int64_t i = 0; i < n_; ++i) {
      h[i] = copy.data() + i * stride, b[i] = h[i] + rows.d2();
      rows.read(i, copy.data() + i * stride + rows.d2(), copy.data() + i * stride);
    }
    std::vector<double> shift(size_t(n_), 0.0);
    if (rows.centred()) {
      double mean2 = 0;
      for (int64_t k = 0; k < rows.numbers(); ++k) mean2 += rows.mean()[k] * rows.mean()[k];
      rows.dots(rows.mean(), shift.data());
      for (int64_t i = 0; i < n_; ++i) shift[i] = (rows.scale(i) > 0 ? shift[i] / rows.scale(i) : 0.0) + 0.5 * mean2;
    }
    const int64_t batches = (n_ + kBatch - 1) / kBatch;
    rows.count(n_);  // the rest is read from the copy
#pragma omp parallel for schedule(dynamic) num_threads(job.threads) if (job.threads > 1 && batches > 1)
    for (int64_t k = 0; k < batches; ++k) {
      if (job_.monitor->tick(0)) continue;
      const int64_t i = k * kBatch, count = std::min(kBatch, n_ - i);
      simd().gram64(h.data() + i, b.data() + i, count, h.data(), b.data(), i + count, rows.d1() > 1 ? width : 0,
                    rows.d2(), s_.data() + i * n_, n_);
      if (!rows.centred()) continue;
      for (int64_t r = i; r < i + count; ++r)
        for (int64_t c = 0; c < i + count; ++c)
          s_[r * n_ + c] = (s_[r * n_ + c] - shift[r] - shift[c]) * rows.scale(r) * rows.scale(c);
    }
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t j = i + 1; j < n_; ++j) s_[i * n_ + j] = s_[j * n_ + i];
    std::fill_n(sums_.data(), n_, 0.0);
    for (int64_t i = 0; i < n_; ++i) simd().subtract64(s_.data() + i * n_, -1.0, sums_.data(), n_);
  }

  void start(double* gains) const {
    for (int64_t i = 0; i < n_; ++i) gains[i] = job_.unit() * job_.lam * sums_[i];
  }
  void after(int64_t row, double* gains) const { simd().subtract64(s_.data() + row * n_, 2 * job_.unit(), gains, n_); }
  void end(const int64_t* rows, int64_t count) {
    for (int64_t t = 0; t < count; ++t) simd().subtract64(s_.data() + rows[t] * n_, 1.0, sums_.data(), n_);
  }

 private:
  int64_t n_;
  const Job& job_;
  Array<double> s_, sums_;
};

}  // namespace

bool prefers_gram64(const Rows& rows) {
  const int64_t n = rows.n(), d = rows.d1() + rows.d2();
  if (n * n > kNumbers || n * (d + kPad) > kNumbers || double(n) * double(d) > kWorth * double(rows.numbers()))
    return false;
  for (int64_t i = 0; i < n; ++i)
    if (rows.centred() && rows.scale(i) * rows.scale(i) > kTight) return false;
  return true;
}

void graph_cut_gram64(const Rows& rows, const Job& job) {
  job.trace->gram = 1;
  Gram64 source(rows, job);
  if (!job.monitor->stopped()) pick_loop(source, rows.n(), tie_tolerance(rows.n(), job.lam), job);
}

}  // namespace dq_fast
