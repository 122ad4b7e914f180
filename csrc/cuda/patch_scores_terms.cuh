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

// Keeps the compiler from holding on to what it has read.
__device__ __forceinline__ void read_again() {
#if defined(__CUDACC__)
  asm volatile("" ::: "memory");
#endif
}

__device__ inline double real(double x) { return x; }
__device__ inline float real(float x) { return x; }
__device__ inline float real(__half x) { return __half2float(x); }
__device__ inline float real(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T>
__device__ __forceinline__ double number(T x) {
  return double(real(x));
}

// Number i of an array of any type.
__device__ inline double number_at(const char* x, int dtype, int64_t i) {
  if (dtype == kFloat32) return reinterpret_cast<const float*>(x)[i];
  if (dtype == kFloat64) return reinterpret_cast<const double*>(x)[i];
  if (dtype == kBFloat16) return number(reinterpret_cast<const __nv_bfloat16*>(x)[i]);
  return number(reinterpret_cast<const __half*>(x)[i]);
}

// 1 / x to 2^-51, for x between 2^-1022 and 2^1022 in size: an approximation to 2^-20 and a step that cubes its error.
// A correctly rounded quotient takes three times as many instructions.
__device__ __forceinline__ double reciprocal(double x) {
#if defined(__CUDACC__)
  double guess;
  asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(guess) : "d"(x));
#else
  const double guess = (1 + 0x1p-21) / x;  // as far off
#endif
  const double error = fma(-x, guess, 1.0);
  return fma(fma(error, error, error), guess, guess);
}

// Adds one term to a channel's weight. NaN stays NaN, comparisons with it being false. Terms of float32 numbers keep
// within reciprocal's range: denominators are sums of products of at most four of them, or below the guard.
template <int kVariant, class Real>
__device__ __forceinline__ void add_term(Real gradient, double sum, double& weight) {
  const double g = double(gradient), square = g * g;
  if constexpr (kVariant == kPatchTorchcam) {
    if (!(gradient <= 0)) weight = fma(square, g, weight);
    return;
  }
  constexpr bool kPaper = kVariant == kPatchPaper;
  constexpr double kGuard = kPaper ? kPatchGuard : kPatchGuard * kPatchGradCamEps;
  const double once = fma(g, sum, 2.0), denominator = kPaper ? once : fma(square, once, kPatchGradCamEps);
  const double numerator = kPaper ? g : square * g;
  const double value = sizeof(Real) == 8 ? numerator / denominator : numerator * reciprocal(denominator);
  if (!(gradient <= 0) && !(fabs(denominator) <= kGuard)) weight += value;
}

// The weight of a channel whose gradients are constant, `count` positions of them.
__device__ inline double constant_weight(int variant, double g, double sum, double count) {
  double weight = 0;
  if (variant == kPatchPaper)
    add_term<kPatchPaper>(g, sum, weight);
  else if (variant == kPatchTorchcam)
    add_term<kPatchTorchcam>(g, sum, weight);
  else
    add_term<kPatchGradCam>(g, sum, weight);
  return count * weight;
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
