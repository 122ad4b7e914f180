// patch_scores in float64, in portable vectors: for float64 inputs, for processors without AVX2 and FMA, for maps too
// small for avx2.h, and for images whose numbers leave float32's range there. T is float or double.
#pragma once
#include <algorithm>

#include "job.h"

namespace dq_fast {
namespace {

// Lane j: the sum over v[j]'s lanes.
DQ_FAST_INLINE Doubles sums_of(const Doubles (&v)[kLanes]) {
  Doubles total;
  for (int j = 0; j < kLanes; ++j) total[j] = (v[j][0] + v[j][1]) + (v[j][2] + v[j][3]);
  return total;
}

DQ_FAST_INLINE bool none_negative(Doubles x) { return x[0] >= 0.0 && x[1] >= 0.0 && x[2] >= 0.0 && x[3] >= 0.0; }

// Sums over four channels' positions of their terms. g [kLanes, positions], lane j of sum belongs to channel j.
template <int kVariant, bool kGuarded, class T>
DQ_FAST_INLINE Doubles weigh_channels(const T* g, Doubles sum, int64_t positions, Masks in_tail) {
  const int64_t whole = positions - positions % kLanes;
  Doubles part[kLanes] = {};
  for (int64_t p = 0; p < whole; p += kLanes)
    for (int j = 0; j < kLanes; ++j) part[j] += term<kVariant, kGuarded>(load(g + j * positions + p), all(sum[j]));
  if (whole < positions)
    for (int j = 0; j < kLanes; ++j)
      part[j] += term<kVariant, kGuarded>(in_tail ? load(g + j * positions + whole) : all(0.0), all(sum[j]));
  return sums_of(part);
}

// Adds four channels to the map. a [kLanes, positions], g the same or null (then gradients are `constant`); up to
// kLanes - 1 numbers behind each channel are read and ignored. map is padded to whole vectors.
template <int kVariant, class T>
DQ_FAST_INLINE void add_channels(const T* a, const T* g, Doubles constant, int64_t positions, double* map) {
  const int64_t whole = positions - positions % kLanes;
  const Masks lane = {0, 1, 2, 3};
  const Masks in_tail = lane < (positions - whole);
  Doubles sum = all(0.0);
  if (kVariant != kTorchcam) {
    Doubles part[kLanes] = {};
    for (int64_t p = 0; p < whole; p += kLanes)
      for (int j = 0; j < kLanes; ++j) part[j] += load(a + j * positions + p);
    if (whole < positions)
      for (int j = 0; j < kLanes; ++j) part[j] += in_tail ? load(a + j * positions + whole) : all(0.0);
    sum = sums_of(part);
  }
  Doubles weight;
  if (g == nullptr)
    weight = static_cast<double>(positions) * term<kVariant, true>(constant, sum);
  else if (none_negative(sum))
    weight = weigh_channels<kVariant, false>(g, sum, positions, in_tail);
  else
    weight = weigh_channels<kVariant, true>(g, sum, positions, in_tail);
  for (int64_t p = 0; p < positions; p += kLanes) {
    Doubles total = load(map + p);
    for (int j = 0; j < kLanes; ++j) total += weight[j] * load(a + j * positions + p);
    store(total, map + p);
  }
}

// a [c, positions], g the same or null, constant [c] or null, map [positions, padded]; spare holds two padded blocks.
template <int kVariant, class T>
DQ_FAST_INLINE void map_channels_first(const T* a, const T* g, const double* constant, int64_t channels,
                                       int64_t positions, double* map, double* spare) {
  std::fill_n(map, padded(positions), 0.0);
  int64_t k = 0;
  for (; k + kLanes <= channels && (channels - k - kLanes) * positions >= kLanes - 1; k += kLanes)
    add_channels<kVariant, T>(a + k * positions, g ? g + k * positions : nullptr,
                              constant ? load(constant + k) : all(0.0), positions, map);
  // The last channels: from a copy with zeros behind, so that nothing outside the tensors is read.
  const int64_t block = kLanes * positions + kLanes;
  T* block_a = reinterpret_cast<T*>(spare);
  T* block_g = reinterpret_cast<T*>(spare + block);
  for (; k < channels; k += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, channels - k);
    const size_t bytes = static_cast<size_t>(count * positions) * sizeof(T);
    std::fill_n(spare, 2 * block, 0.0);
    std::memcpy(block_a, a + k * positions, bytes);
    if (g) std::memcpy(block_g, g + k * positions, bytes);
    Doubles block_constant = all(0.0);
    if (constant) std::memcpy(&block_constant, constant + k, static_cast<size_t>(count) * sizeof(double));
    add_channels<kVariant, T>(block_a, g ? block_g : nullptr, block_constant, positions, map);
  }
}

// A vector of channels; the last, partial one reads no further than the n that are left.
template <bool kPartial, class T>
DQ_FAST_INLINE Doubles load_channels(const T* x, int64_t n) {
  if (kPartial) return load_first(x, n);
  return load(x);
}

// What is summed over positions: the numbers themselves, or their terms of the weight.
enum Summand { kNumbers, kTerms, kGuardedTerms };

// totals[k ..] += summands of kCount positions x [kCount, c], given the channels' sums.
template <int kVariant, int kSummand, int kCount, bool kPartial, class T>
DQ_FAST_INLINE void add_positions_at(const T* x, int64_t k, int64_t channels, const double* sums, double* totals) {
  Doubles total = load(totals + k);
  const Doubles sum = load(sums + k);
  for (int j = 0; j < kCount; ++j) {
    const Doubles v = load_channels<kPartial>(x + j * channels + k, channels - k);
    if (kSummand == kNumbers)
      total += v;
    else
      total += term<kVariant, kSummand == kGuardedTerms>(v, sum);
  }
  store(total, totals + k);
}

template <int kVariant, int kSummand, int kCount, class T>
DQ_FAST_INLINE void add_positions(const T* x, int64_t channels, const double* sums, double* totals) {
  int64_t k = 0;
  for (; k + kLanes <= channels; k += kLanes)
    add_positions_at<kVariant, kSummand, kCount, false>(x, k, channels, sums, totals);
  if (k < channels) add_positions_at<kVariant, kSummand, kCount, true>(x, k, channels, sums, totals);
}

template <int kVariant, int kSummand, class T>
DQ_FAST_INLINE void add_all_positions(const T* x, int64_t positions, int64_t channels, const double* sums,
                                      double* totals) {
  int64_t p = 0;
  for (; p + kLanes <= positions; p += kLanes)
    add_positions<kVariant, kSummand, kLanes>(x + p * channels, channels, sums, totals);
  for (; p < positions; ++p) add_positions<kVariant, kSummand, 1>(x + p * channels, channels, sums, totals);
}

// map[0 .. kCount) = weights . a, for kCount positions
template <int kCount, class T>
DQ_FAST_INLINE void dot_positions(const T* a, const double* weights, int64_t channels, double* map) {
  Doubles part[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= channels; k += kLanes) {
    const Doubles w = load(weights + k);
    for (int j = 0; j < kCount; ++j) part[j] += w * load(a + j * channels + k);
  }
  if (k < channels) {
    const Doubles w = load(weights + k);
    for (int j = 0; j < kCount; ++j) part[j] += w * load_first(a + j * channels + k, channels - k);
  }
  const Doubles dots = sums_of(part);
  for (int j = 0; j < kCount; ++j) map[j] = dots[j];
}

// a [positions, c], g the same or null, constant [c] or null, map [positions], sums and weights [c, padded]
template <int kVariant, class T>
DQ_FAST_INLINE void map_channels_last(const T* a, const T* g, const double* constant, int64_t channels,
                                      int64_t positions, double* map, double* sums, double* weights) {
  std::fill_n(sums, padded(channels), 0.0);
  std::fill_n(weights, padded(channels), 0.0);
  if (kVariant != kTorchcam) add_all_positions<kVariant, kNumbers>(a, positions, channels, sums, sums);
  bool guarded = false;
  for (int64_t k = 0; k < channels; k += kLanes) guarded |= !none_negative(load(sums + k));
  if (g != nullptr && guarded) {
    add_all_positions<kVariant, kGuardedTerms>(g, positions, channels, sums, weights);
  } else if (g != nullptr) {
    add_all_positions<kVariant, kTerms>(g, positions, channels, sums, weights);
  } else {
    const double times = static_cast<double>(positions);
    for (int64_t k = 0; k < channels; k += kLanes) {
      const int64_t left = channels - k;
      const Doubles gradient = left >= kLanes ? load(constant + k) : load_first(constant + k, left);
      store(times * term<kVariant, true>(gradient, load(sums + k)), weights + k);
    }
  }
  int64_t p = 0;
  for (; p + kLanes <= positions; p += kLanes) dot_positions<kLanes>(a + p * channels, weights, channels, map + p);
  for (; p < positions; ++p) dot_positions<1>(a + p * channels, weights, channels, map + p);
}

// Doubles of workspace that wide_map needs.
inline int64_t wide_scratch(const Job& job) {
  return job.channels_last ? 2 * padded(job.channels) : 2 * (kLanes * job.height * job.width + kLanes);
}

// map [positions, padded] of an image whose memory order is the job's.
template <int kVariant, class T>
DQ_FAST_INLINE void wide_map(const Job& job, const T* a, const T* g, const double* constant, double* map,
                             double* scratch) {
  const int64_t positions = job.height * job.width;
  if (job.channels_last)
    map_channels_last<kVariant, T>(a, g, constant, job.channels, positions, map, scratch,
                                   scratch + padded(job.channels));
  else
    map_channels_first<kVariant, T>(a, g, constant, job.channels, positions, map, scratch);
}

}  // namespace
}  // namespace dq_fast
