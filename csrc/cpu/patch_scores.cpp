// GradCAM++ scores of patches: channel weights, attention map, and the map averaged over the patch grid, in one pass.
//
// Formula, for an image with activations A [c, h, w] and gradients g of the target logit, S_k = sum_ij A_k,ij:
//   w_k    = sum_ij t(g_k,ij, S_k), zero where g <= 0, by variant
//            paper     t = g / (2 + g S)                     Eq. 4 with the common factor g^2 cancelled: no underflow
//            torchcam  t = g^3
//            grad-cam  t = g * g^2 / (2 g^2 + S g^3 + 1e-6)
//            (g constant over the map: w_k = h w t(g_k, S_k))
//   map    = max(0, sum_k w_k A_k)                           [h, w]
//   scores = R_h map R_w^T                                   [rows, cols]
//   R_h [rows, h] = (average over kCellPixels pixels) . (bilinear, align_corners = false, h -> kCellPixels * rows)
// With signed activations 2 + g S has a pole; a term within kGuard of it counts as 0 (see kGuard).
//
// Mapping: one image is one thread's (OpenMP over images), so that results don't depend on the number of threads. In it
// SIMD runs over positions (NCHW), four channels at a time, or over channels (NHWC), four positions at a time. The
// second look at a channel (NCHW) or an image (NHWC; 100 KB for 512 x 7 x 7 float32) finds it in the caches.
// Everything is summed in double: the denominators need it, and conversion hides behind memory.
//
// Bytes: activations once, gradients once (not at all, but for [batch, channels], where constant); the scores are
// nothing beside them. Floor: those bytes over the machine's read bandwidth. 256-bit vectors reach it, so that there is
// no 512-bit version.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../kernels.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define DQ_FAST_AVX2_DISPATCH 1
#endif
#define DQ_FAST_INLINE inline __attribute__((always_inline))

namespace dq_fast {
namespace {

constexpr int kCellPixels = 16;       // the paper's patch: scores are means over 16 x 16 pixels of the upsampled map
constexpr double kGradCamEps = 1e-6;  // as the grad-cam package
// Within this of the pole the 7th digit of S, which float32 activations don't have, decides even the sign of a weight
// that may be 1e6 times the others': such a term is noise and counts as 0.
constexpr double kGuard = 1e-6;
constexpr int64_t kParallelFloats = 1 << 15;  // fewer activations than this are done before a second thread wakes

enum Variant { kPaper = 0, kTorchcam = 1, kGradCam = 2 };

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

// Four lanes of GCC's and clang's portable vectors: one AVX2 register of doubles, two of SSE2 or NEON.
constexpr int kLanes = 4;
typedef double Doubles __attribute__((vector_size(32)));
typedef int64_t Masks __attribute__((vector_size(32)));
typedef float Floats __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));
typedef uint64_t Pair __attribute__((vector_size(16)));
typedef uint16_t Shorts __attribute__((vector_size(16)));

template <class Vector>
DQ_FAST_INLINE Vector read(const void* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

DQ_FAST_INLINE Doubles load(const double* x) { return read<Doubles>(x); }
DQ_FAST_INLINE Doubles load(const float* x) { return __builtin_convertvector(read<Floats>(x), Doubles); }
// Words of which each has one of four shorts in its upper (lower) half and zeros in the other; little-endian.
template <bool kUpper>
DQ_FAST_INLINE Words spread(const uint16_t* x) {
  uint64_t bits;  // to the vector by a register: a partly written one in memory would stall
  std::memcpy(&bits, x, sizeof bits);
  const Pair pair = {bits, 0};
  const Shorts four = read<Shorts>(&pair), zero = {};
  const Shorts low = kUpper ? zero : four, high = kUpper ? four : zero;
  const Shorts mixed = __builtin_shufflevector(low, high, 0, 8, 1, 9, 2, 10, 3, 11);
  return read<Words>(&mixed);
}
DQ_FAST_INLINE Doubles load(const BFloat16* x) {
  const Words bits = spread<true>(&x->bits);
  return __builtin_convertvector(read<Floats>(&bits), Doubles);
}
DQ_FAST_INLINE Doubles load(const Half* x) {
  // The exponent's bias by a product (exact, also for subnormal halves), infinities and NaN by their bits.
  const Words bits = spread<false>(&x->bits);
  const Words magnitude = (bits & 0x7fffu) << 13;
  const Floats scaled = read<Floats>(&magnitude) * 0x1p112f;
  const Words finite = read<Words>(&scaled);
  const Words special = (bits & 0x7c00u) == 0x7c00u;  // all ones where true
  const Words value = ((special & (magnitude | 0x7f800000u)) | (~special & finite)) | ((bits & 0x8000u) << 16);
  return __builtin_convertvector(read<Floats>(&value), Doubles);
}
DQ_FAST_INLINE void store(Doubles v, double* to) { std::memcpy(to, &v, sizeof v); }

// The first n < kLanes numbers, zeros in the other lanes; reads no further.
template <class T>
DQ_FAST_INLINE Doubles load_first(const T* x, int64_t n) {
  T some[kLanes] = {};
  std::memcpy(some, x, static_cast<size_t>(n) * sizeof(T));
  return load(some);
}

DQ_FAST_INLINE Doubles all(double x) { return Doubles{x, x, x, x}; }

// Lane j: the sum over v[j]'s lanes.
DQ_FAST_INLINE Doubles sums_of(const Doubles (&v)[kLanes]) {
  Doubles total;
  for (int j = 0; j < kLanes; ++j) total[j] = (v[j][0] + v[j][1]) + (v[j][2] + v[j][3]);
  return total;
}

constexpr int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

struct Job {
  const void* activations;
  const void* gradients;            // [batch, h, w, c] or [batch, c, h, w] like the activations; null where constant
  const double* channel_gradients;  // [batch, c]; null where the gradients vary over the map
  float* scores;                    // [batch, rows, cols]
  int64_t activation_stride, gradient_stride;  // elements from image to image
  int64_t channels, height, width, rows, cols;
  int variant;
  bool channels_last;
  const double* resize_rows;  // R_h [rows, height]
  const double* resize_cols;  // R_w [cols, width]
};

DQ_FAST_INLINE bool none_negative(Doubles x) { return x[0] >= 0.0 && x[1] >= 0.0 && x[2] >= 0.0 && x[3] >= 0.0; }

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
  const double guard = kVariant == kPaper ? kGuard : kGuard * kGradCamEps;
  const Doubles size = denominator < 0.0 ? -denominator : denominator;
  return size <= guard ? all(0.0) : value;
}

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

// scores [rows, cols] = R_h relu(map) R_w^T; line [width] is workspace.
DQ_FAST_INLINE void average_over_grid(const Job& job, const double* map, double* line, float* scores) {
  const int64_t height = job.height, width = job.width;
  for (int64_t r = 0; r < job.rows; ++r) {
    std::fill_n(line, width, 0.0);
    for (int64_t i = 0; i < height; ++i) {
      const double share = job.resize_rows[r * height + i];
      if (share == 0.0) continue;  // few of the map's rows reach a cell
      const double* source = map + i * width;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) line[j] += share * (source[j] < 0.0 ? 0.0 : source[j]);
    }
    for (int64_t q = 0; q < job.cols; ++q) {
      const double* share = job.resize_cols + q * width;
      double score = 0.0;
#pragma omp simd reduction(+ : score)
      for (int64_t j = 0; j < width; ++j) score += share[j] * line[j];
      scores[r * job.cols + q] = static_cast<float>(score);
    }
  }
}

// Doubles of workspace: the map, one line of cells, and what the memory order needs.
int64_t scratch_doubles(const Job& job) {
  const int64_t positions = job.height * job.width;
  const int64_t order = job.channels_last ? 2 * padded(job.channels) : 2 * (kLanes * positions + kLanes);
  return padded(positions) + job.width + order;
}

template <int kVariant, class T>
DQ_FAST_INLINE void score_image(const Job& job, int64_t image, double* scratch) {
  const int64_t positions = job.height * job.width;
  const T* a = static_cast<const T*>(job.activations) + image * job.activation_stride;
  const T* g = job.gradients ? static_cast<const T*>(job.gradients) + image * job.gradient_stride : nullptr;
  const double* constant = job.channel_gradients ? job.channel_gradients + image * job.channels : nullptr;
  double* map = scratch;
  double* line = map + padded(positions);
  double* rest = line + job.width;
  if (job.channels_last)
    map_channels_last<kVariant, T>(a, g, constant, job.channels, positions, map, rest, rest + padded(job.channels));
  else
    map_channels_first<kVariant, T>(a, g, constant, job.channels, positions, map, rest);
  average_over_grid(job, map, line, job.scores + image * job.rows * job.cols);
}

using ScoreImage = void (*)(const Job&, int64_t, double*);

template <int kVariant, class T>
void score_image_base(const Job& job, int64_t image, double* scratch) {
  score_image<kVariant, T>(job, image, scratch);
}

#ifdef DQ_FAST_AVX2_DISPATCH
template <int kVariant, class T>
__attribute__((target("avx2,fma"))) void score_image_avx2(const Job& job, int64_t image, double* scratch) {
  score_image<kVariant, T>(job, image, scratch);
}
#endif

template <int kVariant, class T>
ScoreImage choose() {
#ifdef DQ_FAST_AVX2_DISPATCH
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return score_image_avx2<kVariant, T>;
#endif
  return score_image_base<kVariant, T>;
}

template <class T>
ScoreImage choose_variant(int variant) {
  if (variant == kPaper) return choose<kPaper, T>();
  if (variant == kTorchcam) return choose<kTorchcam, T>();
  return choose<kGradCam, T>();
}

// R [cells, size]: share of each of `size` map positions in each cell's mean.
std::vector<double> resize_matrix(int64_t size, int64_t cells) {
  std::vector<double> matrix(static_cast<size_t>(size * cells), 0.0);
  const double scale = static_cast<double>(size) / static_cast<double>(cells * kCellPixels);
  for (int64_t pixel = 0; pixel < cells * kCellPixels; ++pixel) {
    double* row = matrix.data() + (pixel / kCellPixels) * size;
    const double place = std::max(0.0, (static_cast<double>(pixel) + 0.5) * scale - 0.5);
    const int64_t low = std::min(static_cast<int64_t>(place), size - 1);
    const int64_t high = std::min(low + 1, size - 1);
    const double share = std::min(place - static_cast<double>(low), 1.0);
    row[low] += (1.0 - share) / kCellPixels;
    row[high] += share / kCellPixels;
  }
  return matrix;
}

template <class T>
void to_double(const T* from, int64_t n, double* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(load(from + i), to + i);
  if (i == n) return;  // with no channels there may be no memory at all
  const Doubles last = load_first(from + i, n - i);
  std::memcpy(to + i, &last, static_cast<size_t>(n - i) * sizeof(double));
}

void to_double(const void* from, int dtype, int64_t n, double* to) {
  if (dtype == kFloat32) return to_double(static_cast<const float*>(from), n, to);
  if (dtype == kFloat64) return to_double(static_cast<const double*>(from), n, to);
  if (dtype == kBFloat16) return to_double(static_cast<const BFloat16*>(from), n, to);
  return to_double(static_cast<const Half*>(from), n, to);
}

}  // namespace

void patch_scores(const void* activations, int activation_dtype, int64_t activation_stride, const void* gradients,
                  int gradient_dtype, int64_t gradient_stride, bool constant_gradients, bool channels_last, int variant,
                  float* scores, int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t rows,
                  int64_t cols, int threads) {
  if (batch == 0) return;
  const std::vector<double> resize_rows = resize_matrix(height, rows);
  const std::vector<double> resize_cols = resize_matrix(width, cols);
  std::vector<double> channel_gradients;
  if (constant_gradients) {
    channel_gradients.resize(static_cast<size_t>(batch * channels));
    to_double(gradients, gradient_dtype, batch * channels, channel_gradients.data());
  }
  const Job job{activations,
                constant_gradients ? nullptr : gradients,
                constant_gradients ? channel_gradients.data() : nullptr,
                scores,
                activation_stride,
                gradient_stride,
                channels,
                height,
                width,
                rows,
                cols,
                variant,
                channels_last,
                resize_rows.data(),
                resize_cols.data()};
  ScoreImage score;
  if (activation_dtype == kFloat32)
    score = choose_variant<float>(variant);
  else if (activation_dtype == kFloat64)
    score = choose_variant<double>(variant);
  else if (activation_dtype == kBFloat16)
    score = choose_variant<BFloat16>(variant);
  else
    score = choose_variant<Half>(variant);

  if (batch * channels * height * width < kParallelFloats) threads = 1;
  threads = static_cast<int>(std::min<int64_t>(threads, batch));
  const int64_t per_thread = scratch_doubles(job);
  std::vector<double> scratch(static_cast<size_t>(threads * per_thread));
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t image = 0; image < batch; ++image) {
#ifdef _OPENMP
    const int thread = omp_get_thread_num();
#else
    const int thread = 0;
#endif
    score(job, image, scratch.data() + thread * per_thread);
  }
}

}  // namespace dq_fast
