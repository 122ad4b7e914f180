// Launch arithmetic of the passes over rows, plain C++: tested without a GPU. It asks for sizes only, never for the
// device, so that sums are added in the same order, to the same bits, on every GPU.
#pragma once
#include <cstdint>

namespace dq_fast {

constexpr int kRowThreads = 256;  // of a block: several blocks a multiprocessor hide each other's barriers
constexpr int kRowColumns = 24;   // that a thread keeps a sum of, at most: 48 registers
constexpr int64_t kTileBytes =
    32768;  // of rows in shared memory: four blocks a multiprocessor keep 128 KB on their way
constexpr int kTileRows = kRowThreads;  // of a tile at most: a thread a row turns sums into norms
constexpr int64_t kPartRows = 32;       // of a partial sum at least: writing it costs 8 bytes a column
constexpr int64_t kParts = 1024;        // about so many partial sums: two waves of an H100's 132 * 4 blocks
constexpr int64_t kPartFields = 4;      // of a line of the table of parts: first row, end, group, rows of the group
constexpr int kAddColumns = 32;         // of a block that adds parts: a warp reads 256 bytes in a row
constexpr int64_t kFewParts = 64;       // of a group: 8 warps add them soon enough; more take 32

constexpr int kNarrow = 16;                // columns of a narrow factor whose sums a thread keeps in registers
constexpr int64_t kPairTile = 32;          // rows of it in shared memory at a time
constexpr int64_t kPairPartRows = 64;      // rows of a partial sum [d1, d2] at least
constexpr int64_t kPairParts = 512;        // about so many of them, fewer where
constexpr int64_t kPairNumbers = 1 << 22;  // they would be more than 32 MB

inline int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks that a multiprocessor has registers for, at least: told to the compiler, which else spills a few to reach the
// next step of its own.
constexpr int kReduceBlocks = 4;                                             // 64 registers a thread
constexpr int add_rows_blocks(int columns) { return columns <= 2 ? 4 : 2; }  // 64 or 128

struct RowPlan {
  bool wide;              // rows too wide for a tile are read from global memory: three times, not twice
  int tile_rows;          // rows of a tile
  int team;               // threads, a power of two, that sum over a row; from 64 on they are several warps
  int slices;             // of a tile's rows, each with its own partial sum: narrow rows leave threads for several
  int columns;            // a thread's, at most
  int64_t rows_per_part;  // rows of a partial sum (of `slices` of them), all of one group
  int64_t shared;         // bytes of dynamic shared memory
};

// n: rows of all groups; d: width; element: bytes of a number.
inline RowPlan row_plan(int64_t n, int64_t d, int element) {
  RowPlan plan{};
  plan.wide = d > kRowThreads * kRowColumns;
  const int64_t fit = plan.wide ? 1 : kTileBytes / (d * element);
  if (fit < kRowThreads / 32) {
    plan.tile_rows = fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
    plan.team = kRowThreads / plan.tile_rows;
  } else {  // a lane adds about eight numbers before it asks its neighbours for theirs
    plan.team = d <= 32 ? 4 : d <= 64 ? 8 : d <= 128 ? 16 : 32;
    const int teams = kRowThreads / plan.team;
    plan.tile_rows = int(fit < kTileRows ? fit : kTileRows) / teams * teams;
  }
  plan.slices = d <= 32 ? 8 : d <= 64 ? 4 : d <= 128 ? 2 : 1;
  plan.columns = d <= kRowThreads ? 1 : d <= 2 * kRowThreads ? 2 : d <= 8 * kRowThreads ? 8 : kRowColumns;
  const int64_t rows = divided_up(n, kParts) > kPartRows ? divided_up(n, kParts) : kPartRows;
  plan.rows_per_part = divided_up(rows, plan.tile_rows) * plan.tile_rows;
  // A tile lies in shared memory as its rows lie in global memory modulo 16 bytes.
  plan.shared = plan.wide ? 0 : divided_up(plan.tile_rows * d * element, 16) * 16 + 16;
  return plan;
}

// Parts of all groups; offsets [groups + 1], null for one group of n rows.
inline int64_t row_parts(const RowPlan& plan, int64_t n, const int64_t* offsets, int64_t groups) {
  if (!offsets) return divided_up(n, plan.rows_per_part);
  int64_t parts = 0;
  for (int64_t g = 0; g < groups; ++g) parts += divided_up(offsets[g + 1] - offsets[g], plan.rows_per_part);
  return parts;
}

// The table [parts, kPartFields] of all parts in order, and after it the first part of each group, and their number
// [groups + 1].
inline void row_table(const RowPlan& plan, const int64_t* offsets, int64_t groups, int64_t parts, int64_t* table) {
  int64_t* first = table + parts * kPartFields;
  int64_t part = 0;
  for (int64_t g = 0; g < groups; ++g) {
    first[g] = part;
    for (int64_t i = offsets[g]; i < offsets[g + 1]; i += plan.rows_per_part, ++part) {
      int64_t* line = table + part * kPartFields;
      line[0] = i;
      line[1] = i + plan.rows_per_part < offsets[g + 1] ? i + plan.rows_per_part : offsets[g + 1];
      line[2] = g;
      line[3] = offsets[g + 1] - offsets[g];
    }
  }
  first[groups] = part;
}

// Rows of a partial sum [d1, d2] of n rows of two factors.
inline int64_t pair_part_rows(int64_t n, int64_t d1, int64_t d2) {
  const int64_t by_parts = divided_up(n, kPairParts), by_memory = divided_up(n * d1, divided_up(kPairNumbers, d2));
  const int64_t rows = by_parts > by_memory ? by_parts : by_memory;
  return divided_up(rows > kPairPartRows ? rows : kPairPartRows, kPairTile) * kPairTile;
}

// Blocks of each grid; grids are one-dimensional, whose limit is 2^31 - 1.
inline int64_t add_parts_blocks(int64_t d, int64_t groups) { return groups * divided_up(d, kAddColumns); }
inline int64_t pair_sums_blocks(int64_t d2, int64_t parts) { return parts * divided_up(d2, kRowThreads); }
inline int64_t wide_sums_blocks(int64_t d, int64_t parts) { return parts * divided_up(d, kRowThreads); }

}  // namespace dq_fast
