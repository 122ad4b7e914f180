// Launch arithmetic of the row sums, plain C++: tested without a GPU.
#pragma once
#include <cstdint>

namespace dq_fast {

constexpr int kRowSumsThreads = 256;     // 8 warps: each takes a row, enough in flight to hide the reads
constexpr int64_t kRowSumsRows = 512;    // rows of a partial sum: fixed, so that the sum is the same on every GPU
constexpr int64_t kRowSumsParts = 1024;  // partial sums at most; more rows each beyond
constexpr int64_t kRowSumsGrid = 65535;  // blocks at most; kernels stride over the rest

struct RowSumsPlan {
  int64_t rows_per_part;
  int64_t parts;
  unsigned column_blocks;  // of the grid of sums: (column_blocks, parts)
  unsigned row_blocks;     // of the grids with a warp a row
};

inline RowSumsPlan row_sums_plan(int64_t n, int64_t d) {
  const auto divide = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  RowSumsPlan plan;
  plan.rows_per_part = divide(n, kRowSumsParts) > kRowSumsRows ? divide(n, kRowSumsParts) : kRowSumsRows;
  plan.parts = divide(n, plan.rows_per_part);
  plan.column_blocks = unsigned(divide(d, kRowSumsThreads));
  const int64_t blocks = divide(n, kRowSumsThreads / 32);
  plan.row_blocks = unsigned(blocks < kRowSumsGrid ? blocks : kRowSumsGrid);
  return plan;
}

// float64 numbers of workspace: 1 / ||row|| [n], partial sums [parts, d], their sum [d].
inline int64_t row_sums_workspace(int64_t n, int64_t d) { return n + (row_sums_plan(n, d).parts + 1) * d; }

}  // namespace dq_fast
