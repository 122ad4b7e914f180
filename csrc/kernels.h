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
constexpr int64_t kInvalid = -2;  // offsets or sizes that are not as declared: nothing was read, nothing written

// Whether offsets are as above and, where sizes [count] are given, 0 <= sizes[g] <= the rows of group g.
bool is_valid(const Groups& groups, int64_t n, const int64_t* sizes = nullptr);

// out [n]: sum over j in i's group of s(i, j). Returns the first row with a NaN or an infinity, kAllFinite or kInvalid.
int64_t cosine_row_sums(const Embedding& x, const Groups& groups, int threads, double* out);

// dq_fast/ops/graph_cut.py: METHODS
enum class Method : int { kAuto = 0, kNaive = 1, kGram = 2, kLazy = 3 };

// sizes [count, bins] of bins that take all rows of each group: they differ by at most one, larger first.
// dq_fast/ops/graph_cut_torch.py: bin_sizes
void bin_sizes(const Groups& groups, int64_t bins, int64_t* sizes);

// How a ranking went.
struct Trace {
  // Groups that were finished by similarities of each pick with the rows left, of all pairs, and by bounds.
  int64_t naive, gram, lazy;
  int64_t switched;   // of them, those that began another way
  int64_t rows;       // rows read, again each time
  int64_t bytes;      // of them, as the caller has them
  int64_t decisions;  // rows whose gains were compared in float64, where float32 left doubt
};

// What is picked: for each group `bins` bins of the given sizes [groups, bins], one after the other.
struct Ranking {
  const int64_t* sizes;
  int64_t bins;
  double lam;
  Method method;
  int64_t* indices;  // out: row numbers in pick order, group after group
  double* gains;     // out: the gain each was picked with
  Trace* trace;      // out, added to; may be null
};

// How many groups are ranked in which way, as in Trace.
struct Ways {
  int64_t naive, gram, lazy;
};

// What method comes to for groups in `bins` bins, before any row is looked at; looseness: the share of some rows'
// squares outside the directions of bounds, from which on bounds will be given up. They may still turn out otherwise.
Ways graph_cut_ways(int64_t d1, int64_t d2, bool has_narrow, bool center, const Groups& groups, int64_t bins,
                    Method method, double looseness);

// Called now and then, on the calling thread only, with the number of rows ranked so far; true: stop, results do not
// matter.
struct Listener {
  bool (*poll)(void* context, int64_t ranked);
  void* context;
};

// Of a ranking of all rows in bins: bin_of [n], and gains [n] by row from gains in pick order.
void by_row(const Groups& groups, const Ranking& ranking, int64_t* bin_of, double* gains);

// gain(x) = lam * sum_{j in R} s(j, x) - 2 * sum_{b in B} s(b, x), R the group's rows not in an earlier bin, B the bin
// so far. Returns the first row that is not finite, or kAllFinite; groups and sizes are taken to be valid.
int64_t graph_cut(const Embedding& x, const Groups& groups, const Ranking& ranking, int threads,
                  const Listener& listener);

// The same for one group whose similarities are given: s [n, n], s[j * n + x] = s(j, x).
int64_t graph_cut_given(const void* s, bool is_float64, int64_t n, const Ranking& ranking, int threads,
                        const Listener& listener);

// Element types of patch_scores' inputs, numbered as in dq_fast/ops/patch_scores.py.
enum Dtype : int { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

// GradCAM++ scores of patches, see cpu/patch_scores/patch_scores.cpp. variant: 0 paper, 1 torchcam, 2 grad-cam.
// activations [batch, channels, height, width], or [batch, height, width, channels] if channels_last; gradients the
// same in the same type, or [batch, channels] of any type if constant_gradients; strides are elements from image to
// image. scores [batch, rows, cols].
void patch_scores(const void* activations, int activation_dtype, int64_t activation_stride, const void* gradients,
                  int gradient_dtype, int64_t gradient_stride, bool constant_gradients, bool channels_last, int variant,
                  float* scores, int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t rows,
                  int64_t cols, int threads);

}  // namespace dq_fast
