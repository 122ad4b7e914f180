// The exhaustive loop: float64 gains of all rows, one row of similarities subtracted for each pick. Source tells where
// those come from: a matrix, or products formed on the spot.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "graph_cut.h"

namespace dq_fast {

struct Winner {
  int64_t row;
  double gain;
};

// The lowest row whose gain is within `tolerance` of the largest.
inline Winner winner(const double* gains, int64_t n, double tolerance) {
  const double limit = simd().largest(gains, n) - tolerance;
  const int64_t row = simd().first_at_least(gains, limit, n);
  return {row, gains[row]};
}

// Source: void start(double* gains) sets the plain gains without regard to what is gone; void after(int64_t row,
// double* gains) subtracts unit * 2 * c(row, .); void end(const int64_t* rows, int64_t count) takes a bin's rows out.
template <class Source>
void pick_loop(Source& source, int64_t n, double tolerance, const Job& job) {
  constexpr double kGone = -std::numeric_limits<double>::infinity();
  Array<double> gains(std::max<int64_t>(1, n));
  Array<bool> gone;
  gone.zero(std::max<int64_t>(1, n));
  int64_t done = 0, remaining = n;
  for (int64_t k = 0; k < job.bins; ++k) {
    if (job.sizes[k] == 0) continue;
    source.start(gains.data());
    for (int64_t i = 0; i < n; ++i)
      if (gone[i]) gains[i] = kGone;
    const int64_t first = done;
    for (int64_t t = 0; t < job.sizes[k]; ++t) {
      const Winner best = winner(gains.data(), n, tolerance);
      job.indices[done] = job.begin + best.row;
      job.gains[done++] = best.gain + job.constant(remaining, t);
      gone[best.row] = true;
      if (t + 1 < job.sizes[k]) source.after(best.row, gains.data());
      gains[best.row] = kGone;
      if (job.monitor->tick(1)) return;
    }
    remaining -= job.sizes[k];
    Array<int64_t> picked(job.sizes[k]);
    for (int64_t t = first; t < done; ++t) picked[t - first] = job.indices[t] - job.begin;
    if (remaining > 0) source.end(picked.data(), job.sizes[k]);
  }
}

}  // namespace dq_fast
