// The whole native surface: raw pointers, sizes, streams. No type of torch or Python crosses it.
// Shapes stand where things are declared; int64 sizes everywhere; greedy state and long sums are float64.
#pragma once
#include <cstdint>

namespace dq_fast {

// Rows [n, width], contiguous, float32 or float64; rows == nullptr (with width 1) is a factor of ones.
struct Factor {
  const void* rows;
  bool is_float64;
  int64_t width;
};

// s(i, j) = 1/2 + 1/2 c(i, j) if shifted, else c(i, j), with c the product over the two factors of the rows' cosines;
// centred: the cosine of phi_i - mean(phi) with phi = narrow (x) wide, the mean over the group.
struct Embedding {
  Factor wide;
  Factor narrow;
  int64_t n;
  bool shifted;
  bool center;
};

// Rows offsets[g] to offsets[g + 1] are group g; offsets [count + 1] rises from 0 to n.
struct Groups {
  const int64_t* offsets;
  int64_t count;
};

constexpr int64_t kAllFinite = -1;

// out [n]: sum over j in i's group of s(i, j). Returns the first row with a NaN or an infinity, or kAllFinite.
int64_t cosine_row_sums(const Embedding& x, const Groups& groups, int threads, double* out);

// dq_fast/ops/graph_cut.py: METHODS
enum class Method : int { kAuto = 0, kNaive = 1, kGram = 2, kLazy = 3 };

// What is picked: for each group `bins` bins of the given sizes [groups, bins], one after the other.
struct Ranking {
  const int64_t* sizes;
  int64_t bins;
  double lam;
  Method method;
  int64_t* indices;  // out: row numbers in pick order, group after group
  double* gains;     // out: the gain each was picked with
};

// Called now and then, on the calling thread only, with the number of rows ranked so far; true: stop, results do not
// matter.
struct Listener {
  bool (*poll)(void* context, int64_t ranked);
  void* context;
};

// gain(x) = lam * sum_{j in R} s(j, x) - 2 * sum_{b in B} s(b, x), R the group's rows not in an earlier bin, B the bin
// so far. Return values as above.
int64_t graph_cut(const Embedding& x, const Groups& groups, const Ranking& ranking, int threads,
                  const Listener& listener);

// The same for one group whose similarities are given: s [n, n], s[j * n + x] = s(j, x).
int64_t graph_cut_given(const void* s, bool is_float64, int64_t n, const Ranking& ranking, int threads,
                        const Listener& listener);

// Element types of patch_scores' inputs, numbered as in dq_fast/ops/patch_scores.py.
enum Dtype : int { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

// GradCAM++ scores of patches, see cpu/patch_scores.cpp. variant: 0 paper, 1 torchcam, 2 grad-cam.
// activations [batch, channels, height, width], or [batch, height, width, channels] if channels_last; gradients the
// same in the same type, or [batch, channels] of any type if constant_gradients; strides are elements from image to
// image. scores [batch, rows, cols].
void patch_scores(const void* activations, int activation_dtype, int64_t activation_stride, const void* gradients,
                  int gradient_dtype, int64_t gradient_stride, bool constant_gradients, bool channels_last, int variant,
                  float* scores, int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t rows,
                  int64_t cols, int threads);

// ---- CUDA: launchers return a cudaError_t, never allocate and never wait ----

// float64 numbers that cosine_row_sums_cuda needs.
int64_t cosine_row_sums_cuda_workspace(int64_t n, int64_t d);

// x [n, d] float32, one factor, one group; out [n] float64: sum over j of s(i, j), NaN where a row is not finite.
int cosine_row_sums_cuda(const float* x, int64_t n, int64_t d, bool shifted, double* workspace, double* out,
                         void* stream);

}  // namespace dq_fast
