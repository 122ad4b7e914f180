// out_i = sum_j s(i, j) over the rows j of i's group: <x_i, t> with t = sum_j x_j, or n/2 + <x_i, t>/2 if shifted; x_i
// the normalised rows of one factor, or with a mean m the centred rows (x_i - m) / ||x_i - m||.
//
// Two reads of the rows, three if centred. add_rows: a block takes a part, a run of rows of one group. It copies tiles
// of rows to shared memory 128 bits at a time; a team of threads a row sums its squares; then a thread a column adds
// row / norm, from shared memory again. add_parts: the parts of each group in order, a lane a column. reduce_rows:
// tiles as before, a team a row: inner products with t, which the first-level cache keeps. No atomics, and the order of
// all sums depends on sizes alone: the same bits every time, on every GPU. float32, float16 or bfloat16 in, products
// and sums float64, as on the CPU. Zero rows get 1 / norm = 0; one that is not finite gets NaN.
//
// Bytes: 2 * element * n d, and 16 d for each part of at least 32 rows, which the second-level cache takes.
// Floor: 2 * 4 n d; 200,000 x 512 float32: 0.82 GB, 0.27 ms at 3 TB/s. float64: 2 multiply-adds and 2 conversions a
// number in the first pass, 1 and 1 in the second: below the bytes' time for float32 where float64 runs at half the
// rate of float32 (H100, A100); a number of two bytes is bound by conversions (16 a clock and multiprocessor): 0.06 ms
// for a pass of this case that moves its bytes in 0.07. Where float64 runs at 1/64 (consumer GPUs), they bind: 2 a
// clock and multiprocessor, 6 operations a number in all: 0.96 ms for this case on 128 multiprocessors at 2.5 GHz,
// whose memory takes 0.8 ms at 1 TB/s. Predicted (H100): 0.30 ms for 200,000 x 512 float32; 0.16 ms float16.
#pragma once
#include "rows.cuh"

namespace dq_fast {

// Column sums of rows: part [parts * slices, d]. Without a mean: inverse [n] = 1 / ||x_i||. With mean [groups, d]:
// inverse is read, scale [n] = 1 / ||x_i - m||, and the rows that are added are centred. kColumns * kRowThreads >= d.
template <class T, int kColumns, bool kCenter>
__global__ void __launch_bounds__(kRowThreads, add_rows_blocks(kColumns))
    add_rows(const T* __restrict__ x, int64_t n, int64_t d, const int64_t* __restrict__ table, int64_t rows_per_part,
             int tile_rows, int team, int slices, const double* __restrict__ mean, double* inverse, double* scale,
             double* __restrict__ part) {
  DYN_SMEM(unsigned char, memory);
  SHARED_ARRAY(double, sums, kTileRows);
  SHARED_ARRAY(double, factor, kTileRows);  // of each row: what makes it norm 1
  SHARED_ARRAY(double, before, kTileRows);  // with a mean: what made the row norm 1 before the mean was taken away
  const RowPart mine = row_part(table, blockIdx.x, n, rows_per_part);
  const double* m = kCenter ? mean + mine.group * d : nullptr;
  const int thread = threadIdx.x, width = kRowThreads / slices, column = thread % width, slice = thread / width;
  const int wide = int(d);
  double sum[kColumns];
#pragma unroll
  for (int k = 0; k < kColumns; ++k) sum[k] = 0;
  for (int64_t first = mine.begin; first < mine.end; first += tile_rows) {
    const int rows = int(mine.end - first < tile_rows ? mine.end - first : tile_rows);
    __syncthreads();  // the tile before has been added
    const T* tile = load_tile(x + first * d, rows * wide, memory);
    if (kCenter && thread < rows) before[thread] = inverse[first + thread];
    __syncthreads();
    sum_rows(rows, d, team, sums, [&](int r, int64_t c) {
      double v = to_double(tile[r * wide + int(c)]);
      if (kCenter) v = v * before[r] - m[c];
      return v * v;
    });
    __syncthreads();
    if (thread < rows) {
      const double square = row_sum(sums, thread, team);
      factor[thread] = kCenter ? centred_inverse_of(square) : inverse_of(square);
      (kCenter ? scale : inverse)[first + thread] = factor[thread];
    }
    __syncthreads();
    for (int r = slice; r < rows; r += slices) {
      const T* row = tile + r * wide;
      const double f = factor[r];
#pragma unroll
      for (int k = 0; k < kColumns; ++k) {
        const int c = column + k * kRowThreads;
        if (c >= wide) continue;
        const double v = to_double(row[c]);
        sum[k] += kCenter ? (v * before[r] - m[c]) * f : v * f;
      }
    }
  }
  double* out = part + (int64_t(blockIdx.x) * slices + slice) * d;
#pragma unroll
  for (int k = 0; k < kColumns; ++k) {
    const int c = column + k * kRowThreads;
    if (c < wide) out[c] = sum[k];
  }
}

// total [groups, d]: the parts of each group in order, each warp's share first; their average over the rows if asked
// for. first [groups + 1]: first part of each group; null with table: one group of n rows.
template <int kWarps>
__global__ void __launch_bounds__(32 * kWarps)
    add_parts(const double* __restrict__ part, const int64_t* __restrict__ table, const int64_t* __restrict__ first,
              int64_t parts, int slices, int64_t n, int64_t d, bool average, double* __restrict__ total) {
  SHARED_ARRAY(double, sums, 32 * kWarps);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t column_blocks = (d + kAddColumns - 1) / kAddColumns, g = blockIdx.x / column_blocks;
  const int64_t c = blockIdx.x % column_blocks * kAddColumns + lane;
  const int64_t first_part = first ? first[g] : 0, last_part = first ? first[g + 1] : parts;
  const int64_t begin = first_part * slices, end = last_part * slices, share = (end - begin + kWarps - 1) / kWarps;
  const int64_t from = begin + warp * share, to = from + share < end ? from + share : end;
  double sum = 0;
  if (c < d) {
#pragma unroll 8
    for (int64_t p = from; p < to; ++p) sum += part[p * d + c];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp != 0 || c >= d) return;
  for (int k = 1; k < kWarps; ++k) sum += sums[k * 32 + lane];
  if (average && first_part < last_part) sum /= double(table ? table[first_part * kPartFields + 3] : n);
  total[g * d + c] = sum;
}

enum class RowReduction { kDot, kInverse, kScale };

// A number a row, out [n]: kDot: <row, w> with w [groups, d] (shifted: half of it and half the group's rows);
// kInverse: 1 / ||x_i||; kScale: 1 / ||x_i - mean||. kTile: from tiles in shared memory; else, for rows too wide for
// that, from where they lie, a block a row. kCenter: with mean [groups, d] and, for kDot, scale [n].
template <class T, RowReduction kWhat, bool kCenter, bool kTile>
__global__ void __launch_bounds__(kRowThreads, kReduceBlocks)
    reduce_rows(const T* __restrict__ x, int64_t n, int64_t d, const int64_t* __restrict__ table, int64_t rows_per_part,
                int tile_rows, int team, const double* __restrict__ inverse, const double* __restrict__ mean,
                const double* __restrict__ scale, const double* __restrict__ w, bool shifted,
                double* __restrict__ out) {
  DYN_SMEM(unsigned char, memory);
  SHARED_ARRAY(double, sums, kTileRows);
  SHARED_ARRAY(double, before, kTileRows);
  const RowPart mine = row_part(table, blockIdx.x, n, rows_per_part);
  const double* m = kCenter ? mean + mine.group * d : nullptr;
  const double* with = kWhat == RowReduction::kDot ? w + mine.group * d : nullptr;
  const int thread = threadIdx.x;
  for (int64_t first = mine.begin; first < mine.end; first += tile_rows) {
    const int rows = int(mine.end - first < tile_rows ? mine.end - first : tile_rows);
    __syncthreads();  // the sums of the tile before have been read
    const T* tile = kTile ? load_tile(x + first * d, rows * int(d), memory) : x + first * d;
    if (kCenter && thread < rows) before[thread] = inverse[first + thread];
    __syncthreads();
    sum_rows(rows, d, team, sums, [&](int r, int64_t c) {
      double v = to_double(tile[r * d + c]);
      if (kCenter) v = v * before[r] - m[c];
      return kWhat == RowReduction::kDot ? v * with[c] : v * v;
    });
    __syncthreads();
    if (thread >= rows) continue;
    double value = row_sum(sums, thread, team);
    if (kWhat == RowReduction::kInverse) value = inverse_of(value);
    if (kWhat == RowReduction::kScale) value = centred_inverse_of(value);
    if (kWhat == RowReduction::kDot) {
      value *= kCenter ? scale[first + thread] : inverse[first + thread];
      if (shifted) value = 0.5 * double(mine.rows) + 0.5 * value;
    }
    out[first + thread] = value;
  }
}

// Column sums [parts, d] of rows too wide for add_rows, whose norms are known: a thread a column of a part.
template <class T, bool kCenter>
__global__ void __launch_bounds__(kRowThreads)
    add_wide_rows(const T* __restrict__ x, int64_t n, int64_t d, const int64_t* __restrict__ table,
                  int64_t rows_per_part, const double* __restrict__ inverse, const double* __restrict__ mean,
                  const double* __restrict__ scale, double* __restrict__ part) {
  const int64_t column_blocks = (d + kRowThreads - 1) / kRowThreads, p = blockIdx.x / column_blocks;
  const int64_t c = blockIdx.x % column_blocks * kRowThreads + threadIdx.x;
  if (c >= d) return;
  const RowPart mine = row_part(table, p, n, rows_per_part);
  const double m = kCenter ? mean[mine.group * d + c] : 0;
  double sum = 0;
#pragma unroll 8
  for (int64_t i = mine.begin; i < mine.end; ++i) {
    const double v = to_double(x[i * d + c]) * inverse[i];
    sum += kCenter ? (v - m) * scale[i] : v;
  }
  part[p * d + c] = sum;
}

}  // namespace dq_fast
