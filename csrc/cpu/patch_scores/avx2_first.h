// patch_scores in float32, maps of [c, h, w]: SIMD over positions, eight channels at a time.
#pragma once
#include "avx2.h"

#ifdef DQ_FAST_AVX2_DISPATCH

namespace dq_fast {
namespace {

// Channels (NCHW) whose numbers are asked for ahead of time: the hardware's own prefetching starts late on the many
// short runs. Measured; farther where the gradients are constant, as a channel then takes half the time.
constexpr int64_t kAhead = 16, kFarAhead = 64;

// Eight channels' rows of a [c, positions]; behind the last channel its row again, which then gets no weight.
template <class T>
struct Rows {
  const T* row[kWide];

  DQ_FAST_AVX2_INLINE Rows(const T* a, int64_t first, int64_t channels, int64_t positions) {
    for (int j = 0; j < kWide; ++j) row[j] = a + std::min(first + j, channels - 1) * positions;
  }
};

// Adds eight vectors to eight totals of four lanes.
DQ_FAST_AVX2_INLINE void add_rows(const __m256* x, __m256d* total) {
#pragma GCC unroll 8
  for (int j = 0; j < kWide; ++j) {
    const Octet wide = to_double(x[j]);
    total[j] = _mm256_add_pd(total[j], _mm256_add_pd(wide.low, wide.high));
  }
}

// Their sums.
template <class T>
DQ_FAST_AVX2_INLINE Octet wide_sums(const Rows<T>& rows, const Tail& tail) {
  __m256d total[kWide];
  __m256 x[kWide];
  for (int j = 0; j < kWide; ++j) {
    x[j] = tail.n ? load_tail(rows.row[j], tail) : _mm256_setzero_ps();
    total[j] = _mm256_setzero_pd();
  }
  add_rows(x, total);
  for (int64_t p = 0; p < tail.begin; p += kWide) {
#pragma GCC unroll 8
    for (int j = 0; j < kWide; ++j) x[j] = load8(rows.row[j] + p);
    add_rows(x, total);
  }
  return {four_sums(total), four_sums(total + kLanes)};
}

// The same by float32 sums of kAddends numbers. `smallest` becomes the smallest number, or 0.
template <class T>
DQ_FAST_AVX2_INLINE Octet narrow_sums(const Rows<T>& rows, const Tail& tail, __m256& smallest) {
  __m256d total[kWide];
  __m256 some[kWide];
  __m256 least = _mm256_setzero_ps();
#pragma GCC unroll 8
  for (int j = 0; j < kWide; ++j) {
    some[j] = tail.n ? load_tail(rows.row[j], tail) : _mm256_setzero_ps();
    least = _mm256_min_ps(least, some[j]);
    total[j] = _mm256_setzero_pd();
  }
  int64_t p = 0;
  while (true) {
    const int64_t end = std::min(tail.begin, p + kWide * (kAddends - 1));
    for (; p < end; p += kWide)
#pragma GCC unroll 8
      for (int j = 0; j < kWide; ++j) {
        const __m256 x = load8(rows.row[j] + p);
        some[j] = _mm256_add_ps(some[j], x);
        least = _mm256_min_ps(least, x);
      }
    add_rows(some, total);
    if (p == tail.begin) break;
    for (auto& x : some) x = _mm256_setzero_ps();
  }
  smallest = least;
  return {four_sums(total), four_sums(total + kLanes)};
}

// In float32 until a negative number has been seen.
template <class T>
DQ_FAST_AVX2_INLINE Octet row_sums(const Rows<T>& rows, const Tail& tail, bool& narrow) {
  if (narrow) {
    __m256 smallest;
    const Octet sums = narrow_sums(rows, tail, smallest);
    narrow = !any(smallest);
    if (narrow) return sums;
  }
  return wide_sums(rows, tail);
}

// Four lanes that add up to a channel's weight.
template <int kVariant, bool kGuarded, class T>
DQ_FAST_AVX2_INLINE __m256d row_weight(const T* row, double row_sum, const Tail& tail, Range& range) {
  const Sums sum(row_sum);
  const int64_t in_pairs = tail.begin - tail.begin % (2 * kWide);
  Octet total = zeros();
  int64_t p = 0;
  do {
    __m256 some = _mm256_setzero_ps();
    const int64_t end = std::min(in_pairs, p + 2 * kWide * kAddends);
    for (; p < end; p += 2 * kWide)
      some =
          _mm256_add_ps(some, two_terms<kVariant, kGuarded>(load8(row + p), load8(row + p + kWide), sum, sum, range));
    if (p == in_pairs && p < tail.begin + tail.n) {
      const __m256 before = p < tail.begin ? load8(row + p) : _mm256_setzero_ps();
      const __m256 last = tail.n ? load_tail(row, tail) : _mm256_setzero_ps();
      some = _mm256_add_ps(some, two_terms<kVariant, kGuarded>(before, last, sum, sum, range));
    }
    total = add(total, to_double(some));
  } while (p < in_pairs);
  return _mm256_add_pd(total.low, total.high);
}

// map [positions, padded to 8] += weights . rows
template <class T>
DQ_FAST_AVX2_INLINE void add_weighted(const Rows<T>& rows, const __m256* weight, const Tail& tail, double* map) {
  for (int64_t p = 0; p < tail.begin; p += kWide) {
    __m256 even = _mm256_mul_ps(weight[0], load8(rows.row[0] + p));
    __m256 odd = _mm256_mul_ps(weight[1], load8(rows.row[1] + p));
#pragma GCC unroll 8
    for (int j = 2; j < kWide; j += 2) {
      even = _mm256_fmadd_ps(weight[j], load8(rows.row[j] + p), even);
      odd = _mm256_fmadd_ps(weight[j + 1], load8(rows.row[j + 1] + p), odd);
    }
    add_to(map + p, _mm256_add_ps(even, odd));
  }
  if (tail.n == 0) return;
  __m256 total = _mm256_setzero_ps();
#pragma GCC unroll 8
  for (int j = 0; j < kWide; ++j) total = _mm256_fmadd_ps(weight[j], load_tail(rows.row[j], tail), total);
  add_to(map + tail.begin, total);
}

// Weights of the channels first .. first + 8, those behind the last 0.
template <int kVariant, class T>
DQ_FAST_AVX2_INLINE Octet eight_weights(const Rows<T>& rows, const T* g, const double* constant, int64_t first,
                                        int64_t channels, int64_t positions, const Tail& tail, bool& narrow,
                                        Range& range) {
  const int64_t count = std::min<int64_t>(kWide, channels - first);
  const Octet sums = kVariant == kTorchcam ? zeros() : row_sums(rows, tail, narrow);
  if (g == nullptr) return constant_weights<kVariant>(load_first_octet(constant + first, count), sums, positions);
  alignas(32) double sum[kWide];
  store_octet(sums, sum);
  __m256d parts[kWide];
  for (auto& part : parts) part = _mm256_setzero_pd();
  const T* row = g + first * positions;
  if (kVariant != kTorchcam && some_negative_or_nan(sums))
    for (int j = 0; j < count; ++j) parts[j] = row_weight<kVariant, true>(row + j * positions, sum[j], tail, range);
  else
    for (int j = 0; j < count; ++j) parts[j] = row_weight<kVariant, false>(row + j * positions, sum[j], tail, range);
  return {four_sums(parts), four_sums(parts + kLanes)};
}

// a [c, positions], g the same or null, constant [c] or null, map [positions, padded to 8].
template <int kVariant, class T>
DQ_FAST_AVX2_INLINE void fast_channels_first(const T* a, const T* g, const double* constant, int64_t channels,
                                             int64_t positions, double* map, Range& range) {
  std::fill_n(map, padded(positions, kWide), 0.0);
  const Tail tail(positions);
  const int64_t ahead = g ? kAhead : kFarAhead;
  bool narrow = true;
  // Eight channels are added to the map while the next ones' weights, a long chain of instructions, are on their way.
  alignas(32) float ready[kWide] = {}, next[kWide] = {};
  for (int64_t k = 0; k < channels + kWide; k += kWide) {
    prefetch(a + (k + ahead) * positions, kWide * positions);
    if (g) prefetch(g + (k + ahead) * positions, kWide * positions);
    if (k < channels) {
      const __m256 weights = to_float(eight_weights<kVariant>(Rows<T>(a, k, channels, positions), g, constant, k,
                                                              channels, positions, tail, narrow, range));
      range.weight = _mm256_max_ps(range.weight, magnitude(weights));
      _mm256_store_ps(next, weights);
    }
    if (k > 0) {
      __m256 weight[kWide];
      for (int j = 0; j < kWide; ++j) weight[j] = _mm256_broadcast_ss(ready + j);
      add_weighted(Rows<T>(a, k - kWide, channels, positions), weight, tail, map);
    }
    std::copy_n(next, kWide, ready);
  }
}

}  // namespace
}  // namespace dq_fast
#endif
