// Two factors, phi_i = b_i (x) h_i: what surrounds the matrix products of torch, or where the narrow factor has kNarrow
// columns or fewer stands in their place (add_pairs, narrow_dots: h is read as it came, once). gather_rows is the
// prologue: rows, normalised, in float64. pair_dots is the epilogue of y = b @ w: <phi_i, w> = <y_i, h_i>, h read as it
// came. centred_norms: ||b_i (x) h_i - mean||, number by number, so that tight groups keep their digits.
//
// gather_rows: a warp a row, lanes in columns; element + 8 bytes a number. pair_dots: a warp a row; 8 + element bytes a
// number of h. centred_norms: a block for kPairRows rows, threads in columns, so that each number of the mean is read
// once for all of them; 2 d1 d2 multiply-adds a row, kPairRows * 16 of them for each read of 8 bytes from the cache.
// Floor: the 4 n d1 d2 operations of the two products; a chunk of rows (dq_fast/ops/cuda/rows.py) stays in the
// second-level cache between them. In their place: element bytes a number of h, and d1 multiply-adds. Predicted (H100),
// 50,000 rows of 10 and 513 float32: 35 us for each of norms, sum and inner products, 103 MB at 3 TB/s.
#pragma once
#include "rows.cuh"

namespace dq_fast {

constexpr int kPairRows = 4;  // that share a read of the mean: 4 sums and 4 numbers of h in registers

// out [count, d]: rows list[k], or first + k without a list, times inverse, less mean [d] and times scale where given;
// inverse, scale [n].
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    gather_rows(const T* __restrict__ x, int64_t d, const int64_t* __restrict__ list, int64_t first, int64_t count,
                const double* __restrict__ inverse, const double* __restrict__ mean, const double* __restrict__ scale,
                double* __restrict__ out) {
  const int lane = threadIdx.x % 32;
  const int64_t k = int64_t(blockIdx.x) * (kRowThreads / 32) + threadIdx.x / 32;
  if (k >= count) return;
  const int64_t i = list ? list[k] : first + k;
  const T* row = x + i * d;
  const double by = inverse[i], then = scale ? scale[i] : 1;
#pragma unroll 4
  for (int64_t c = lane; c < d; c += 32) {
    const double v = to_double(row[c]) * by;
    out[k * d + c] = mean ? (v - mean[c]) * then : v * then;
  }
}

// out[k] = <y_k, h> with y [count, d] and h row first + k of x, normalised. With a mean [d] of the factor:
// scale * (<y_k, h> + <v, h - mean> - constant), v [d], one constant.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    pair_dots(const T* __restrict__ x, int64_t d, int64_t first, int64_t count, const double* __restrict__ y,
              const double* __restrict__ inverse, const double* __restrict__ mean, const double* __restrict__ v,
              const double* __restrict__ constant, const double* __restrict__ scale, double* __restrict__ out) {
  const int lane = threadIdx.x % 32;
  const int64_t k = int64_t(blockIdx.x) * (kRowThreads / 32) + threadIdx.x / 32;
  if (k >= count) return;  // the whole warp
  const int64_t i = first + k;
  const T* row = x + i * d;
  const double by = inverse[i];
  double sum = 0;
#pragma unroll 4
  for (int64_t c = lane; c < d; c += 32) {
    const double h = to_double(row[c]) * by;
    sum += y[k * d + c] * h;
    if (mean) sum += (h - mean[c]) * v[c];
  }
  sum = sum_lanes(sum, 32);
  if (lane == 0) out[k] = mean ? (sum - *constant) * scale[i] : sum;
}

// The same with y = b @ w formed on the way, b [count, d1] with d1 <= kNarrow, w [d1, d2]: one read of h and none of y.
// A warp for kPairRows rows, which share its reads of w.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    narrow_dots(const T* __restrict__ x, int d1, int64_t d2, int64_t count, const double* __restrict__ b,
                const double* __restrict__ w, const double* __restrict__ inverse, const double* __restrict__ mean,
                const double* __restrict__ v, const double* __restrict__ constant, const double* __restrict__ scale,
                double* __restrict__ out) {
  SHARED_ARRAY(double, memory, kRowThreads / 32 * kPairRows * kNarrow);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  double* mine = memory + warp * kPairRows * kNarrow;
  const int64_t from = (int64_t(blockIdx.x) * (kRowThreads / 32) + warp) * kPairRows;
  if (from >= count) return;  // the whole warp
  const int rows = int(count - from < kPairRows ? count - from : kPairRows);
  for (int e = lane; e < kPairRows * kNarrow; e += 32) {
    const int r = e / kNarrow, k = e % kNarrow;
    mine[e] = r < rows && k < d1 ? b[(from + r) * d1 + k] : 0;
  }
  __syncwarp();
  double sum[kPairRows], by[kPairRows];
#pragma unroll
  for (int r = 0; r < kPairRows; ++r) {
    sum[r] = 0;
    by[r] = r < rows ? inverse[from + r] : 0;
  }
  for (int64_t c = lane; c < d2; c += 32) {
    double y[kPairRows], h[kPairRows];
#pragma unroll
    for (int r = 0; r < kPairRows; ++r) {
      y[r] = 0;
      h[r] = r < rows ? to_double(x[(from + r) * d2 + c]) * by[r] : 0;
    }
#pragma unroll 4
    for (int k = 0; k < d1; ++k) {
      const double with = w[k * d2 + c];
#pragma unroll
      for (int r = 0; r < kPairRows; ++r) y[r] += mine[r * kNarrow + k] * with;
    }
#pragma unroll
    for (int r = 0; r < kPairRows; ++r) sum[r] += y[r] * h[r];
    if (!mean) continue;
#pragma unroll
    for (int r = 0; r < kPairRows; ++r) sum[r] += (h[r] - mean[c]) * v[c];
  }
#pragma unroll
  for (int r = 0; r < kPairRows; ++r) {
    const double all = sum_lanes(sum[r], 32);
    if (lane == 0 && r < rows) out[from + r] = mean ? (all - *constant) * scale[from + r] : all;
  }
}

// part [parts, d1, d2]: sum of b_i (x) (h_i - mean) over rows_per_part rows, b [n, d1] with d1 <= kNarrow, h row i of x
// normalised, mean [d2] or none. A thread a column of h, whose d1 sums it keeps; the order is that of rows.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    add_pairs(const T* __restrict__ x, int d1, int64_t d2, int64_t n, int64_t rows_per_part,
              const double* __restrict__ b, const double* __restrict__ inverse, const double* __restrict__ mean,
              double* __restrict__ part) {
  SHARED_ARRAY(double, tile, kPairTile* kNarrow);
  SHARED_ARRAY(double, by, kPairTile);
  const int64_t column_blocks = (d2 + kRowThreads - 1) / kRowThreads, p = blockIdx.x / column_blocks;
  const int64_t c = blockIdx.x % column_blocks * kRowThreads + threadIdx.x;
  const int64_t begin = p * rows_per_part, end = begin + rows_per_part < n ? begin + rows_per_part : n;
  const double m = mean && c < d2 ? mean[c] : 0;
  double sum[kNarrow];
#pragma unroll
  for (int k = 0; k < kNarrow; ++k) sum[k] = 0;
  for (int64_t first = begin; first < end; first += kPairTile) {
    const int rows = int(end - first < kPairTile ? end - first : kPairTile);
    __syncthreads();  // the tile before has been added
    for (int e = threadIdx.x; e < rows * d1; e += kRowThreads) tile[e / d1 * kNarrow + e % d1] = b[first * d1 + e];
    if (int(threadIdx.x) < rows) by[threadIdx.x] = inverse[first + threadIdx.x];
    __syncthreads();
    if (c >= d2) continue;
#pragma unroll 4
    for (int r = 0; r < rows; ++r) {
      const double h = to_double(x[(first + r) * d2 + c]) * by[r] - m;
#pragma unroll
      for (int k = 0; k < kNarrow; ++k)
        if (k < d1) sum[k] += tile[r * kNarrow + k] * h;
    }
  }
  if (c >= d2) return;
#pragma unroll
  for (int k = 0; k < kNarrow; ++k)
    if (k < d1) part[(p * d1 + k) * d2 + c] = sum[k];
}

// scale[i] = 1 / ||b_i (x) h_i - mean||, 0 where the row is the mean: b [count, d1] normalised, h row first + k of x
// [n, d2] to be normalised by inverse [n], mean [d1, d2].
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    centred_norms(const T* __restrict__ x, int64_t d1, int64_t d2, int64_t first, int64_t count,
                  const double* __restrict__ b, const double* __restrict__ inverse, const double* __restrict__ mean,
                  double* __restrict__ scale) {
  constexpr int kWarps = kRowThreads / 32;
  SHARED_ARRAY(double, sums, kPairRows* kWarps);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t from = int64_t(blockIdx.x) * kPairRows;
  double sum[kPairRows];
#pragma unroll
  for (int r = 0; r < kPairRows; ++r) sum[r] = 0;
  for (int64_t c = threadIdx.x; c < d2; c += kRowThreads) {
    double h[kPairRows];
#pragma unroll
    for (int r = 0; r < kPairRows; ++r) {
      const int64_t i = first + from + r;
      h[r] = from + r < count ? to_double(x[i * d2 + c]) * inverse[i] : 0;
    }
    for (int64_t k = 0; k < d1; ++k) {
      const double m = mean[k * d2 + c];
#pragma unroll
      for (int r = 0; r < kPairRows; ++r) {
        if (from + r >= count) continue;
        const double rest = b[(from + r) * d1 + k] * h[r] - m;
        sum[r] += rest * rest;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kPairRows; ++r) {
    const double all = sum_lanes(sum[r], 32);
    if (lane == 0) sums[r * kWarps + warp] = all;
  }
  __syncthreads();
  const int r = threadIdx.x;
  if (r >= kPairRows || from + r >= count) return;
  double square = sums[r * kWarps];
  for (int k = 1; k < kWarps; ++k) square += sums[r * kWarps + k];
  scale[first + from + r] = centred_inverse_of(square);
}

}  // namespace dq_fast
