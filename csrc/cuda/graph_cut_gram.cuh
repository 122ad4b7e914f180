// The whole greedy loop of each group over a matrix of similarities, a block a group, one launch for all groups:
//   gain(x) = unit * (lam * base(x) - 2 * taken(x));  pick the lowest row within the tolerance of the largest gain;
//   taken(x) += s(pick, x);  between bins base(x) -= taken(x), taken(x) = 0.
//
// Mapping: a thread has two or more 16-byte pieces of every row; base and taken, float64, in shared memory (groups of
// up to 6,144 rows) or in global memory, gains nowhere. A pick is one pass over the picked row, fused with the block's
// largest gain (barrier), then a look at the few columns near it for the lowest (barrier). No atomics on floats: same
// bits every time. Nothing goes back to the host.
// Bytes: a row of the matrix a pick, n * size(T), once; n^2 * size(T) for a ranking of all rows.
// Floor: 1,000 groups of 1,300 rows in float64: 13.5 GB, 4.5 ms at 3 TB/s.
// Predicted (H100, never measured): bound by the chain of picks, 2 to 3 us each (a load from L2 or memory 0.7 us, two
// barriers and two rounds of shuffles 0.6 us, the rest arithmetic and shared memory). Groups of 1,300 rows take 352
// threads, 32 registers each, and 21 KB: five on a multiprocessor, 1,000 in two waves of 1,300 picks, 5 to 8 ms.
// float64 adds are 3 a number: no bound, not even where float64 runs at 1/64.
#pragma once
#include "graph_cut_common.cuh"
#include "graph_cut_launch.h"

namespace dq_fast {

// One group of a launch.
struct GramGroup {
  int64_t matrix;  // place of its first number in `matrices`; its rows follow each other without a gap
  int64_t n;
  int64_t first;  // number of its first row, and place of its first sum
  int64_t out;    // place of its first pick in indices and gains
};

// groups [grid], sizes [grid, bins], tolerances [grid], sums [all rows]: sum of each column of its group's matrix.
// state [grid, state_numbers] unless kShared.
template <class T, bool kShared>
__global__ void __launch_bounds__(kGramThreads)
    graph_cut_gram(const T* __restrict__ matrices, const double* __restrict__ sums,
                   const GramGroup* __restrict__ groups, const int64_t* __restrict__ sizes, int64_t bins,
                   const double* __restrict__ tolerances, double lam, bool shifted, double* __restrict__ state,
                   int64_t state_numbers, int64_t* __restrict__ indices, double* __restrict__ gains) {
  constexpr int kWide = MatrixRow<T>::kWide;
  DYN_SMEM(double, shared_state);
  SHARED_ARRAY(double, by_warp, 32);
  SHARED_ARRAY(int, winners, 2);  // taken in turns
  const GramGroup group = groups[blockIdx.x];
  const int n = int(group.n), across = (n + kWide - 1) / kWide;
  double* const base = kShared ? shared_state : state + int64_t(blockIdx.x) * state_numbers;
  double* const taken = base + across * kWide;  // infinity: the row was picked
  const double tolerance = tolerances[blockIdx.x];
  const double unit = shifted ? 0.5 : 1.0, lam_unit = unit * lam, twice_unit = 2 * unit;

  for (int c = int(threadIdx.x); c < n; c += int(blockDim.x)) {
    base[banked<kWide>(c, across)] = sums[group.first + c];
    taken[banked<kWide>(c, across)] = 0;
  }
  if (threadIdx.x == 0) winners[0] = winners[1] = n;
  __syncthreads();

  int picked = -1, turn = 0;
  int64_t out = group.out, remaining = n;
  for (int64_t k = 0; k < bins; ++k) {
    const int64_t size = sizes[int64_t(blockIdx.x) * bins + k];
    for (int64_t t = 0; t < size; ++t, ++out, turn ^= 1) {
      const MatrixRow<T> row(picked < 0 ? nullptr : matrices + group.matrix + int64_t(picked) * n, n);
      double mine = -kInfinity;
      row.template each<true>([&](int c, double similarity) {
        const int place = banked<kWide>(c, across);
        double took = taken[place];
        if (took == kInfinity) return;
        if (c == picked) {
          taken[place] = kInfinity;
          return;
        }
        took = kept_finite(took + similarity);
        double from = base[place];
        if (t == 0) {
          base[place] = from -= took;
          took = 0;
        }
        taken[place] = took;
        mine = larger(mine, plain_gain(lam_unit, from, twice_unit, took));
      });
      leave_largest(mine, by_warp);
      __syncthreads();
      const double limit = tie_limit(largest_of_warps(by_warp), tolerance);

      int lowest = n;
      double gain = 0;
      if (mine >= limit)
        row.template each<false>([&](int c, double) {
          const int place = banked<kWide>(c, across);
          const double took = taken[place];
          if (took == kInfinity || c > lowest) return;
          const double now = plain_gain(lam_unit, base[place], twice_unit, took);
          if (now >= limit) lowest = c, gain = now;
        });
      if (lowest < n) atomicMin(&winners[turn], lowest);
      if (threadIdx.x == 0) winners[turn ^ 1] = n;
      __syncthreads();
      picked = winners[turn];
      if (lowest == picked) {
        indices[out] = group.first + picked;
        gains[out] = gain + (shifted ? 0.5 * lam * double(remaining) - double(t) : 0.0);
      }
    }
    remaining -= size;
  }
}

}  // namespace dq_fast
