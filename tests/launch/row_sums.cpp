// Launch arithmetic of the passes over rows: tiles, teams, parts of groups and their table.
#include "../../csrc/cuda/row_sums_launch.h"

#include "checks.h"

using namespace dq_fast;

namespace {

bool is_power_of_two(int64_t v) { return v > 0 && (v & (v - 1)) == 0; }

// Static shared memory of add_rows: three float64 numbers for each row of a tile.
constexpr int64_t kStatic = 3 * 8 * kTileRows;

void plan_of(int64_t n, int64_t d, int element) {
  const std::string where = at(n, d) + ", " + std::to_string(element) + " bytes";
  const RowPlan plan = row_plan(n, d, element);
  expect(plan.tile_rows >= 1 && plan.tile_rows <= kTileRows, "rows of a tile", where);
  expect(is_power_of_two(plan.team) && kRowThreads % plan.team == 0, "a team does not divide a block", where);
  expect(plan.rows_per_part >= kPartRows || plan.rows_per_part % plan.tile_rows == 0, "a part ends within a tile",
         where);
  expect(plan.rows_per_part % plan.tile_rows == 0, "a part ends within a tile", where);
  expect(kRowThreads % plan.slices == 0, "slices do not divide a block", where);
  if (!plan.wide) {
    expect(int64_t(plan.columns) * kRowThreads >= d, "columns left out", where);
    expect(plan.columns <= kRowColumns, "more columns than there are registers for", where);
    expect(plan.slices == 1 || kRowThreads / plan.slices >= d, "a slice has fewer threads than columns", where);
    // 16 bytes: where the first row begins, modulo 16
    expect(plan.shared >= plan.tile_rows * d * element + 16, "a tile does not fit into its memory", where);
  }
  // the sums of a row's warps have room for kTileRows numbers
  expect(plan.tile_rows * (plan.team > 32 ? plan.team / 32 : 1) <= kTileRows, "sums of a tile", where);
  const int64_t parts = row_parts(plan, n, nullptr, 1);
  expect(parts * plan.rows_per_part >= n && (parts - 1) * plan.rows_per_part < n, "parts of one group", where);
  expect(parts <= kParts + 1, "more parts than intended", where);
  expect_launchable(parts, 1, kRowThreads, plan.shared + kStatic, where);
  expect_launchable(add_parts_blocks(d, 1), 1, 1024, 0, where);
  expect(add_parts_blocks(d, 1) * kAddColumns >= d, "columns of add_parts", where);
  if (plan.wide) expect_launchable(wide_sums_blocks(d, parts), 1, kRowThreads, 0, where);
}

// Every row of every group in one part of its own group, in order.
void table_of(const std::vector<int64_t>& offsets, int64_t d) {
  const int64_t n = offsets.back(), groups = int64_t(offsets.size()) - 1;
  const RowPlan plan = row_plan(n, d, 4);
  const int64_t parts = row_parts(plan, n, offsets.data(), groups);
  const std::string where = at(n, d) + ", " + std::to_string(groups) + " groups";
  std::vector<int64_t> table(size_t(parts * kPartFields + groups + 1) + 1, -1);
  row_table(plan, offsets.data(), groups, parts, table.data());
  expect(table.back() == -1, "the table is written past its end", where);
  const int64_t* first = table.data() + parts * kPartFields;
  expect(first[0] == 0 && first[groups] == parts, "first parts of the groups", where);
  for (int64_t g = 0; g < groups; ++g) {
    int64_t row = offsets[size_t(g)];
    for (int64_t p = first[g]; p < first[g + 1]; ++p) {
      const int64_t* line = table.data() + p * kPartFields;
      expect(line[0] == row && line[1] > line[0] && line[1] - line[0] <= plan.rows_per_part, "a part's rows", where);
      expect(line[2] == g && line[3] == offsets[size_t(g) + 1] - offsets[size_t(g)], "a part's group", where);
      row = line[1];
    }
    expect(row == offsets[size_t(g) + 1], "rows of a group are left out", where);
  }
}

// Partial sums of two factors.
void pairs_of(int64_t n, int64_t d1, int64_t d2) {
  const std::string where = at(n, d1) + " x " + std::to_string(d2);
  const int64_t rows = pair_part_rows(n, d1, d2), parts = divided_up(n, rows);
  expect(rows >= kPairPartRows && rows % kPairTile == 0, "a part of pairs ends within a tile", where);
  expect(parts * rows >= n && (parts - 1) * rows < n, "parts of pairs", where);
  expect(parts <= kPairParts, "more parts of pairs than intended", where);
  expect(parts == 1 || parts * d1 * d2 <= 2 * kPairNumbers, "partial sums take more memory than intended", where);
  expect(pair_sums_blocks(d2, parts) * kRowThreads >= parts * d2, "columns of pairs", where);
  expect_launchable(pair_sums_blocks(d2, parts), 1, kRowThreads, 8 * kPairTile * (kNarrow + 1), where);
  expect_launchable(add_parts_blocks(d1 * d2, 1), 1, 1024, 8 * 1024, where);
}

}  // namespace

int main() {
  auto rows = sizes();
  rows.insert(rows.end(), kHuge.begin(), kHuge.end());
  for (int64_t n : rows)
    for (int64_t d : sizes())
      for (int element : {2, 4}) plan_of(n, d, element);
  for (int64_t d = 1; d < 8192; ++d) plan_of(1000, d, d % 2 ? 2 : 4);
  for (int64_t n : rows)
    for (int64_t d2 : {1, 64, 513, 4096, 100'000})
      for (int64_t d1 = 1; d1 <= kNarrow; ++d1) pairs_of(n, d1, d2);
  for (int64_t d : {1, 33, 512, 6145}) {
    table_of({0}, d);
    table_of({0, 0}, d);
    table_of({0, 0, 1, 3, 6, 6, 30, 30}, d);
    table_of({0, 31, 63, 127, 128, 5000, 5000, 5033}, d);
    table_of({0, 100'000, 100'001}, d);
  }
  return result();
}
