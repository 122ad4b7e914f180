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
// SIMD runs over positions (NCHW), eight channels at a time, or over channels (NHWC), four positions at a time. The
// second look at a channel (NCHW) or an image (NHWC; 100 KB for 512 x 7 x 7 float32) finds it in the caches.
//
// Two kernels: float32 terms and products with float64 sums (avx2.h: float32 and half inputs, on
// processors with AVX2, FMA and F16C), and float64 throughout in portable vectors (wide.h: all else).
//
// Bytes: activations once, gradients once (not at all, but for [batch, channels], where constant); the scores are
// nothing beside them. Floor: those bytes over the machine's read bandwidth. 256-bit vectors come near it, so that
// there is no 512-bit version.
//
// Float32 instead of float64 for [128, 512, 7, 7] float32, one thread of a Zen 3, ms (fraction of copy bandwidth):
//                        float64      predicted   measured
//   full, paper          3.0 (0.53)   1.9         1.9 (0.90)   eight lanes for four, half the divisions
//   full, torchcam       1.9 (0.83)   1.7         1.8 (0.94)   no conversions
//   full, grad-cam       3.4 (0.47)   1.9         1.9 (0.85)
//   constant, paper      1.7 (0.48)   0.95        1.2 (0.7)    sums without conversions; prefetching gave 0.2 of it
//   constant, torchcam   1.4 (0.58)   0.95        1.1 (0.73)
//   constant, grad-cam   1.6 (0.50)   0.95        1.2 (0.7)
//   full, paper, NHWC    3.8 (0.41)   2.3         2.4 (0.70)
//   full, paper, float16 6.9 (0.11)   1.2         1.4 (0.57)   bound by instructions, not by memory
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../../kernels.h"
#include "avx2_first.h"
#include "avx2_last.h"
#include "job.h"
#include "wide.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace dq_fast {
namespace {

constexpr int kCellPixels = 16;  // the paper's patch: scores are means over 16 x 16 pixels of the upsampled map
constexpr int64_t kParallelFloats = 1 << 15;  // fewer activations than this are done before a second thread wakes

// scores [rows, cols] = R_h relu(map) R_w^T; cells [height + 1, padded(cols)] is workspace.
DQ_FAST_INLINE void average_over_grid(const Job& job, const double* map, double* cells, float* scores) {
  const int64_t height = job.height, width = job.width, stride = padded(job.cols);
  double* line = cells + height * stride;
  for (int64_t i = 0; i < height; ++i)
    for (int64_t q = 0; q < stride; q += kLanes) {
      Doubles total = all(0.0);
      for (int64_t j = 0; j < width; ++j) {
        const double x = map[i * width + j];
        total += (x < 0.0 ? 0.0 : x) * load(job.resize_cols + j * stride + q);
      }
      store(total, cells + i * stride + q);
    }
  for (int64_t r = 0; r < job.rows; ++r) {
    std::fill_n(line, stride, 0.0);
    for (int64_t i = 0; i < height; ++i) {
      const double share = job.resize_rows[r * height + i];
      if (share == 0.0) continue;  // few of the map's rows reach a cell
      for (int64_t q = 0; q < stride; q += kLanes)
        store(load(line + q) + share * load(cells + i * stride + q), line + q);
    }
    for (int64_t q = 0; q < job.cols; ++q) scores[r * job.cols + q] = static_cast<float>(line[q]);
  }
}

float to_float(float x) { return x; }
float to_float(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  return read<float>(&bits);
}
float to_float(Half x) {
  // The exponent's bias by a product (exact, also for subnormal halves), infinities and NaN by their bits.
  const uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  const float scaled = read<float>(&magnitude) * 0x1p112f;
  const bool special = (x.bits & 0x7c00u) == 0x7c00u;
  const uint32_t value = (special ? magnitude | 0x7f800000u : read<uint32_t>(&scaled)) | (x.bits & 0x8000u) << 16;
  return read<float>(&value);
}

// Half numbers as floats; floats and doubles where they lie.
template <class T>
const float* readable(const T* x, int64_t n, double* space) {
  float* wide = reinterpret_cast<float*>(space);
  for (int64_t i = 0; i < n; ++i) wide[i] = to_float(x[i]);
  return wide;
}
const float* readable(const float* x, int64_t, double*) { return x; }
const double* readable(const double* x, int64_t, double*) { return x; }

#ifdef DQ_FAST_AVX2_DISPATCH
// Doubles of workspace that fast_map needs.
inline int64_t fast_scratch(const Job& job) { return job.channels_last ? 2 * padded(job.channels, kWide) : 0; }

// Whether a row fills a vector.
inline bool fast_enough(const Job& job) { return (job.channels_last ? job.channels : job.height * job.width) >= kWide; }

// As wide_map; map is padded to 8. False where the image's numbers leave float32's range: then the map is worthless.
template <int kVariant, class T>
DQ_FAST_AVX2_INLINE bool fast_map(const Job& job, const T* a, const T* g, const double* constant, double* map,
                                  double* scratch) {
  const int64_t positions = job.height * job.width;
  Range range;
  if (job.channels_last)
    fast_channels_last<kVariant, T>(a, g, constant, job.channels, positions, map, scratch,
                                    scratch + padded(job.channels, kWide), range);
  else
    fast_channels_first<kVariant, T>(a, g, constant, job.channels, positions, map, range);
  double largest = 0.0;
  bool finite = true;
  for (int64_t p = 0; p < positions; ++p) {
    const double size = std::fabs(map[p]);
    finite &= size <= kMost;
    largest = std::max(largest, size);
  }
  return finite && largest >= kLeastMap && range.fits<kVariant>();
}

#endif

// Doubles of workspace that an image takes. Halves are kept as floats by the float64 kernel only.
struct Workspace {
  int64_t map, cells, constant, kernel, activations, gradients;

  Workspace(const Job& job, size_t element) {
    const int64_t image = job.channels * job.height * job.width;
    map = padded(job.height * job.width, 2 * kLanes);
    cells = (job.height + 1) * padded(job.cols);
    constant = padded(job.channels);
    kernel = wide_scratch(job);
    activations = element < sizeof(float) ? padded(image) / 2 : 0;
    gradients = job.constant_dtype == kNotConstant ? activations : 0;
#ifdef DQ_FAST_AVX2_DISPATCH
    kernel = std::max(kernel, fast_scratch(job));
#endif
  }
  int64_t total() const { return map + cells + constant + kernel + activations + gradients; }
};

template <class T>
void to_double(const void* from, int64_t first, int64_t n, double* to) {
  const T* x = static_cast<const T*>(from) + first;
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(to_float(x[i]));
}

// n numbers of any type from the given one on, as doubles.
void to_double(const void* from, int dtype, int64_t first, int64_t n, double* to) {
  if (dtype == kFloat64) {
    std::copy_n(static_cast<const double*>(from) + first, n, to);
    return;
  }
  if (dtype == kFloat32) return to_double<float>(from, first, n, to);
  if (dtype == kBFloat16) return to_double<BFloat16>(from, first, n, to);
  return to_double<Half>(from, first, n, to);
}

// One image: its numbers, and its part of a thread's workspace, [map, cells, constant, kernel, halves as floats].
template <class T>
struct Image {
  const T *a, *g = nullptr;
  const double* constant = nullptr;
  float* scores;
  double *map, *cells, *kernel, *floats;

  Image(const Job& job, int64_t image, const Workspace& space, double* scratch)
      : a(static_cast<const T*>(job.activations) + image * job.activation_stride),
        scores(job.scores + image * job.rows * job.cols),
        map(scratch),
        cells(map + space.map),
        kernel(cells + space.cells + space.constant),
        floats(kernel + space.kernel) {
    if (job.constant_dtype == kNotConstant) {
      g = static_cast<const T*>(job.gradients) + image * job.gradient_stride;
    } else {  // here, not for all images at once: that would be a new block of memory at each call
      to_double(job.gradients, job.constant_dtype, image * job.channels, job.channels, cells + space.cells);
      constant = cells + space.cells;
    }
  }
};

using ScoreImage = void (*)(const Job&, int64_t, double*);

// Scores of numbers that are float or double; one function for all types that are read as float.
template <class Real>
using WideScores = void (*)(const Job&, const Real* a, const Real* g, const double* constant, double* map,
                            double* kernel, double* cells, float* scores);

template <int kVariant, class Real>
void wide_scores_base(const Job& job, const Real* a, const Real* g, const double* constant, double* map, double* kernel,
                      double* cells, float* scores) {
  wide_map<kVariant>(job, a, g, constant, map, kernel);
  average_over_grid(job, map, cells, scores);
}

template <class T, class Real>
void wide_image(const Job& job, int64_t image, double* scratch, WideScores<Real> wide_scores) {
  const Workspace space(job, sizeof(T));
  const Image<T> x(job, image, space, scratch);
  const int64_t n = job.channels * job.height * job.width;
  const Real* a = readable(x.a, n, x.floats);
  const Real* g = x.g ? readable(x.g, n, x.floats + space.activations) : nullptr;
  wide_scores(job, a, g, x.constant, x.map, x.kernel, x.cells, x.scores);
}

template <class T>
struct ReadAs {
  using Real = float;
};
template <>
struct ReadAs<double> {
  using Real = double;
};

template <int kVariant, class T>
void wide_image_base(const Job& job, int64_t image, double* scratch) {
  using Real = typename ReadAs<T>::Real;
  wide_image<T, Real>(job, image, scratch, wide_scores_base<kVariant, Real>);
}

#ifdef DQ_FAST_AVX2_DISPATCH
template <int kVariant, class Real>
DQ_FAST_AVX2 void wide_scores_avx2(const Job& job, const Real* a, const Real* g, const double* constant, double* map,
                                   double* kernel, double* cells, float* scores) {
  wide_map<kVariant>(job, a, g, constant, map, kernel);
  average_over_grid(job, map, cells, scores);
}

template <int kVariant, class T>
void wide_image_avx2(const Job& job, int64_t image, double* scratch) {
  using Real = typename ReadAs<T>::Real;
  wide_image<T, Real>(job, image, scratch, wide_scores_avx2<kVariant, Real>);
}

DQ_FAST_AVX2 void average_over_grid_avx2(const Job& job, const double* map, double* cells, float* scores) {
  average_over_grid(job, map, cells, scores);
}

template <int kVariant, class T>
DQ_FAST_AVX2 void fast_image(const Job& job, int64_t image, double* scratch) {
  const Image<T> x(job, image, Workspace(job, sizeof(T)), scratch);
  if (!fast_map<kVariant, T>(job, x.a, x.g, x.constant, x.map, x.kernel))
    return wide_image_avx2<kVariant, T>(job, image, scratch);
  average_over_grid_avx2(job, x.map, x.cells, x.scores);
}

template <int kVariant, class T>
ScoreImage choose_fast(const Job& job, const T*) {
  return fast_enough(job) ? fast_image<kVariant, T> : wide_image_avx2<kVariant, T>;
}
template <int kVariant>
ScoreImage choose_fast(const Job&, const double*) {
  return wide_image_avx2<kVariant, double>;
}
#endif

template <int kVariant, class T>
ScoreImage choose(const Job& job) {
#ifdef DQ_FAST_AVX2_DISPATCH
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return choose_fast<kVariant>(job, static_cast<const T*>(nullptr));
#endif
  return wide_image_base<kVariant, T>;
}

template <class T>
ScoreImage choose_variant(const Job& job, int variant) {
  if (variant == kPaper) return choose<kPaper, T>(job);
  if (variant == kTorchcam) return choose<kTorchcam, T>(job);
  return choose<kGradCam, T>(job);
}

ScoreImage choose_kernel(const Job& job, int dtype, int variant) {
  if (dtype == kFloat32) return choose_variant<float>(job, variant);
  if (dtype == kFloat64) return choose_variant<double>(job, variant);
  if (dtype == kBFloat16) return choose_variant<BFloat16>(job, variant);
  return choose_variant<Half>(job, variant);
}

size_t element_size(int dtype) { return dtype == kFloat64 ? 8 : dtype == kFloat32 ? 4 : 2; }

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

// The same transposed, [size, padded(cells)].
std::vector<double> transposed(const std::vector<double>& matrix, int64_t size, int64_t cells) {
  std::vector<double> turned(static_cast<size_t>(size * padded(cells)), 0.0);
  for (int64_t cell = 0; cell < cells; ++cell)
    for (int64_t i = 0; i < size; ++i) turned[i * padded(cells) + cell] = matrix[cell * size + i];
  return turned;
}

}  // namespace

void patch_scores(const void* activations, int activation_dtype, int64_t activation_stride, const void* gradients,
                  int gradient_dtype, int64_t gradient_stride, bool constant_gradients, bool channels_last, int variant,
                  float* scores, int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t rows,
                  int64_t cols, int threads) {
  if (batch == 0) return;
  const std::vector<double> resize_rows = resize_matrix(height, rows);
  const std::vector<double> resize_cols =
      transposed(width == height && cols == rows ? resize_rows : resize_matrix(width, cols), width, cols);
  const Job job{activations,
                gradients,
                constant_gradients ? gradient_dtype : kNotConstant,
                scores,
                activation_stride,
                gradient_stride,
                channels,
                height,
                width,
                rows,
                cols,
                channels_last,
                resize_rows.data(),
                resize_cols.data()};
  const ScoreImage score = choose_kernel(job, activation_dtype, variant);

  if (batch * channels * height * width < kParallelFloats) threads = 1;
  threads = static_cast<int>(std::min<int64_t>(threads, batch));
  const int64_t per_thread = Workspace(job, element_size(activation_dtype)).total();
  std::vector<double> scratch(static_cast<size_t>(threads * per_thread));
  if (threads == 1) {  // a team of one takes longer to form than a tiny input to score
    for (int64_t image = 0; image < batch; ++image) score(job, image, scratch.data());
    return;
  }
#pragma omp parallel for schedule(static) num_threads(threads)
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
