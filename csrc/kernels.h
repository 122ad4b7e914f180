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

}  // namespace dq_fast
