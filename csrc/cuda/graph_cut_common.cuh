// What the graph-cut kernels share: gains, reductions over a block, and a matrix row dealt out to a block's threads.
//
// Gains are kept "plain" as in csrc/cpu/graph_cut.h: unit * (lam * base - 2 * taken), base the sum of the cosines with
// all rows that were left when the bin began, taken that with the rows picked for the bin; parts that are the same for
// every row are added to what is returned.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "portable.cuh"

namespace dq_fast {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLowest = std::numeric_limits<double>::lowest();  // of a row that is there; -infinity: it is not

// Spelt as one fma after one product, so that every place rounds it the same way: it is compared with itself.
__device__ inline double plain_gain(double lam_unit, double base, double twice_unit, double taken) {
  const double gain = fma(-twice_unit, taken, lam_unit * base);
  return gain > kLowest ? gain : kLowest;  // a NaN of numbers that overflow counts as the lowest
}

// A sum that overflows is still not the mark of a row that was picked.
__device__ inline double kept_finite(double taken) { return taken < kInfinity ? taken : -kLowest; }

// Gains of at least this count as the largest; never below what a row that is there can have.
__device__ inline double tie_limit(double best, double tolerance) {
  const double limit = best - tolerance;
  return limit >= kLowest ? limit : best;
}

__device__ inline double larger(double a, double b) { return a < b ? b : a; }

__device__ inline double largest_in_warp(double v) {
#pragma unroll
  for (int lanes = 16; lanes; lanes >>= 1) v = larger(v, __shfl_xor_sync(0xffffffffu, v, lanes));
  return v;
}

// The largest of what the block's warps left in by_warp [32]; every thread gets it.
__device__ inline double largest_of_warps(const double* by_warp) {
  const int lane = threadIdx.x % 32;
  return largest_in_warp(lane < int(blockDim.x / 32) ? by_warp[lane] : -kInfinity);
}

__device__ inline void leave_largest(double v, double* by_warp) {
  v = largest_in_warp(v);
  if (threadIdx.x % 32 == 0) by_warp[threadIdx.x / 32] = v;
}

__device__ inline void load16(const float* p, float (&v)[4]) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}

__device__ inline void load16(const double* p, double (&v)[2]) {
  const double2 x = *reinterpret_cast<const double2*>(p);
  v[0] = x.x, v[1] = x.y;
}

// A row of n numbers at any address, or of zeros (nullptr), in pieces of 16 bytes with what is loose at both ends. The
// same for all threads of the block; which thread gets which column depends on the address.
template <class T>
struct MatrixRow {
  static constexpr int kWide = 16 / sizeof(T);
  const T* numbers;
  int n, head, pieces;

  __device__ MatrixRow(const T* row, int length) : numbers(row), n(length) {
    head = int((16 - reinterpret_cast<uintptr_t>(row) % 16) % 16 / sizeof(T));
    if (head > n) head = n;
    pieces = (n - head) / kWide;
  }

  // body(column, number) for this thread's columns; without kLoad the numbers are 0. Two pieces are in flight.
  template <bool kLoad, class Body>
  __device__ __forceinline__ void each(Body body) const {
    const int step = int(blockDim.x);
    const bool load = kLoad && numbers != nullptr;
    for (int piece = int(threadIdx.x); piece < pieces; piece += 2 * step) {
      T a[kWide] = {}, b[kWide] = {};
      const bool second = piece + step < pieces;
      if (load) {
        load16(numbers + head + piece * kWide, a);
        if (second) load16(numbers + head + (piece + step) * kWide, b);
      }
#pragma unroll
      for (int k = 0; k < kWide; ++k) body(head + piece * kWide + k, double(a[k]));
      if (second) {
#pragma unroll
        for (int k = 0; k < kWide; ++k) body(head + (piece + step) * kWide + k, double(b[k]));
      }
    }
    const int loose = int(threadIdx.x);
    if (loose < n - pieces * kWide) {
      const int column = loose < head ? loose : loose + pieces * kWide;
      body(column, load ? double(numbers[column]) : 0.0);
    }
  }
};

// Where a column's number stands in shared arrays: lanes with 16-byte pieces of columns then use banks side by side.
template <int kWide>
__device__ inline int banked(int column, int pieces) {
  return int(unsigned(column) % kWide) * pieces + int(unsigned(column) / kWide);
}

}  // namespace dq_fast
