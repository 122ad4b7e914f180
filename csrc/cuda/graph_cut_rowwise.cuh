// Picks among the gains of all rows of a group that has no matrix: gains from inner products, and the winner of them.
//   gain(x) = unit * (lam * base(x) - 2 * taken(x)), base(x) = <x, sum of the rows left when the bin began>,
//   taken(x) = <x, sum of the rows picked for the bin>; pick the lowest row within the tolerance of the largest gain.
//
// Mapping: renew_gains a thread for four rows of a chunk of 1,024, and the chunk's largest gain; pick_winner one block:
// the largest over the chunks, the first chunk that reaches the limit, the first row in it. The pick stays on the
// device
// (`picked`), where the next product of rows reads it: no wait for the host, however many picks follow each other.
// Bytes: 33 n for renew_gains, 8 n / 1,024 + 9 * 1,024 for pick_winner; the product of rows before them reads the rows.
// Floor: 200,000 rows: 6.6 MB, 2.2 us at 3 TB/s, and 2 us a launch; the rows, 512 float32 wide, take 140 us.
// Predicted (H100, never measured): 2.5 us and 3.5 us (three dependent rounds in one block).
#pragma once
#include "graph_cut_common.cuh"
#include "graph_cut_launch.h"

namespace dq_fast {

// dots [n] (nullptr: zeros) are added to taken [n], or replace it. gains [n]: -infinity where gone [n]. maxima [grid].
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    renew_gains(const double* __restrict__ base, const double* __restrict__ dots, bool add,
                const uint8_t* __restrict__ gone, int64_t n, double lam, bool shifted, double* __restrict__ taken,
                double* __restrict__ gains, double* __restrict__ maxima) {
  SHARED_ARRAY(double, by_warp, 32);
  const double unit = shifted ? 0.5 : 1.0;
  double mine = -kInfinity;
#pragma unroll
  for (int r = 0; r < kRenewRows; ++r) {
    const int64_t i = int64_t(blockIdx.x) * kChunk + r * kThreads + int64_t(threadIdx.x);
    if (i >= n) break;
    const double took = (dots ? dots[i] : 0.0) + (add ? taken[i] : 0.0);
    const double gain = gone[i] ? -kInfinity : plain_gain(unit * lam, base[i], 2 * unit, took);
    taken[i] = took;
    gains[i] = gain;
    mine = larger(mine, gain);
  }
  leave_largest(mine, by_warp);
  __syncthreads();
  const double best = largest_of_warps(by_warp);
  if (threadIdx.x == 0) maxima[blockIdx.x] = best;
}

// gains [n] and the maxima [chunks] of their chunks; picked [1], *index and *value: the winner, its row number (`first`
// is that of the group's first row) and what is returned for its gain, `constant` added. gone [n] gets it.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    pick_winner(const double* __restrict__ gains, const double* __restrict__ maxima, int64_t n, int64_t chunks,
                double tolerance, int64_t first, double constant, uint8_t* __restrict__ gone,
                int64_t* __restrict__ picked, int64_t* __restrict__ index, double* __restrict__ value) {
  SHARED_ARRAY(double, by_warp, 32);
  SHARED_ARRAY(int, chunk, 1);
  SHARED_ARRAY(int, place, 1);
  double mine = -kInfinity;
  for (int64_t k = int64_t(threadIdx.x); k < chunks; k += kThreads) mine = larger(mine, maxima[k]);
  leave_largest(mine, by_warp);
  if (threadIdx.x == 0) chunk[0] = int(chunks), place[0] = int(kChunk);
  __syncthreads();
  const double limit = tie_limit(largest_of_warps(by_warp), tolerance);
  if (mine >= limit) {
    int64_t k = int64_t(threadIdx.x);
    while (!(maxima[k] >= limit)) k += kThreads;
    atomicMin(&chunk[0], int(k));
  }
  __syncthreads();
  const int64_t begin = int64_t(chunk[0]) * kChunk, end = begin + kChunk < n ? begin + kChunk : n;
  for (int64_t i = begin + int64_t(threadIdx.x); i < end; i += kThreads)
    if (gains[i] >= limit) {
      atomicMin(&place[0], int(i - begin));
      break;
    }
  __syncthreads();
  if (threadIdx.x == 0) {
    const int64_t row = begin + place[0];
    picked[0] = row;
    gone[row] = 1;
    *index = first + row;
    *value = gains[row] + constant;
  }
}

}  // namespace dq_fast
