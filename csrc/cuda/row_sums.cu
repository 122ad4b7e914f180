#include "row_sums.h"

#include "row_pairs.cuh"
#include "row_sums.cuh"
#include "row_sums_launch.h"
#include "row_types.h"

namespace dq_fast {
namespace {

// Sums of parts [parts * slices, d].
template <class T, bool kCenter>
cudaError_t add(const RowGroups& g, const RowPlan& plan, const RowScales& s, double* part, cudaStream_t on) {
  const T* x = static_cast<const T*>(g.x);
  if (plan.wide) {
    constexpr RowReduction kNorm = kCenter ? RowReduction::kScale : RowReduction::kInverse;
    constexpr auto norms = reduce_rows<T, kNorm, kCenter, false>;
    DQ_LAUNCH(norms, unsigned(g.parts), kRowThreads, 0, on, x, g.n, g.d, g.table, plan.rows_per_part, plan.tile_rows,
              plan.team, s.inverse, s.mean, nullptr, nullptr, false, kCenter ? s.scale : s.inverse);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
    constexpr auto sums = add_wide_rows<T, kCenter>;
    DQ_LAUNCH(sums, unsigned(wide_sums_blocks(g.d, g.parts)), kRowThreads, 0, on, x, g.n, g.d, g.table,
              plan.rows_per_part, s.inverse, s.mean, s.scale, part);
    return cudaGetLastError();
  }
  const auto kernel = plan.columns == 1   ? add_rows<T, 1, kCenter>
                      : plan.columns == 2 ? add_rows<T, 2, kCenter>
                      : plan.columns == 8 ? add_rows<T, 8, kCenter>
                                          : add_rows<T, kRowColumns, kCenter>;
  DQ_LAUNCH(kernel, unsigned(g.parts), kRowThreads, size_t(plan.shared), on, x, g.n, g.d, g.table, plan.rows_per_part,
            plan.tile_rows, plan.team, plan.slices, s.mean, s.inverse, s.scale, part);
  return cudaGetLastError();
}

}  // namespace

int64_t row_sums_parts(int dtype, int64_t n, int64_t d, const int64_t* offsets, int64_t groups) {
  return row_parts(row_plan(n, d, element_bytes(dtype)), n, offsets, groups);
}

int64_t row_sums_workspace(int dtype, int64_t n, int64_t d, int64_t parts) {
  return parts * row_plan(n, d, element_bytes(dtype)).slices * d;
}

void row_sums_table(int dtype, int64_t n, int64_t d, const int64_t* offsets, int64_t groups, int64_t parts,
                    int64_t* table) {
  row_table(row_plan(n, d, element_bytes(dtype)), offsets, groups, parts, table);
}

int add_group_rows(const RowGroups& g, const RowScales& scales, bool average, double* workspace, double* total,
                   void* stream) {
  if (g.groups == 0) return cudaSuccess;
  const RowPlan plan = row_plan(g.n, g.d, element_bytes(g.dtype));
  const auto on = static_cast<cudaStream_t>(stream);
  if (g.parts > 0) {
    const int error = with_type(g.dtype, [&](auto type) -> int {
      using T = typename decltype(type)::type;
      return scales.mean ? add<T, true>(g, plan, scales, workspace, on) : add<T, false>(g, plan, scales, workspace, on);
    });
    if (error != cudaSuccess) return error;
  }
  const bool few = g.parts * plan.slices <= kFewParts * g.groups;
  const auto kernel = few ? add_parts<8> : add_parts<32>;
  DQ_LAUNCH(kernel, unsigned(add_parts_blocks(g.d, g.groups)), few ? 256 : 1024, 0, on, workspace, g.table,
            g.table ? g.table + g.parts * kPartFields : nullptr, g.parts, plan.slices, g.n, g.d, average, total);
  return cudaGetLastError();
}

int dot_group_rows(const RowGroups& g, const RowScales& s, const double* w, bool shifted, double* out, void* stream) {
  if (g.parts == 0) return cudaSuccess;
  const RowPlan plan = row_plan(g.n, g.d, element_bytes(g.dtype));
  const auto on = static_cast<cudaStream_t>(stream);
  return with_type(g.dtype, [&](auto type) -> int {
    using T = typename decltype(type)::type;
    constexpr auto kDot = RowReduction::kDot;
    const auto kernel = plan.wide ? (s.mean ? reduce_rows<T, kDot, true, false> : reduce_rows<T, kDot, false, false>)
                                  : (s.mean ? reduce_rows<T, kDot, true, true> : reduce_rows<T, kDot, false, true>);
    DQ_LAUNCH(kernel, unsigned(g.parts), kRowThreads, size_t(plan.shared), on, static_cast<const T*>(g.x), g.n, g.d,
              g.table, plan.rows_per_part, plan.tile_rows, plan.team, s.inverse, s.mean, s.scale, w, shifted, out);
    return cudaGetLastError();
  });
}

int64_t pair_sums_workspace(int64_t n, int64_t d1, int64_t d) {
  return divided_up(n, pair_part_rows(n, d1, d)) * d1 * d;
}

int add_narrow_pairs(const RowGroups& g, const RowScales& s, const double* b, int64_t d1, double* workspace,
                     double* total, void* stream) {
  if (d1 > kNarrow || g.n == 0) return cudaErrorInvalidValue;
  const auto on = static_cast<cudaStream_t>(stream);
  const int64_t rows = pair_part_rows(g.n, d1, g.d), parts = divided_up(g.n, rows), numbers = d1 * g.d;
  const int error = with_type(g.dtype, [&](auto type) -> int {
    using T = typename decltype(type)::type;
    constexpr auto kernel = add_pairs<T>;
    DQ_LAUNCH(kernel, unsigned(pair_sums_blocks(g.d, parts)), kRowThreads, 0, on, static_cast<const T*>(g.x), int(d1),
              g.d, g.n, rows, b, s.inverse, s.mean, workspace);
    return cudaGetLastError();
  });
  if (error != cudaSuccess) return error;
  const auto kernel = parts <= kFewParts ? add_parts<8> : add_parts<32>;
  DQ_LAUNCH(kernel, unsigned(add_parts_blocks(numbers, 1)), parts <= kFewParts ? 256 : 1024, 0, on, workspace, nullptr,
            nullptr, parts, 1, g.n, numbers, false, total);
  return cudaGetLastError();
}

}  // namespace dq_fast
