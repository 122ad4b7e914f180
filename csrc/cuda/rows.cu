#include "rows.h"

#include "row_pairs.cuh"
#include "row_types.h"

namespace dq_fast {
namespace {

unsigned warp_blocks(int64_t count) { return unsigned(divided_up(count, kRowThreads / 32)); }

}  // namespace

int gather_group_rows(const RowGroups& g, const RowScales& s, const int64_t* list, int64_t first, int64_t count,
                      double* out, void* stream) {
  if (count == 0) return cudaSuccess;
  return with_type(g.dtype, [&](auto type) -> int {
    using T = typename decltype(type)::type;
    constexpr auto kernel = gather_rows<T>;
    DQ_LAUNCH(kernel, warp_blocks(count), kRowThreads, 0, static_cast<cudaStream_t>(stream), static_cast<const T*>(g.x),
              g.d, list, first, count, s.inverse, s.mean, s.scale, out);
    return cudaGetLastError();
  });
}

int dot_row_pairs(const RowGroups& g, const RowScales& s, int64_t first, int64_t count, const double* y,
                  const double* v, const double* constant, double* out, void* stream) {
  if (count == 0) return cudaSuccess;
  return with_type(g.dtype, [&](auto type) -> int {
    using T = typename decltype(type)::type;
    constexpr auto kernel = pair_dots<T>;
    DQ_LAUNCH(kernel, warp_blocks(count), kRowThreads, 0, static_cast<cudaStream_t>(stream), static_cast<const T*>(g.x),
              g.d, first, count, y, s.inverse, s.mean, v, constant, s.scale, out);
    return cudaGetLastError();
  });
}

int dot_narrow_pairs(const RowGroups& g, const RowScales& s, const double* b, int64_t d1, const double* w,
                     const double* v, const double* constant, double* out, void* stream) {
  if (d1 > kNarrow || g.n == 0) return cudaErrorInvalidValue;
  return with_type(g.dtype, [&](auto type) -> int {
    using T = typename decltype(type)::type;
    constexpr auto kernel = narrow_dots<T>;
    DQ_LAUNCH(kernel, warp_blocks(divided_up(g.n, kPairRows)), kRowThreads, 0, static_cast<cudaStream_t>(stream),
              static_cast<const T*>(g.x), int(d1), g.d, g.n, b, w, s.inverse, s.mean, v, constant, s.scale, out);
    return cudaGetLastError();
  });
}

int centre_row_pairs(const RowGroups& g, const RowScales& s, int64_t first, int64_t count, const double* b, int64_t d1,
                     void* stream) {
  if (count == 0) return cudaSuccess;
  return with_type(g.dtype, [&](auto type) -> int {
    using T = typename decltype(type)::type;
    constexpr auto kernel = centred_norms<T>;
    DQ_LAUNCH(kernel, unsigned(divided_up(count, kPairRows)), kRowThreads, 0, static_cast<cudaStream_t>(stream),
              static_cast<const T*>(g.x), d1, g.d, first, count, b, s.inverse, s.mean, s.scale);
    return cudaGetLastError();
  });
}

}  // namespace dq_fast
