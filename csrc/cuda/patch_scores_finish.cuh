// The last step of the patch scores: an image's maps added in order, relu, and R_h map R_w^T, by a block.
//
// Mapping: a thread a position of the map, then one of R_h's height x cols half-way sums, then one of the scores. R is
// computed, not read: one number of it is 16 hat functions.
// Bytes: where kernels of their own wrote the maps, 8 * maps * positions an image, 2 % of what those read.
#pragma once
#include "patch_scores_terms.cuh"

namespace dq_fast {

constexpr int kPatchCellPixels = 16;  // the paper's patch: scores are means over 16 x 16 pixels of the upsampled map

// Share of a map's row (of `size`) in the mean over a cell (of `cells`): bilinear, align_corners = false.
template <class Index>
__device__ inline double share_of(Index cell, Index cells, Index at, Index size) {
  const double scale = double(size) / (double(cells) * kPatchCellPixels);
  double share = 0;
#pragma unroll 4
  for (int pixel = 0; pixel < kPatchCellPixels; ++pixel) {
    double place = (double(cell) * kPatchCellPixels + pixel + 0.5) * scale - 0.5;
    place = place < 0 ? 0 : place;
    const Index whole = Index(place), low = whole < size - 1 ? whole : size - 1;
    const Index high = low + 1 < size - 1 ? low + 1 : size - 1;
    const double beyond = place - double(low) < 1 ? place - double(low) : 1;
    if (low == at) share += 1 - beyond;
    if (high == at) share += beyond;
  }
  return share / kPatchCellPixels;
}

// shares [rows * height + cols * width]: R_h [rows, height] and R_w [cols, width], by the whole block.
template <class Index>
__device__ inline void fill_shares(const PatchJob& job, double* shares) {
  const Index rows = Index(job.rows), cols = Index(job.cols), height = Index(job.height), width = Index(job.width);
  for (Index i = threadIdx.x; i < rows * height; i += blockDim.x)
    shares[i] = share_of<Index>(i / height, rows, i % height, height);
  for (Index i = threadIdx.x; i < cols * width; i += blockDim.x)
    shares[rows * height + i] = share_of<Index>(i / width, cols, i % width, width);
}

// scores [rows, cols] of an image from its maps [count, positions], of which the first is overwritten, and shares
// [plan.shares] as fill_shares left them, with space for [height, cols] behind. By the whole block, which has written
// maps and shares before.
template <class Index>
__device__ inline void finish_image(const PatchJob& job, double* maps, int count, double* shares, float* scores) {
  const Index rows = Index(job.rows), cols = Index(job.cols), height = Index(job.height), width = Index(job.width);
  const double *share_rows = shares, *share_cols = shares + rows * height;
  double* half_way = shares + rows * height + cols * width;
  const Index positions = height * width;
  __syncthreads();
  for (Index p = threadIdx.x; p < positions; p += blockDim.x) {
    double total = maps[p];
    for (int k = 1; k < count; ++k) total += maps[k * positions + p];
    maps[p] = total < 0 ? 0 : total;
  }
  __syncthreads();
  for (Index i = threadIdx.x; i < height * cols; i += blockDim.x) {
    const double *line = maps + i / cols * width, *share = share_cols + i % cols * width;
    double total = 0;
    for (Index j = 0; j < width; ++j) total += line[j] * share[j];
    half_way[i] = total;
  }
  __syncthreads();
  for (Index i = threadIdx.x; i < rows * cols; i += blockDim.x) {
    const double *share = share_rows + i / cols * height, *column = half_way + i % cols;
    double total = 0;
    for (Index j = 0; j < height; ++j) total += share[j] * column[j * cols];
    scores[i] = float(total);
  }
}

// A block an image.
__global__ void __launch_bounds__(kPatchFinishThreads) patch_scores_finish(const PatchJob job) {
  DYN_SMEM(double, shared);
  const int64_t image = blockIdx.x;
  double* shares = job.plan.shares_in_workspace ? job.shares + image * job.plan.shares : shared;
  fill_shares<int64_t>(job, shares);
  double* maps = job.maps + image * job.plan.maps * job.height * job.width;
  finish_image<int64_t>(job, maps, int(job.plan.maps), shares, job.scores + image * job.rows * job.cols);
}

}  // namespace dq_fast
