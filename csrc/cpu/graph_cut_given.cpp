// Graph cut on a given matrix s [n, n]: column sums, then for each pick one row subtracted from float64 gains.
//
// Bytes: the matrix once for the sums (floor n^2 * bytes at copy speed: 100 MB, 5 to 10 ms for 5,000 float32 rows), and
// for each pick a row and the gains, n * (bytes + 16), from the cache. Mapping: sums by bands of columns over the
// threads, each column added from the first row to the last: the same bits for any number of threads.
#include <cmath>

#include "pick_loop.h"

namespace dq_fast {
namespace {

constexpr int64_t kBand = 1024;         // columns of a band: its float64 sums stay in the first-level cache
constexpr int64_t kParallel = 1 << 17;  // numbers: below, waking threads costs more than the work

template <class T>
class Given {
 public:
  Given(const T* s, int64_t n, const Job& job) : s_(s), n_(n), job_(job), sums_(n) {
    bands([&](int64_t c, int64_t width) {
      double largest = 0;
      simd_sum(nullptr, n_, c, width, sums_.data() + c, &largest);
#pragma omp critical(dq_fast_largest)
      if (largest > largest_) largest_ = largest;
    });
  }

  // max |s|; not finite if an s, or a sum of them, is not.
  double largest() const {
    double sum = largest_;
    for (int64_t i = 0; i < n_; ++i) sum += 0 * sums_[i];
    return sum;
  }

  void start(double* gains) const {
    for (int64_t i = 0; i < n_; ++i) gains[i] = job_.lam * sums_[i];
  }

  void after(int64_t row, double* gains) const {
    const T* s = s_ + row * n_;
    if (n_ < kParallel || job_.threads == 1) return subtract(s, gains, n_);
    const int64_t part = (n_ + job_.threads - 1) / job_.threads;
#pragma omp parallel for num_threads(job_.threads)
    for (int64_t c = 0; c < n_; c += part) subtract(s + c, gains + c, std::min(part, n_ - c));
  }

  void end(const int64_t* rows, int64_t count) {
    bands([&](int64_t c, int64_t width) {
      Array<double> part(width);
      double largest = 0;
      simd_sum(rows, count, c, width, part.data(), &largest);
      for (int64_t i = 0; i < width; ++i) sums_[c + i] -= part[i];
    });
  }

 private:
  template <class Body>
  void bands(Body body) const {
#pragma omp parallel for schedule(dynamic) num_threads(job_.threads) if (n_ > kBand && job_.threads > 1)
    for (int64_t c = 0; c < n_; c += kBand)
      if (!job_.monitor->tick(0)) body(c, std::min(kBand, n_ - c));
  }

  void simd_sum(const int64_t* rows, int64_t count, int64_t c, int64_t width, double* out, double* largest) const {
    std::fill_n(out, width, 0.0);
    for (int64_t i = 0; i < count; i += kRowsTogether) {
      const int64_t together = std::min(kRowsTogether, count - i);
      const T* s[kRowsTogether];
      for (int64_t r = 0; r < together; ++r) s[r] = s_ + (rows ? rows[i + r] : i + r) * n_ + c;
      if constexpr (sizeof(T) == 4) {
        simd().add_rows32(s, together, out, largest, width);
      } else {
        simd().add_rows64(s, together, out, largest, width);
      }
    }
  }

  static void subtract(const T* s, double* gains, int64_t n) {
    if constexpr (sizeof(T) == 4)
      simd().subtract32(s, 2.0, gains, n);
    else
      simd().subtract64(s, 2.0, gains, n);
  }

  const T* s_;
  int64_t n_;
  const Job& job_;
  Array<double> sums_;
  double largest_ = 0;
};

int64_t first_bad_row(const void* s, bool is_float64, int64_t n) {
  for (int64_t i = 0; i < n * n; ++i)
    if (!std::isfinite(is_float64 ? static_cast<const double*>(s)[i] : double(static_cast<const float*>(s)[i])))
      return i / n;
  return kAllFinite;
}

template <class T>
int64_t pick_given(const T* s, int64_t n, const Job& job) {
  job.trace->gram = 1;
  Given<T> source(s, n, job);
  if (job.monitor->stopped()) return kAllFinite;
  if (!std::isfinite(source.largest())) return first_bad_row(s, sizeof(T) == 8, n);
  pick_loop(source, n, tie_tolerance(n, job.lam, source.largest()), job);
  job.trace->rows = n + 2 * job.total();  // the sums; and each pick, once more at the end of its bin
  job.trace->bytes = job.trace->rows * n * int64_t(sizeof(T));
  return kAllFinite;
}

}  // namespace

int64_t graph_cut_given(const void* s, bool is_float64, int64_t n, const Ranking& ranking, int threads,
                        const Listener& listener) {
  if (n == 0) return kAllFinite;
  Monitor monitor(listener);
  Trace unused{};
  const Job job{0,
                ranking.sizes,
                ranking.bins,
                ranking.lam,
                false,
                ranking.method,
                threads,
                ranking.indices,
                ranking.gains,
                &monitor,
                ranking.trace ? ranking.trace : &unused};
  const int64_t bad =
      is_float64 ? pick_given(static_cast<const double*>(s), n, job) : pick_given(static_cast<const float*>(s), n, job);
  monitor.finish();
  return bad;
}

}  // namespace dq_fast
