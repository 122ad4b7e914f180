// out_i = sum_j s(i, j) over i's group = n/2 + <phi_i, M>/2 (or <phi_i, M>), M = sum_j phi_j, phi = b (x) h normalised.
//
// Mapping: groups in order, rows of a group in chunks over the threads; a chunk adds its own M, and the M are added in
// order. Bytes: two reads of the rows (three if centred: the mean comes first); while a
// block of rows is worked on, the next one is asked for. One factor is bound by them: floor 2 n
// d * bytes. Two factors are bound by 2 * 2 n d1 d2 float64 products; M stays in the cache.
#include "rows.h"

namespace dq_fast {
namespace {

constexpr double kParallel = 1 << 15;  // numbers: below, waking threads costs more than the work

}  // namespace

int64_t cosine_row_sums(const Embedding& x, const Groups& groups, int threads, double* out) {
  if (!is_valid(groups, x.n)) return kInvalid;
  if (double(x.n) * double(x.wide.width) * double(x.narrow.width) < kParallel) threads = 1;
  int64_t bad = kAllFinite;
  const auto group_sums = [&](int64_t g, int inner) {
    const int64_t begin = groups.offsets[g], n = groups.offsets[g + 1] - begin;
    if (n == 0) return;
    const Rows rows(x, begin, n, inner);
    if (rows.first_bad() != kAllFinite) {
#pragma omp critical(dq_fast_first_bad)
      if (bad == kAllFinite || begin + rows.first_bad() < bad) bad = begin + rows.first_bad();
      return;
    }
    rows.dots(rows.total(), out + begin);
    if (x.shifted)
      for (int64_t i = begin; i < begin + n; ++i) out[i] = 0.5 * double(n) + 0.5 * out[i];
  };
  if (groups.count >= 2 * threads && threads > 1) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t g = 0; g < groups.count; ++g) group_sums(g, 1);
  } else {
    for (int64_t g = 0; g < groups.count; ++g) group_sums(g, threads);
  }
  return bad;
}

}  // namespace dq_fast
