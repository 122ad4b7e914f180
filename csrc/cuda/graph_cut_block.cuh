// A block of picks among the candidates of largest gain, for as long as no other row of the group can win.
//
// With u a direction (of the sum of the rows left in the bin), W the sum of the rows picked in the block, A = <W, u>
// and R = ||W - A u||, a row x outside has lost, since its gain was true, at least 2 * unit * (A <x, u> - R ||x - <x,
// u> u||) (Cauchy-Schwarz on the rest; for negative similarities too). ||W||^2 grows by 2 <W, b> + <b, b> with each
// pick b, which the candidates' similarities know. Rows outside are taken together in buckets of neighbours by <x, u>:
//   bound(bucket) = max gain - 2 * unit * (A * a - R * max rest), a the smaller end of <x, u> if A > 0, else the
//   larger,
// so that a pick costs O(candidates + buckets), and stops with no look at the rows. A pick is sure where every bound
// lies below the best candidate by more than two tolerances: no row outside is among its ties.
//
// Mapping: bound_outside a warp a bucket, once a block of picks. pick_block one thread block: a thread has 16-byte
// pieces of each row of similarities and four buckets in registers; candidates' gains in shared memory; two barriers a
// pick. Bytes: bound_outside 25 n; pick_block a row of similarities a pick, 8 KB of 1,024 candidates, from L2. Floor: 5
// MB for 200,000 rows, 1.7 us at 3 TB/s; pick_block is a chain, not a stream. Predicted (H100, never measured):
// bound_outside 5 us (gathers by bucket), pick_block 2 us a pick.
#pragma once
#include "graph_cut_common.cuh"
#include "graph_cut_launch.h"

namespace dq_fast {

// Added under the roots of the rests, of 1 and of ||W||^2: rounding must not make a bound too tight.
constexpr double kRestSlack = 1e-10;

// order [count]: rows, by along [n] = <x, u>, `each` a bucket, `used` buckets; gains [n]; inside [n]: the candidates.
// bounds [4, kBuckets]: of the rows of a bucket that are outside the largest gain, the smallest and largest along, the
// largest rest.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    bound_outside(const int64_t* __restrict__ order, int64_t count, int64_t each, int used,
                  const double* __restrict__ along, const double* __restrict__ gains,
                  const uint8_t* __restrict__ inside, double* __restrict__ bounds) {
  const int lane = int(threadIdx.x % 32);
  const int64_t bucket = int64_t(blockIdx.x) * (kThreads / 32) + int64_t(threadIdx.x / 32);
  const int64_t begin = bucket * each;
  const int64_t end = begin + each < count ? begin + each : count;
  double gain = -kInfinity, least = kInfinity, most = -kInfinity, rest = 0;
  for (int64_t k = begin + lane; k < end; k += 32) {
    const int64_t row = order[k];
    if (inside[row] || gains[row] == -kInfinity) continue;
    const double a = along[row], square = 1 - a * a;
    gain = larger(gain, gains[row]);
    least = a < least ? a : least;
    most = larger(most, a);
    rest = larger(rest, (square > 0 ? square : 0) + kRestSlack);  // a zero row has rest 0: 1 is no less true
  }
  gain = largest_in_warp(gain), least = -largest_in_warp(-least);
  most = largest_in_warp(most), rest = largest_in_warp(rest);
  if (lane == 0 && bucket < used) {
    const bool some = gain > -kInfinity;
    bounds[bucket] = gain;
    bounds[kBuckets + bucket] = some ? least : 0;
    bounds[2 * kBuckets + bucket] = some ? most : 0;
    bounds[3 * kBuckets + bucket] = sqrt(rest);
  }
}

// s [m, m]: similarities of the candidates rows [m], ascending; along [n] and gains [n] of all rows; bounds as above.
// Picks `most` rows at most: indices and values [most] (`first`, `constant` and `fall` for each pick added), gone [n]
// gets them, count [1] is how many. constant - fall * t is the part of the t-th pick's gain that all rows share.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    pick_block(const double* __restrict__ s, int m, const int64_t* __restrict__ rows, const double* __restrict__ along,
               const double* __restrict__ gains, const double* __restrict__ bounds, int used, double tolerance,
               bool shifted, int64_t most, int64_t first, double constant, uint8_t* __restrict__ gone,
               int64_t* __restrict__ indices, double* __restrict__ values, int64_t* __restrict__ count) {
  constexpr int kWide = MatrixRow<double>::kWide, kMine = kBuckets / kThreads;
  DYN_SMEM(double, shared);
  SHARED_ARRAY(double, by_warp, 32);
  SHARED_ARRAY(double, bound_by_warp, 32);
  SHARED_ARRAY(double, sum, 2);   // ||W||^2 and <W, u>
  SHARED_ARRAY(int, winners, 2);  // taken in turns
  const int across = (m + kWide - 1) / kWide, padded = across * kWide;
  double* const start = shared;  // gain when the block began; -infinity: picked
  double* const dots = start + padded;
  double* const squares = dots + padded;  // <x, x>: 1, or 0 for a zero row
  double* const alongs = squares + padded;
  const double unit = shifted ? 0.5 : 1.0, twice_unit = 2 * unit;

  for (int c = int(threadIdx.x); c < m; c += kThreads) {
    const int place = banked<kWide>(c, across);
    start[place] = gains[rows[c]];
    dots[place] = 0;
    squares[place] = s[int64_t(c) * m + c];
    alongs[place] = along[rows[c]];
  }
  double gain[kMine], least[kMine], largest[kMine], rest[kMine];
#pragma unroll
  for (int k = 0; k < kMine; ++k) {
    const int bucket = k * kThreads + int(threadIdx.x);
    gain[k] = -kInfinity, least[k] = largest[k] = rest[k] = 0;
    if (bucket >= used) continue;
    gain[k] = bounds[bucket], least[k] = bounds[kBuckets + bucket];
    largest[k] = bounds[2 * kBuckets + bucket], rest[k] = bounds[3 * kBuckets + bucket];
  }
  if (threadIdx.x == 0) {
    winners[0] = winners[1] = m;
    sum[0] = sum[1] = 0;
  }
  __syncthreads();

  int64_t t = 0;
  for (int picked = -1, turn = 0; t < most; ++t, turn ^= 1) {
    const MatrixRow<double> row(picked < 0 ? nullptr : s + int64_t(picked) * m, m);
    double mine = -kInfinity;
    row.template each<true>([&](int c, double similarity) {
      const int place = banked<kWide>(c, across);
      if (c == picked) start[place] = -kInfinity;
      const double dot = dots[place] + similarity, begun = start[place];
      dots[place] = dot;
      if (begun > -kInfinity) mine = larger(mine, plain_gain(1.0, begun, twice_unit, dot));
    });
    leave_largest(mine, by_warp);
    __syncthreads();
    const double best = largest_of_warps(by_warp), limit = tie_limit(best, tolerance);

    const double square = sum[0], sum_along = sum[1];
    const double across_square = square - sum_along * sum_along;
    const double sum_rest = sqrt((across_square > 0 ? across_square : 0) + kRestSlack * square);
    double bound = -kInfinity;
#pragma unroll
    for (int k = 0; k < kMine; ++k) {
      const double lost = sum_along * (sum_along > 0 ? least[k] : largest[k]) - sum_rest * rest[k];
      bound = larger(bound, gain[k] - twice_unit * lost);
    }
    leave_largest(bound, bound_by_warp);

    int lowest = m;
    double found = 0, found_dot = 0;
    if (mine >= limit)
      row.template each<false>([&](int c, double) {
        const int place = banked<kWide>(c, across);
        const double begun = start[place], dot = dots[place];
        if (begun == -kInfinity || c > lowest) return;
        const double now = plain_gain(1.0, begun, twice_unit, dot);
        if (now >= limit) lowest = c, found = now, found_dot = dot;
      });
    if (lowest < m) atomicMin(&winners[turn], lowest);
    if (threadIdx.x == 0) winners[turn ^ 1] = m;
    __syncthreads();
    if (!(largest_of_warps(bound_by_warp) < best - 2 * tolerance)) break;  // the same for all threads
    picked = winners[turn];
    if (lowest == picked) {
      const int place = banked<kWide>(picked, across);
      const int64_t chosen = rows[picked];
      sum[0] = square + 2 * found_dot + squares[place];
      sum[1] = sum_along + alongs[place];
      gone[chosen] = 1;
      indices[t] = first + chosen;
      values[t] = found + (constant - (shifted ? double(t) : 0.0));
    }
  }
  if (threadIdx.x == 0) count[0] = t;
}

}  // namespace dq_fast
