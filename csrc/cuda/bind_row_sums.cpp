#include <tuple>

#include "bind.h"
#include "row_sums_launch.h"
#include "rows.h"

namespace dq_fast {
namespace {

// As dq_fast/ops/cuda/rows.py gives them: address, Dtype, n, d, and address of the table (0 for none), parts, groups.
using Groups7 = std::tuple<uintptr_t, int, int64_t, int64_t, uintptr_t, int64_t, int64_t>;
using Scales3 = std::tuple<uintptr_t, uintptr_t, uintptr_t>;  // inverse, mean, scale; 0 for none

RowGroups rows_of(const Groups7& g) {
  const auto [x, dtype, n, d, table, parts, groups] = g;
  return {at<const void>(x), dtype, n, d, at<const int64_t>(table), parts, groups};
}

RowScales scales_of(const Scales3& s) {
  const auto [inverse, mean, scale] = s;
  return {at<double>(inverse), at<const double>(mean), at<double>(scale)};
}

int64_t parts(int dtype, int64_t n, int64_t d, uintptr_t offsets, int64_t groups) {
  return row_sums_parts(dtype, n, d, at<const int64_t>(offsets), groups);
}

void table(int dtype, int64_t n, int64_t d, uintptr_t offsets, int64_t groups, int64_t count, uintptr_t out) {
  row_sums_table(dtype, n, d, at<const int64_t>(offsets), groups, count, at<int64_t>(out));
}

void add(const Groups7& g, const Scales3& s, bool average, uintptr_t workspace, uintptr_t total, uintptr_t stream) {
  check("add_group_rows",
        add_group_rows(rows_of(g), scales_of(s), average, at<double>(workspace), at<double>(total), at<void>(stream)));
}

void dot(const Groups7& g, const Scales3& s, uintptr_t w, bool shifted, uintptr_t out, uintptr_t stream) {
  check("dot_group_rows",
        dot_group_rows(rows_of(g), scales_of(s), at<const double>(w), shifted, at<double>(out), at<void>(stream)));
}

void gather(const Groups7& g, const Scales3& s, uintptr_t list, int64_t first, int64_t count, uintptr_t out,
            uintptr_t stream) {
  check("gather_group_rows", gather_group_rows(rows_of(g), scales_of(s), at<const int64_t>(list), first, count,
                                               at<double>(out), at<void>(stream)));
}

void dot_pairs(const Groups7& g, const Scales3& s, int64_t first, int64_t count, uintptr_t y, uintptr_t v,
               uintptr_t constant, uintptr_t out, uintptr_t stream) {
  check("dot_row_pairs", dot_row_pairs(rows_of(g), scales_of(s), first, count, at<const double>(y), at<const double>(v),
                                       at<const double>(constant), at<double>(out), at<void>(stream)));
}

void dot_narrow(const Groups7& g, const Scales3& s, uintptr_t b, int64_t d1, uintptr_t w, uintptr_t v,
                uintptr_t constant, uintptr_t out, uintptr_t stream) {
  check("dot_narrow_pairs",
        dot_narrow_pairs(rows_of(g), scales_of(s), at<const double>(b), d1, at<const double>(w), at<const double>(v),
                         at<const double>(constant), at<double>(out), at<void>(stream)));
}

void add_narrow(const Groups7& g, const Scales3& s, uintptr_t b, int64_t d1, uintptr_t workspace, uintptr_t total,
                uintptr_t stream) {
  check("add_narrow_pairs", add_narrow_pairs(rows_of(g), scales_of(s), at<const double>(b), d1, at<double>(workspace),
                                             at<double>(total), at<void>(stream)));
}

void centre_pairs(const Groups7& g, const Scales3& s, int64_t first, int64_t count, uintptr_t b, int64_t d1,
                  uintptr_t stream) {
  check("centre_row_pairs",
        centre_row_pairs(rows_of(g), scales_of(s), first, count, at<const double>(b), d1, at<void>(stream)));
}

}  // namespace

void bind_row_sums(pybind11::module_& m) {
  m.def("row_sums_parts", &parts);
  m.def("row_sums_workspace", &row_sums_workspace);
  m.def("row_sums_table", &table);
  m.def("add_group_rows", &add);
  m.def("dot_group_rows", &dot);
  m.def("gather_group_rows", &gather);
  m.def("dot_row_pairs", &dot_pairs);
  m.def("dot_narrow_pairs", &dot_narrow);
  m.def("add_narrow_pairs", &add_narrow);
  m.def("pair_sums_workspace", &pair_sums_workspace);
  m.attr("narrow_factor") = kNarrow;
  m.def("centre_row_pairs", &centre_pairs);
}

}  // namespace dq_fast
