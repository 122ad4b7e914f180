// What the kernels over rows share: conversions, 1 / norm, and a tile of rows in shared memory.
#pragma once
#include <cstdint>

#include "portable.cuh"
#include "row_sums_launch.h"

namespace dq_fast {

// A row this near to its group's mean is the mean, but for rounding. dq_fast/ops/embedding.py: CENTRE_FLOOR
constexpr double kRowCentreFloor = 1e-12;

__device__ inline double to_double(float v) { return double(v); }
__device__ inline double to_double(__half v) { return double(__half2float(v)); }
__device__ inline double to_double(__nv_bfloat16 v) { return double(__bfloat162float(v)); }

// 1 / norm from the sum of a row's squares, 0 for a zero row; NaN for a row with a NaN or an infinity. The squares of
// float32 numbers neither overflow nor vanish in float64.
__device__ inline double inverse_of(double square) { return square == 0 ? 0 : 1 / sqrt(square) + (square - square); }

// The same of a centred row: a row equal to the mean counts as a zero row.
__device__ inline double centred_inverse_of(double square) {
  const double norm = sqrt(square);
  return norm > kRowCentreFloor ? 1 / norm : 0;
}

// The sum over the `lanes` (a power of two) neighbours that a lane belongs to; all lanes of the warp have to come.
__device__ inline double sum_lanes(double v, int lanes) {
#pragma unroll 1
  for (int with = lanes / 2; with; with /= 2) v += __shfl_xor_sync(0xffffffffu, v, with);
  return v;
}

// A run of rows of one group.
struct RowPart {
  int64_t begin, end, group, rows;  // rows of the whole group
};

// Line p of a table of parts (row_sums_launch.h); without a table there is one group of n rows.
__device__ inline RowPart row_part(const int64_t* table, int64_t p, int64_t n, int64_t rows_per_part) {
  if (table) {
    const int64_t* line = table + p * kPartFields;
    return {line[0], line[1], line[2], line[3]};
  }
  const int64_t begin = p * rows_per_part;
  return {begin, begin + rows_per_part < n ? begin + rows_per_part : n, 0, n};
}

// Copies `count` numbers to shared memory, where they lie as in global memory modulo 16 bytes: 128 bits at a time but
// for the first and the last few, whatever the width of a row. Returns where they begin. No barrier.
template <class T>
__device__ const T* load_tile(const T* __restrict__ from, int count, unsigned char* shared) {
  constexpr int kWide = 16 / sizeof(T), kAhead = 4;  // loads of a thread on their way: 64 bytes
  const int thread = threadIdx.x, shift = int(reinterpret_cast<uintptr_t>(from) % 16 / sizeof(T));
  const uint4* wide_from = reinterpret_cast<const uint4*>(from - shift);
  uint4* wide_to = reinterpret_cast<uint4*>(shared);
  T* to = reinterpret_cast<T*>(shared) + shift;
  const int begin = shift ? 1 : 0, end = (shift + count) / kWide;
#pragma unroll 1
  for (int j = begin + thread; j < end; j += kAhead * kRowThreads) {
    uint4 v[kAhead] = {};
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (j + k * kRowThreads < end) v[k] = wide_from[j + k * kRowThreads];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (j + k * kRowThreads < end) wide_to[j + k * kRowThreads] = v[k];
  }
  const int head = shift == 0 ? 0 : kWide - shift < count ? kWide - shift : count;
  const int tail = end * kWide - shift > head ? end * kWide - shift : head;  // where what is left begins
  if (thread < head) to[thread] = from[thread];
  if (tail + thread < count) to[tail + thread] = from[tail + thread];
  return to;
}

// sums[r * (team / 32) + k] = sum over the columns c of row r of term(r, c): the k-th warp's share where a team is
// several warps, all of it in sums[r] where it is one or less. Every thread of the block has to come; no barrier.
template <class Term>
__device__ inline void sum_rows(int rows, int64_t d, int team, double* sums, Term term) {
  const int lane = threadIdx.x % team, teams = kRowThreads / team, warps = team > 32 ? team / 32 : 1;
  for (int first = 0; first < rows; first += teams) {
    const int r = first + int(threadIdx.x) / team;
    double sum = 0;
    if (r < rows) {
#pragma unroll 4
      for (int64_t c = lane; c < d; c += team) sum += term(r, c);
    }
    sum = sum_lanes(sum, team > 32 ? 32 : team);
    if (r < rows && lane % 32 == 0) sums[r * warps + lane / 32] = sum;
  }
}

// What sum_rows left of row r, added in order.
__device__ inline double row_sum(const double* sums, int r, int team) {
  const int warps = team > 32 ? team / 32 : 1;
  double sum = sums[r * warps];
#pragma unroll 1
  for (int k = 1; k < warps; ++k) sum += sums[r * warps + k];
  return sum;
}

}  // namespace dq_fast
