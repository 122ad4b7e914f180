// Launchers of what row sums and graph cut ask of rows besides sums: copies in float64, and two factors.
#pragma once
#include <cstdint>

#include "row_sums.h"

namespace dq_fast {

// out [count, d]: rows list[k] of x, or first + k without a list: (row * inverse - mean) * scale, with mean [d] and
// scale [n] or without either. Of `rows`, table and groups do not matter.
int gather_group_rows(const RowGroups& rows, const RowScales& scales, const int64_t* list, int64_t first, int64_t count,
                      double* out, void* stream);

// Of rows first to first + count of the wide factor x [n, d], y [count, d] = narrow factor @ w: out [count] = <y, h>.
// With a mean [d] of this factor: scale * (<y, h> + <v, h - mean> - constant), v [d], one constant.
int dot_row_pairs(const RowGroups& rows, const RowScales& scales, int64_t first, int64_t count, const double* y,
                  const double* v, const double* constant, double* out, void* stream);

// As dot_row_pairs for all rows, with y = b @ w formed on the way: b [n, d1], d1 <= kNarrow, w [d1, d].
int dot_narrow_pairs(const RowGroups& rows, const RowScales& scales, const double* b, int64_t d1, const double* w,
                     const double* v, const double* constant, double* out, void* stream);

// scale [n], rows first to first + count: 1 / ||b_i (x) h_i - mean||, b [count, d1] normalised, mean [d1, d].
int centre_row_pairs(const RowGroups& rows, const RowScales& scales, int64_t first, int64_t count, const double* b,
                     int64_t d1, void* stream);

}  // namespace dq_fast
