// What the kernels of the patch scores share: the job, numbers as float64, one term of a channel's weight, sums.
// The formula stands in patch_scores.cuh.
#pragma once
#include <cstdint>

#include "patch_scores_launch.h"
#include "portable.cuh"

namespace dq_fast {

constexpr double kPatchGradCamEps = 1e-6;  // as the grad-cam package
constexpr double kPatchGuard = 1e-6;       // why: csrc/cpu/patch_scores/job.h

enum PatchVariant : int { kPatchPaper = 0, kPatchTorchcam = 1, kPatchGradCam = 2 };

// A launch's argument; the kernels take it by value.
struct PatchJob {
  const char* activations;
  const char* gradients;
  float* scores;                               // [batch, rows, cols]
  double* maps;                                // [batch, plan.maps, positions], workspace, unless plan.fused
  double* shares;                              // [batch, plan.shares], workspace, if plan.shares_in_workspace
  int64_t activation_stride, gradient_stride;  // bytes from image to image
  int64_t channels, height, width, rows, cols;
  int variant;
  int constant_dtype;  // of gradients [batch, channels]; kPatchNotConstant where they vary over the map
  PatchScoresPlan plan;
};

constexpr int kPatchNotConstant = -1;

__device__ inline double number(double x) { return x; }
__device__ inline double number(float x) { return double(x); }
__device__ inline double number(__half x) { return double(__half2float(x)); }
__device__ inline double number(__nv_bfloat16 x) { return double(__bfloat162float(x)); }

// Number i of an array of any type.
__device__ inline double number_at(const char* x, int dtype, int64_t i) {
  if (dtype == kFloat32) return reinterpret_cast<const float*>(x)[i];
  if (dtype == kFloat64) return reinterpret_cast<const double*>(x)[i];
  if (dtype == kBFloat16) return number(reinterpret_cast<const __nv_bfloat16*>(x)[i]);
  return number(reinterpret_cast<const __half*>(x)[i]);
}

// One term of a channel's weight. NaN stays NaN, comparisons with it being false.
template <int kVariant>
__device__ __forceinline__ double term(double g, double sum) {
  const double square = g * g;
  if constexpr (kVariant == kPatchTorchcam) return g <= 0 ? 0 : square * g;
  constexpr bool kPaper = kVariant == kPatchPaper;
  const double denominator = kPaper ? 2 + g * sum : square * (2 + g * sum) + kPatchGradCamEps;
  const double value = (kPaper ? g : square * g) / denominator;
  return g <= 0 || fabs(denominator) <= (kPaper ? kPatchGuard : kPatchGuard * kPatchGradCamEps) ? 0 : value;
}

__device__ inline double term(int variant, double g, double sum) {
  if (variant == kPatchPaper) return term<kPatchPaper>(g, sum);
  if (variant == kPatchTorchcam) return term<kPatchTorchcam>(g, sum);
  return term<kPatchGradCam>(g, sum);
}

// Sum over the lanes whose numbers differ from this one's in the bits from kFrom up to, not including, kTo; in all of
// them.
template <int kFrom, int kTo>
__device__ __forceinline__ double lane_sum(double v) {
#pragma unroll
  for (int bit = kFrom; bit < kTo; bit *= 2) v += __shfl_xor_sync(0xffffffffu, v, bit);
  return v;
}

// Sums over kCount neighbouring lanes of kCount numbers each, in as many steps as one sum of them takes and kCount - 1
// exchanges: lane j of them gets the sum of the v[j].
template <int kCount>
__device__ __forceinline__ double dealt_sum(const double (&v)[kCount], int lane) {
  if constexpr (kCount == 1) {
    return v[0];
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = lane & kHalf;
    double mine[kHalf];
#pragma unroll
    for (int q = 0; q < kHalf; ++q) {
      const double kept = upper ? v[q + kHalf] : v[q], given = upper ? v[q] : v[q + kHalf];
      mine[q] = kept + __shfl_xor_sync(0xffffffffu, given, kHalf);
    }
    return dealt_sum<kHalf>(mine, lane);
  }
}

}  // namespace dq_fast
