// What the kernels of patch_scores share: the job, portable vectors of four doubles, and one term of a channel's
// weight. The formula and the choice of kernels stand in patch_scores.cpp.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define DQ_FAST_AVX2_DISPATCH 1
#endif
#define DQ_FAST_INLINE inline __attribute__((always_inline))

namespace dq_fast {
namespace {

constexpr double kGradCamEps = 1e-6;  // as the grad-cam package
// Within this of the pole the 7th digit of S, which float32 activations don't have, decides even the sign of a weight
// that may be 1e6 times the others': such a term is noise and counts as 0.
constexpr double kGuard = 1e-6;

enum Variant { kPaper = 0, kTorchcam = 1, kGradCam = 2 };

// |denominator| up to which a term counts as 0.
template <int kVariant>
constexpr double guard() {
  return kVariant == kPaper ? kGuard : kGuard * kGradCamEps;
}

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

constexpr int kNotConstant = -1;

struct Job {
  const void* activations;
  const void* gradients;  // [batch, h, w, c] or [batch, c, h, w] like the activations; [batch, c] where constant
  int constant_dtype;     // of constant gradients; kNotConstant where they vary over the map
  float* scores;          // [batch, rows, cols]
  int64_t activation_stride, gradient_stride;  // elements from image to image
  int64_t channels, height, width, rows, cols;
  bool channels_last;
  const double* resize_rows;  // R_h [rows, height]
  const double* resize_cols;  // R_w^T [width, padded(cols)], zeros behind cols
};

// Four lanes of GCC's and clang's portable vectors: one AVX2 register of doubles, two of SSE2 or NEON.
constexpr int kLanes = 4;
typedef double Doubles __attribute__((vector_size(32)));
typedef int64_t Masks __attribute__((vector_size(32)));
typedef float Floats __attribute__((vector_size(16)));

constexpr int64_t padded(int64_t n, int64_t lanes = kLanes) { return (n + lanes - 1) / lanes * lanes; }

template <class Vector>
DQ_FAST_INLINE Vector read(const void* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
DQ_FAST_INLINE Doubles load(const double* x) { return read<Doubles>(x); }
DQ_FAST_INLINE Doubles load(const float* x) { return __builtin_convertvector(read<Floats>(x), Doubles); }
DQ_FAST_INLINE void store(Doubles v, double* to) { std::memcpy(to, &v, sizeof v); }

// The first n < kLanes numbers, zeros in the other lanes; reads no further.
template <class T>
DQ_FAST_INLINE Doubles load_first(const T* x, int64_t n) {
  T some[kLanes] = {};
  std::memcpy(some, x, static_cast<size_t>(n) * sizeof(T));
  return load(some);
}

DQ_FAST_INLINE Doubles all(double x) { return Doubles{x, x, x, x}; }

// One term of a channel's weight. Where g <= 0 it is 0 by g itself; NaN stays NaN, comparisons with it being false.
// Without a negative sum no denominator is below 2 (1e-6), so that kGuarded may be false.
template <int kVariant, bool kGuarded>
DQ_FAST_INLINE Doubles term(Doubles gradient, Doubles sum) {
  const Doubles g = gradient <= 0.0 ? all(0.0) : gradient;
  if (kVariant == kTorchcam) return g * g * g;
  const Doubles square = g * g;
  const Doubles denominator = kVariant == kPaper ? 2.0 + g * sum : square * (2.0 + g * sum) + kGradCamEps;
  const Doubles value = (kVariant == kPaper ? g : square * g) / denominator;
  if (!kGuarded) return value;
  const Doubles size = denominator < 0.0 ? -denominator : denominator;
  return size <= guard<kVariant>() ? all(0.0) : value;
}

}  // namespace
}  // namespace dq_fast
