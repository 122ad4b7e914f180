// patch_scores in float32 with AVX2, FMA and F16C, for float32, float16 and bfloat16 inputs.
//
// What is float64 and what is not. Without negative activations all that is added up is of one sign, and all
// denominators are at least 2 (1e-6): float32 keeps its digits, in sums of at most kAddends, which go on in float64.
// With negative ones S is summed in float64 and 2 + g S cancels. S is then two floats, S = high + low, and
// fma(g, low, fma(g, high, 2)) is right to 2^-23 of itself down to the guard, as products within an fma are not
// rounded. Only the grad-cam denominator, g^2 (2 + g S) + 1e-6, cancels a second time; where it falls below a quarter
// of 1e-6, the term is done again in float64.
//
// Two terms share a division: a / b + c / d = (a d + c b) / (b d), seven instructions for what two divisions would take
// twelve cycles for. The largest b d is remembered; an image where it, the weights or the map leave float32's range is
// given back to wide.h.
#pragma once
#include <cmath>

#include "wide.h"

#ifdef DQ_FAST_AVX2_DISPATCH
#include <immintrin.h>

#define DQ_FAST_AVX2 __attribute__((target("avx2,fma,f16c")))
#define DQ_FAST_AVX2_INLINE inline __attribute__((always_inline, target("avx2,fma,f16c")))

namespace dq_fast {
namespace {

constexpr int kWide = 8;     // floats of a register
constexpr int kAddends = 8;  // of a float32 sum
// Between these float32 has room for every digit: for maps; for products of two denominators; and for weights, whose
// numerators are cubes (torchcam), or terms times two denominators of at least 1e-6 each.
constexpr double kMost = 1e30, kLeastMap = 1e-25;
template <int kVariant>
constexpr double least_weight() {
  return kVariant == kTorchcam ? 1e-25 : 1e-15;
}
constexpr float kIllConditioned = 0.25e-6f;  // grad-cam denominators below this are computed in float64
constexpr int64_t kCacheLine = 64;

// The last, partial vector of a row of at least kWide numbers: n of them from `begin` on. It reads nothing behind the
// row.
struct Tail {
  int64_t begin, n;
  __m256i mask;     // of 32-bit numbers
  __m128i shuffle;  // of the row's last eight 16-bit numbers: brings the n last to the front, zeros behind them

  DQ_FAST_AVX2_INLINE explicit Tail(int64_t length) : begin(length - length % kWide), n(length % kWide) {
    mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    const __m128i from = _mm_add_epi8(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                      _mm_set1_epi8(static_cast<char>(2 * (kWide - n))));
    shuffle = _mm_or_si128(from, _mm_cmpgt_epi8(from, _mm_set1_epi8(15)));  // all ones: a zero
  }
};

DQ_FAST_AVX2_INLINE __m256 widen(__m128i x, const Half*) { return _mm256_cvtph_ps(x); }
DQ_FAST_AVX2_INLINE __m256 widen(__m128i x, const BFloat16*) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
template <class T>
DQ_FAST_AVX2_INLINE __m256 load8(const T* x) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)), x);
}
DQ_FAST_AVX2_INLINE __m256 load8(const float* x) { return _mm256_loadu_ps(x); }
template <class T>
DQ_FAST_AVX2_INLINE __m256 load_tail(const T* row, const Tail& tail) {
  const T* last = row + tail.begin + tail.n - kWide;
  return widen(_mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(last)), tail.shuffle), row);
}
DQ_FAST_AVX2_INLINE __m256 load_tail(const float* row, const Tail& tail) {
  return _mm256_maskload_ps(row + tail.begin, tail.mask);
}

// Asks the second-level cache for the line with *x in it, or all lines of n numbers; addresses behind the tensor do no
// harm.
template <class T>
DQ_FAST_AVX2_INLINE void prefetch(const T* x) {
  _mm_prefetch(reinterpret_cast<const char*>(x), _MM_HINT_T1);
}
template <class T>
DQ_FAST_AVX2_INLINE void prefetch(const T* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kCacheLine / static_cast<int64_t>(sizeof(T))) prefetch(x + i);
}

// Eight numbers in float64.
struct Octet {
  __m256d low, high;
};
DQ_FAST_AVX2_INLINE Octet to_double(__m256 x) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
DQ_FAST_AVX2_INLINE __m256 to_float(const Octet& x) {
  return _mm256_set_m128(_mm256_cvtpd_ps(x.high), _mm256_cvtpd_ps(x.low));
}
DQ_FAST_AVX2_INLINE Octet load_octet(const double* x) { return {_mm256_loadu_pd(x), _mm256_loadu_pd(x + kLanes)}; }
DQ_FAST_AVX2_INLINE void store_octet(const Octet& x, double* to) {
  _mm256_storeu_pd(to, x.low);
  _mm256_storeu_pd(to + kLanes, x.high);
}
DQ_FAST_AVX2_INLINE Octet add(const Octet& x, const Octet& y) {
  return {_mm256_add_pd(x.low, y.low), _mm256_add_pd(x.high, y.high)};
}
DQ_FAST_AVX2_INLINE Octet zeros() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
DQ_FAST_AVX2_INLINE void add_to(double* x, __m256 addend) { store_octet(add(load_octet(x), to_double(addend)), x); }
DQ_FAST_AVX2_INLINE __m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
DQ_FAST_AVX2_INLINE bool any(__m256 mask) { return _mm256_movemask_ps(mask) != 0; }
DQ_FAST_AVX2_INLINE bool some_negative_or_nan(const Octet& x) {
  const __m256d zero = _mm256_setzero_pd();
  return _mm256_movemask_pd(
             _mm256_or_pd(_mm256_cmp_pd(x.low, zero, _CMP_NGE_UQ), _mm256_cmp_pd(x.high, zero, _CMP_NGE_UQ))) != 0;
}

// Lane j: the sum over v[j]'s lanes.
DQ_FAST_AVX2_INLINE __m256d four_sums(const __m256d* v) {
  const __m256d a = _mm256_hadd_pd(v[0], v[1]), b = _mm256_hadd_pd(v[2], v[3]);
  return _mm256_add_pd(_mm256_permute2f128_pd(a, b, 0x21), _mm256_blend_pd(a, b, 0b1100));
}

// The sums S of up to eight channels, one for each lane or the same in all of them.
struct Sums {
  __m256 high, low;  // their sum is S; low is used with guards only
  Octet exact;

  DQ_FAST_AVX2_INLINE explicit Sums(const Octet& x) : exact(x) {
    high = to_float(x);
    const Octet rounded = to_double(high);
    low = to_float({_mm256_sub_pd(x.low, rounded.low), _mm256_sub_pd(x.high, rounded.high)});
  }
  DQ_FAST_AVX2_INLINE explicit Sums(double x) : exact{_mm256_set1_pd(x), _mm256_set1_pd(x)} {
    const float rounded = static_cast<float>(x);
    high = _mm256_set1_ps(rounded);
    low = _mm256_set1_ps(static_cast<float>(x - static_cast<double>(rounded)));
  }
};

struct Fraction {
  __m256 numerator, denominator;
};

// term() of job.h as a fraction, g >= 0 or NaN.
template <int kVariant, bool kGuarded>
DQ_FAST_AVX2_INLINE Fraction fraction(__m256 g, const Sums& sum) {
  const __m256 one = _mm256_set1_ps(1.0f);
  __m256 d = _mm256_fmadd_ps(g, sum.high, _mm256_set1_ps(2.0f));
  if (kGuarded) d = _mm256_fmadd_ps(g, sum.low, d);
  Fraction f{g, d};
  if (kVariant == kGradCam) {
    const __m256 square = _mm256_mul_ps(g, g);
    f = {_mm256_mul_ps(square, g), _mm256_fmadd_ps(square, d, _mm256_set1_ps(static_cast<float>(kGradCamEps)))};
  }
  if (!kGuarded) return f;
  const __m256 size = magnitude(f.denominator);
  if (kVariant == kGradCam) {
    const __m256 ill = _mm256_cmp_ps(size, _mm256_set1_ps(kIllConditioned), _CMP_LT_OQ);
    if (any(ill)) {
      const Octet wide = to_double(g);
      const __m256 value =
          to_float({term<kVariant, true>(wide.low, sum.exact.low), term<kVariant, true>(wide.high, sum.exact.high)});
      f = {_mm256_blendv_ps(f.numerator, value, ill), _mm256_blendv_ps(f.denominator, one, ill)};
    }
    return f;
  }
  const __m256 near = _mm256_cmp_ps(size, _mm256_set1_ps(static_cast<float>(guard<kVariant>())), _CMP_LE_OQ);
  return {_mm256_andnot_ps(near, f.numerator), _mm256_blendv_ps(f.denominator, one, near)};
}

// The largest of an image's shared denominators and weights so far, lane by lane.
struct Range {
  __m256 denominator, weight;

  DQ_FAST_AVX2_INLINE Range() : denominator(_mm256_setzero_ps()), weight(_mm256_setzero_ps()) {}
  template <int kVariant>
  DQ_FAST_AVX2_INLINE bool fits() const {
    return !any(_mm256_cmp_ps(denominator, _mm256_set1_ps(static_cast<float>(kMost)), _CMP_GT_OQ)) &&
           any(_mm256_cmp_ps(weight, _mm256_set1_ps(static_cast<float>(least_weight<kVariant>())), _CMP_GE_OQ));
  }
};

// Terms of two vectors of gradients, added up.
template <int kVariant, bool kGuarded>
DQ_FAST_AVX2_INLINE __m256 two_terms(__m256 gradient0, __m256 gradient1, const Sums& sum0, const Sums& sum1,
                                     Range& range) {
  const __m256 zero = _mm256_setzero_ps();
  const __m256 g0 = _mm256_max_ps(zero, gradient0), g1 = _mm256_max_ps(zero, gradient1);  // NaN stays: it is second
  if (kVariant == kTorchcam)
    return _mm256_fmadd_ps(_mm256_mul_ps(g0, g0), g0, _mm256_mul_ps(_mm256_mul_ps(g1, g1), g1));
  const Fraction a = fraction<kVariant, kGuarded>(g0, sum0), b = fraction<kVariant, kGuarded>(g1, sum1);
  const __m256 both = _mm256_mul_ps(a.denominator, b.denominator);
  range.denominator = _mm256_max_ps(range.denominator, kGuarded ? magnitude(both) : both);
  return _mm256_div_ps(_mm256_fmadd_ps(a.numerator, b.denominator, _mm256_mul_ps(b.numerator, a.denominator)), both);
}

DQ_FAST_AVX2_INLINE Octet times(const Octet& x, double factor) {
  const __m256d f = _mm256_set1_pd(factor);
  return {_mm256_mul_pd(x.low, f), _mm256_mul_pd(x.high, f)};
}

// Weights of channels with constant gradients, in float64.
template <int kVariant>
DQ_FAST_AVX2_INLINE Octet constant_weights(const Octet& gradients, const Octet& sums, int64_t positions) {
  return times({term<kVariant, true>(gradients.low, sums.low), term<kVariant, true>(gradients.high, sums.high)},
               static_cast<double>(positions));
}

DQ_FAST_AVX2_INLINE Octet load_first_octet(const double* x, int64_t n) {
  if (n >= kWide) return load_octet(x);
  alignas(32) double some[kWide] = {};
  std::memcpy(some, x, static_cast<size_t>(n) * sizeof(double));
  return load_octet(some);
}

}  // namespace
}  // namespace dq_fast
#endif
