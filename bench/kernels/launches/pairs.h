// Sums and inner products of two factors of which one is narrow: dq_fast/ops/cuda/rows.py, _Two.
#pragma once
#include "../../../csrc/cuda/row_sums_launch.h"
#include "launches.h"

// `groups` times: n rows, factors d1 <= kNarrow and d2 float32, whose norms are known.
inline void narrow_pairs(const char* op, const char* name, int64_t n, int64_t d1, int64_t d2, double groups) {
  using namespace dq_fast;
  const double rows = double(n), narrow = rows * double(d1), wide = rows * double(d2);
  const int64_t parts = divided_up(n, pair_part_rows(n, d1, d2));
  const double partial = 8.0 * double(parts * d1 * d2);
  const bool few = parts <= kFewParts;
  const int64_t warps = kRowThreads / 32, pair_rows = 4;
  launch(op, name, "gather_rows<float>", {divided_up(n, warps), kRowThreads, 0, groups}, {12 * narrow, narrow, narrow});
  launch(op, name, "add_pairs<float>", {pair_sums_blocks(d2, parts), kRowThreads, 0, groups},
         {4 * wide + 8 * narrow + partial, double(d1 + 1) * wide, wide});
  launch(op, name, few ? "add_parts<8>" : "add_parts<32>", {add_parts_blocks(d1 * d2, 1), few ? 256 : 1024, 0, groups},
         {partial, partial / 8});
  launch(op, name, "narrow_dots<float>", {divided_up(n, warps * pair_rows), kRowThreads, 0, groups},
         {4 * wide + 8 * narrow + 16 * rows, double(d1 + 2) * wide, wide});
}
