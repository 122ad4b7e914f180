// Launchers of the cosine row sums: norms, sums and inner products of the rows of one factor, all groups at once. Like
// all of csrc/cuda they return a cudaError_t, never allocate and never wait.
#pragma once
#include <cstdint>

#include "../kernels.h"

namespace dq_fast {

// Rows x [n, d], contiguous, of a Dtype other than kFloat64, aligned to their elements. The table is that of row_table
// (row_sums_launch.h) on the device with its `parts` lines; null: one group of n rows.
struct RowGroups {
  const void* x;
  int dtype;
  int64_t n, d;
  const int64_t* table;
  int64_t parts, groups;
};

// Parts of these groups, and float64 numbers of workspace that add_group_rows needs; offsets [groups + 1] on the host.
int64_t row_sums_parts(int dtype, int64_t n, int64_t d, const int64_t* offsets, int64_t groups);
int64_t row_sums_workspace(int dtype, int64_t n, int64_t d, int64_t parts);
// Writes the table on the host: int64 [parts * 4 + groups + 1].
void row_sums_table(int dtype, int64_t n, int64_t d, const int64_t* offsets, int64_t groups, int64_t parts,
                    int64_t* table);

// What makes the rows of a group norm 1: inverse [n] = 1 / ||x_i||, 0 for zero rows, NaN for rows that are not finite;
// where rows are centred also mean [groups, d] of the normalised rows and scale [n] = 1 / ||x_i - mean||.
struct RowScales {
  double* inverse;
  const double* mean;
  double* scale;
};

// total [groups, d]: sum of each group's rows, or their average. Without a mean inverse is written; with one it is
// read, and scale is written.
int add_group_rows(const RowGroups& rows, const RowScales& scales, bool average, double* workspace, double* total,
                   void* stream);

// out [n]: <row, w> with w [groups, d]; shifted: half of it and half the rows of the group.
int dot_group_rows(const RowGroups& rows, const RowScales& scales, const double* w, bool shifted, double* out,
                   void* stream);

// total [d1, d]: sum of b_i (x) (x_i - mean) over all rows, x_i normalised, mean [d] or none, b [n, d1], d1 <= kNarrow.
// Table and groups do not matter.
int64_t pair_sums_workspace(int64_t n, int64_t d1, int64_t d);
int add_narrow_pairs(const RowGroups& rows, const RowScales& scales, const double* b, int64_t d1, double* workspace,
                     double* total, void* stream);

}  // namespace dq_fast
