// Patch scores of maps of more than 256 positions: the maps of an image's parts. Formula: patch_scores.cuh.
//
// Mapping: a block takes every parts-th channel (channels last: every parts-th 32 of them) of an image, one after the
// other: its activations' sum, its gradients' terms, then weight times activation onto the block's map in shared memory
// (in the workspace where that is too small). Channels first: all threads read along the channel, 128 bits each where
// it is aligned to them. Channels last: a lane a channel, a warp every 8th position, 128 bytes (halves: 64) a read.
// parts depends on the number of channels only. patch_scores_finish adds the parts' maps.
//
// Bytes: activations and gradients once from memory; the activations a second time from the first-level cache, which
// has just seen them (a channel of 56 x 56 float32: 12.5 KB; of 224 x 224: 200 KB, then from the second level). Floor:
// those bytes over the memory's bandwidth: 77 MB, 26 us at 3 TB/s, for [128, 24, 56, 56] float32. Prediction (nothing
// here was timed on a GPU): two barriers and three dependent reads a channel, covered by the other blocks of a
// multiprocessor: about 70 % of the bandwidth.
#pragma once
#include "patch_scores_terms.cuh"

namespace dq_fast {

// 16 bytes of numbers, read by one instruction.
template <class T>
struct alignas(16) PatchPack {
  static constexpr int kCount = 16 / sizeof(T);
  T x[kCount];
};

// each(x[i]) for all of x [n], and some zeros, by a block's threads; which of them gets what, and in which order, does
// not depend on where x lies.
template <class T, class Each>
__device__ __forceinline__ void for_each_number(const T* x, int64_t n, Each each) {
  using Pack = PatchPack<T>;
  const Pack* wide = reinterpret_cast<const Pack*>(x);
  const bool aligned = (reinterpret_cast<uintptr_t>(x) & 15) == 0;
  const int64_t packs = aligned ? n / Pack::kCount : 0;
  int64_t v = threadIdx.x;
  constexpr int kUnrolled = Pack::kCount < 8 ? 2 : 1;  // eight numbers are enough on their way
#pragma unroll kUnrolled
  for (; v < packs; v += kPatchLargeThreads) {
    const Pack some = wide[v];
#pragma unroll
    for (int j = 0; j < Pack::kCount; ++j) each(some.x[j]);
  }
  for (; v * Pack::kCount < n; v += kPatchLargeThreads) {
#pragma unroll
    for (int j = 0; j < Pack::kCount; ++j) {
      const int64_t i = v * Pack::kCount + j;
      each(i < n ? x[i] : T(0.0f));
    }
  }
}

// Sums over a block, in a fixed order. Two sums follow each other with one barrier each: they use different cells.
struct BlockSum {
  double (*cells)[kPatchLargeThreads / 32];  // [2][warps], shared
  int turn = 0;

  __device__ __forceinline__ double operator()(double v) {
    v = lane_sum<1, 32>(v);
    turn ^= 1;
    if (threadIdx.x % 32 == 0) cells[turn][threadIdx.x / 32] = v;
    __syncthreads();
    double total = 0;
    for (double cell : cells[turn]) total += cell;
    return total;
  }
};

template <int kVariant, class T>
__device__ __forceinline__ double sum_of_all_terms(const T* g, int64_t positions, double sum) {
  double weight = 0;
  for_each_number(g, positions, [&](T x) { add_term<kVariant>(real(x), sum, weight); });
  return weight;
}

// Adds channels part, part + parts, ... to the map, channels first.
template <class T>
__device__ __forceinline__ void add_large_first(const PatchJob& job, const char* a_image, const char* g_image,
                                                int64_t part, int64_t positions, double* map) {
  SHARED_ARRAY(double, cells, 2 * (kPatchLargeThreads / 32));
  BlockSum block_sum{reinterpret_cast<double (*)[kPatchLargeThreads / 32]>(cells)};
  const bool constant = job.constant_dtype != kPatchNotConstant;
  for (int64_t k = part; k < job.channels; k += job.plan.parts) {
    const T* a = reinterpret_cast<const T*>(a_image) + k * positions;
    const T* g = reinterpret_cast<const T*>(g_image) + k * positions;
    double sum = 0;
    if (job.variant != kPatchTorchcam) for_each_number(a, positions, [&](T x) { sum += number(x); });
    sum = block_sum(sum);
    double weight;
    if (constant) {
      weight = constant_weight(job.variant, number_at(g_image, job.constant_dtype, k), sum, double(positions));
    } else {
      if (job.variant == kPatchPaper)
        weight = sum_of_all_terms<kPatchPaper>(g, positions, sum);
      else if (job.variant == kPatchTorchcam)
        weight = sum_of_all_terms<kPatchTorchcam>(g, positions, sum);
      else
        weight = sum_of_all_terms<kPatchGradCam>(g, positions, sum);
      weight = block_sum(weight);
    }
    // From the cache, so not 128 bits a thread: that would be four threads a bank of the map.
#pragma unroll 4
    for (int64_t p = threadIdx.x; p < positions; p += kPatchLargeThreads) map[p] += weight * number(a[p]);
  }
}

// Sums over a channel's positions: v of its lane in every warp. cells [2][warps][32], shared.
struct ChannelSum {
  double (*cells)[kPatchLargeThreads / 32][32];
  int turn = 0;

  __device__ __forceinline__ double operator()(double v) {
    const int lane = threadIdx.x % 32;
    turn ^= 1;
    cells[turn][threadIdx.x / 32][lane] = v;
    __syncthreads();
    double total = 0;
    for (const auto& warp : cells[turn]) total += warp[lane];
    return total;
  }
};

// g: this lane's channel
template <int kVariant, class T>
__device__ __forceinline__ double sum_of_terms_last(const T* g, int64_t channels, int64_t positions, double sum) {
  constexpr int kUnrolled = sizeof(T) < 8 ? 4 : 2;
  double weight = 0;
#pragma unroll kUnrolled
  for (int64_t p = threadIdx.x / 32; p < positions; p += kPatchLargeThreads / 32)
    add_term<kVariant>(real(g[p * channels]), sum, weight);
  return weight;
}

// The same, channels last. A warp's positions are its own throughout.
template <class T>
__device__ __forceinline__ void add_large_last(const PatchJob& job, const char* a_image, const char* g_image,
                                               int64_t part, int64_t positions, double* map) {
  constexpr int kWarps = kPatchLargeThreads / 32, kDealt = 8;
  SHARED_ARRAY(double, cells, 2 * kWarps * 32);
  ChannelSum channel_sum{reinterpret_cast<double (*)[kWarps][32]>(cells)};
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t channels = job.channels;
  const bool constant = job.constant_dtype != kPatchNotConstant;
  for (int64_t first = 32 * part; first < channels; first += 32 * job.plan.parts) {
    const bool here = first + lane < channels;
    const int64_t k = here ? first + lane : first;
    const T* a = reinterpret_cast<const T*>(a_image) + k;
    const T* g = reinterpret_cast<const T*>(g_image) + k;
    double sum = 0;
    if (job.variant != kPatchTorchcam) {
#pragma unroll 4
      for (int64_t p = warp; p < positions; p += kWarps) sum += number(a[p * channels]);
    }
    sum = channel_sum(sum);
    double weight;
    if (constant) {
      weight = constant_weight(job.variant, number_at(g_image, job.constant_dtype, k), sum, double(positions));
    } else {
      if (job.variant == kPatchPaper)
        weight = sum_of_terms_last<kPatchPaper>(g, channels, positions, sum);
      else if (job.variant == kPatchTorchcam)
        weight = sum_of_terms_last<kPatchTorchcam>(g, channels, positions, sum);
      else
        weight = sum_of_terms_last<kPatchGradCam>(g, channels, positions, sum);
      weight = channel_sum(weight);
    }
    for (int64_t base = warp; base < positions; base += kWarps * kDealt) {
      double v[kDealt];
#pragma unroll
      for (int q = 0; q < kDealt; ++q) {
        const int64_t p = base + q * kWarps;
        v[q] = here && p < positions ? weight * number(a[p * channels]) : 0;
      }
      const double total = lane_sum<kDealt, 32>(dealt_sum<kDealt>(v, lane));
      const int64_t p = base + lane * kWarps;
      if (lane < kDealt && p < positions) map[p] += total;
    }
  }
}

// A part of an image a block.
template <class T, bool kLast>
__global__ void __launch_bounds__(kPatchLargeThreads, 4) patch_maps_large(const PatchJob job) {
  DYN_SMEM(double, shared);
  const int64_t image = blockIdx.x / job.plan.parts, part = blockIdx.x % job.plan.parts;
  const int64_t positions = job.height * job.width;
  double* out = job.maps + int64_t(blockIdx.x) * positions;
  double* map = job.plan.shared ? shared : out;
  for (int64_t p = threadIdx.x; p < positions; p += kPatchLargeThreads) map[p] = 0;
  __syncthreads();
  const char* a = job.activations + image * job.activation_stride;
  const char* g = job.gradients + image * job.gradient_stride;
  if constexpr (kLast)
    add_large_last<T>(job, a, g, part, positions, map);
  else
    add_large_first<T>(job, a, g, part, positions, map);
  if (map == out) return;
  __syncthreads();
  for (int64_t p = threadIdx.x; p < positions; p += kPatchLargeThreads) out[p] = map[p];
}

}  // namespace dq_fast
