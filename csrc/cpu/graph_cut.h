// What the graph-cut methods share. Gains are kept "plain": for shifted similarities s = 1/2 + c/2 the parts that are
// the same for every row (lam * |R| / 2 and one for each pick) are added only to what is returned, so
//   plain gain(x) = unit * (lam * sum_{j in R} c(j, x) - 2 * sum_{b in B} c(b, x)),  unit = 1/2 if shifted, else 1.
#pragma once
#include <cstdint>

#include "../kernels.h"
#include "monitor.h"
#include "rows.h"

namespace dq_fast {

// Of the largest gain there can be: gains nearer than this are equal and the lowest row wins, so that the rounding of
// different orders of summation never decides a tie. dq_fast/ops/graph_cut_torch.py: TIE_TOLERANCE
constexpr double kTieTolerance = 1e-12;

inline double tie_tolerance(int64_t n, double lam, double largest = 1.0) {
  return kTieTolerance * double(n > 1 ? n : 1) * (lam + 2) * largest;
}

// One group's share of the work.
struct Job {
  int64_t begin;         // number of the group's first row
  const int64_t* sizes;  // [bins]
  int64_t bins;
  double lam;
  bool shifted;
  Method method;
  int threads;       // for this group alone
  int64_t* indices;  // out, in pick order
  double* gains;
  Monitor* monitor;
  Trace* trace;  // of this group alone

  int64_t total() const {
    int64_t sum = 0;
    for (int64_t k = 0; k < bins; ++k) sum += sizes[k];
    return sum;
  }
  double unit() const { return shifted ? 0.5 : 1.0; }
  double constant(int64_t remaining, int64_t picked) const {
    return shifted ? 0.5 * lam * double(remaining) - double(picked) : 0.0;
  }
};

enum class Way {
  kNaive,   // float64 similarities of each pick with all rows
  kGram64,  // float64 similarities of all pairs, formed first
  kStored,  // the same in float32, decided in float64
  kFormed,  // float32 similarities of each pick with the rows that are left, decided in float64
  kLazy,    // bounds
};

// Each returns early when the monitor says stop.
void graph_cut_naive(const Rows& rows, const Job& job);
void graph_cut_gram64(const Rows& rows, const Job& job);
void graph_cut_lazy(const Rows& rows, const Job& job, Way way);  // kStored, kFormed or kLazy to begin with

}  // namespace dq_fast
