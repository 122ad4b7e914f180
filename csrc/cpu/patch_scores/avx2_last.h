// patch_scores in float32, maps of [h, w, c]: SIMD over channels, four positions at a time.
#pragma once
#include "avx2.h"

#ifdef DQ_FAST_AVX2_DISPATCH

namespace dq_fast {
namespace {

constexpr int kTogether = 4;  // positions of channels-last maps

// totals [c, padded to 8] += a's sums over `count` positions; in float32 if they are kNarrow: none is negative. Returns
// whether they are.
template <bool kNarrow, class T>
DQ_FAST_AVX2_INLINE bool add_numbers(const T* a, int64_t count, const Tail& tail, int64_t channels, double* totals) {
  __m256 smallest = _mm256_setzero_ps();
  for (int64_t k = 0; k < channels; k += kWide) {
    Octet total = load_octet(totals + k);
    __m256 some = _mm256_setzero_ps();
    for (int64_t j = 0; j < count; ++j) {
      const T* row = a + j * channels;
      const __m256 x = k < tail.begin ? load8(row + k) : load_tail(row, tail);
      prefetch(row + kTogether * channels + k);
      if (kNarrow) {
        some = _mm256_add_ps(some, x);
        smallest = _mm256_min_ps(smallest, x);
      } else {
        total = add(total, to_double(x));
      }
    }
    store_octet(kNarrow ? add(total, to_double(some)) : total, totals + k);
  }
  return !any(smallest);
}

// sums [c, padded to 8] of a [positions, c]
template <class T>
DQ_FAST_AVX2_INLINE void sum_positions(const T* a, int64_t positions, const Tail& tail, int64_t channels,
                                       double* sums) {
  const int64_t together = positions - positions % kTogether, width = padded(channels, kWide);
  std::fill_n(sums, width, 0.0);
  int64_t p = 0;
  for (; p < together; p += kTogether)
    if (!add_numbers<true>(a + p * channels, kTogether, tail, channels, sums)) break;
  if (p == together && add_numbers<true>(a + p * channels, positions - p, tail, channels, sums)) return;
  std::fill_n(sums, width, 0.0);
  for (p = 0; p < together; p += kTogether) add_numbers<false>(a + p * channels, kTogether, tail, channels, sums);
  add_numbers<false>(a + p * channels, positions - p, tail, channels, sums);
}

// weights [c, padded to 8] += terms of kTogether positions, or of the last `count` of them.
template <int kVariant, bool kGuarded, class T>
DQ_FAST_AVX2_INLINE void add_terms(const T* g, int64_t count, const Tail& tail, int64_t channels, const double* sums,
                                   double* weights, Range& range) {
  for (int64_t k = 0; k < channels; k += kWide) {
    const Sums sum(load_octet(sums + k));
    __m256 some = _mm256_setzero_ps();
    for (int64_t j = 0; j < count; j += 2) {
      const T *row = g + j * channels, *next = row + channels;
      prefetch(row + kTogether * channels + k);
      prefetch(next + kTogether * channels + k);
      const __m256 g0 = k < tail.begin ? load8(row + k) : load_tail(row, tail);
      const __m256 g1 = j + 1 == count ? _mm256_setzero_ps() : k < tail.begin ? load8(next + k) : load_tail(next, tail);
      some = _mm256_add_ps(some, two_terms<kVariant, kGuarded>(g0, g1, sum, sum, range));
    }
    add_to(weights + k, some);
  }
}

// map[0 .. count) = weights . a for count <= kTogether positions.
template <class T>
DQ_FAST_AVX2_INLINE void dot_rows(const T* a, int64_t count, const Tail& tail, int64_t channels, const float* weights,
                                  double* map) {
  __m256d totals[kTogether];
  for (auto& total : totals) total = _mm256_setzero_pd();
  for (int64_t begin = 0; begin < channels; begin += kWide * kAddends) {
    const int64_t end = std::min(begin + kWide * kAddends, channels);
    __m256 parts[kTogether];
    for (auto& part : parts) part = _mm256_setzero_ps();
    for (int64_t k = begin; k < end; k += kWide) {
      const __m256 weight = _mm256_loadu_ps(weights + k);
      for (int64_t j = 0; j < count; ++j) {
        const T* row = a + j * channels;
        parts[j] = _mm256_fmadd_ps(weight, k < tail.begin ? load8(row + k) : load_tail(row, tail), parts[j]);
      }
    }
    for (int j = 0; j < kTogether; ++j) {
      const Octet x = to_double(parts[j]);
      totals[j] = _mm256_add_pd(totals[j], _mm256_add_pd(x.low, x.high));
    }
  }
  alignas(32) double dots[kTogether];
  _mm256_store_pd(dots, four_sums(totals));
  std::copy_n(dots, count, map);
}

// a [positions, c], g the same or null, constant [c] or null, map [positions], sums and weights [c, padded to 8].
template <int kVariant, class T>
DQ_FAST_AVX2_INLINE void fast_channels_last(const T* a, const T* g, const double* constant, int64_t channels,
                                            int64_t positions, double* map, double* sums, double* weights,
                                            Range& range) {
  const int64_t width = padded(channels, kWide), together = positions - positions % kTogether;
  const Tail tail(channels);
  std::fill_n(weights, width, 0.0);
  bool guarded = false;
  if (kVariant != kTorchcam) {
    sum_positions(a, positions, tail, channels, sums);
    for (int64_t k = 0; k < width; k += kWide) guarded |= some_negative_or_nan(load_octet(sums + k));
  }
  if (g == nullptr) {
    for (int64_t k = 0; k < channels; k += kWide)
      store_octet(
          constant_weights<kVariant>(load_first_octet(constant + k, channels - k), load_octet(sums + k), positions),
          weights + k);
  } else if (guarded) {
    for (int64_t p = 0; p < positions; p += kTogether)
      add_terms<kVariant, true>(g + p * channels, std::min<int64_t>(kTogether, positions - p), tail, channels, sums,
                                weights, range);
  } else {
    for (int64_t p = 0; p < positions; p += kTogether)
      add_terms<kVariant, false>(g + p * channels, std::min<int64_t>(kTogether, positions - p), tail, channels, sums,
                                 weights, range);
  }
  float* rounded = reinterpret_cast<float*>(sums);  // the sums are done with
  for (int64_t k = 0; k < width; k += kWide) {
    const __m256 narrow = to_float(load_octet(weights + k));
    range.weight = _mm256_max_ps(range.weight, magnitude(narrow));
    _mm256_storeu_ps(rounded + k, narrow);
  }
  for (int64_t p = 0; p < together; p += kTogether)
    dot_rows(a + p * channels, kTogether, tail, channels, rounded, map + p);
  for (int64_t p = together; p < positions; ++p) dot_rows(a + p * channels, 1, tail, channels, rounded, map + p);
}

}  // namespace
}  // namespace dq_fast
#endif
