// Launches of graph_cut_bins and graph_cut_greedy: groups like ImageNet's classes by their matrices, and a tenth of
// CIFAR-10 in one group in blocks of picks.
#include "../../../csrc/cuda/graph_cut_launch.h"

#include <algorithm>

#include "../../../csrc/cuda/row_sums_launch.h"
#include "launches.h"

using namespace dq_fast;

namespace {

// All rows of `groups` groups of n in bins, factors d1 and d2: matrices in float64 by torch, then one launch a batch.
void by_matrices(const char* name, int64_t groups, int64_t n, int64_t d1, int64_t d2) {
  const char* op = "graph_cut_bins";
  const double rows = double(n), all = double(groups) * rows, square = rows * rows;
  // Norms and sums as in cosine_row_sums, and float64 copies of the rows for the similarities.
  const double narrow = rows * double(d1), wide = rows * double(d2), every = wide * double(d1);
  const double each = double(groups);
  const int64_t blocks = divided_up(n, kRowThreads / 32);
  for (const int64_t d : {d1, d2}) {
    const RowPlan plan = row_plan(n, d, 4);
    const int64_t parts = row_parts(plan, n, nullptr, 1);
    const double numbers = d == d1 ? narrow : wide;
    const bool few = parts * plan.slices <= kFewParts;
    launch(op, name, "add_rows<float, " + std::to_string(plan.columns) + ", false>",
           {parts, kRowThreads, plan.shared, each}, {4 * numbers + 8 * rows, 2 * numbers, 2 * numbers});
    launch(op, name, few ? "add_parts<8>" : "add_parts<32>", {add_parts_blocks(d, 1), few ? 256 : 1024, 0, each},
           {8 * double(parts * plan.slices * d)});
    launch(op, name, "gather_rows<float>", {blocks, kRowThreads, 0, (d == d1 ? 2 : 1) * each},
           {12 * numbers, numbers, numbers});
  }
  const int64_t parts = divided_up(n, pair_part_rows(n, d1, d2));
  launch(op, name, "add_pairs<float>", {pair_sums_blocks(d2, parts), kRowThreads, 0, each},
         {4 * wide + 8 * narrow + 8 * double(parts * d1 * d2), every + wide, wide});
  const bool few = parts <= kFewParts;
  launch(op, name, few ? "add_parts<8>" : "add_parts<32>", {add_parts_blocks(d1 * d2, 1), few ? 256 : 1024, 0, each},
         {8 * double(parts * d1 * d2)});
  launch(op, name, "narrow_dots<float>", {divided_up(n, 4 * kRowThreads / 32), kRowThreads, 0, each},
         {4 * wide + 8 * narrow + 16 * rows, every + 2 * wide, wide});
  product(op, name, 2 * square * double(d1), 8 * square, double(groups));
  product(op, name, 2 * square * double(d2), 8 * square, double(groups));
  product(op, name, 0, 3 * 8 * square, double(groups));  // one matrix times the other
  product(op, name, 0, 2 * 8 * square, double(groups));  // into its place
  const GramPlan plan = gram_plan(n, true);
  launch(op, name, plan.shared ? "graph_cut_gram<double, true>" : "graph_cut_gram<double, false>",
         {groups, int64_t(plan.threads), plan.shared},
         {8 * square * double(groups), 4 * square * double(groups), 0, rows});
  floor_of(op, name, 2 * 4 * all * double(d1 + d2) + 24 * all);
}

// k of n rows of one factor in blocks of candidates: `passes` reads of all rows, one a block.
void in_blocks(const char* name, int64_t n, int64_t d, int64_t k, double passes) {
  const char* op = "graph_cut_greedy";
  const double numbers = double(n) * double(d), rows = double(n), m = double(kBlockRows);
  const RowPlan plan = row_plan(n, d, 4);
  const int64_t parts = row_parts(plan, n, nullptr, 1);
  const double partial = 8 * double(parts * plan.slices * d);
  launch(op, name, "add_rows<float, " + std::to_string(plan.columns) + ", false>", {parts, kRowThreads, plan.shared},
         {4 * numbers + 8 * rows + partial, 2 * numbers, 2 * numbers});
  launch(op, name, "add_parts<32>", {add_parts_blocks(d, 1), 1024}, {partial});
  launch(op, name, "reduce_rows<float, (RowReduction)0, false, true>", {parts, kRowThreads, plan.shared, passes + 1},
         {4 * numbers + 16 * rows, numbers, numbers});
  launch(op, name, "renew_gains<256>", {divide_up(n, kChunk), kRenewThreads, 0, passes + 1}, {33 * rows, 3 * rows});
  product(op, name, 0, 4 * 8 * rows, passes);  // topk of the gains
  launch(op, name, "gather_rows<float>", {divided_up(kBlockRows, kRowThreads / 32), kRowThreads, 0, passes},
         {12 * m * double(d), m * double(d), m * double(d)});
  product(op, name, 2 * m * m * double(d), 8 * m * m, passes);
  const BucketPlan buckets = bucket_plan(n);
  launch(op, name, "bound_outside<256>", {divide_up(buckets.used, kOutsideThreads / 32), kOutsideThreads, 0, passes},
         {25 * rows, 4 * rows});
  launch(op, name, "pick_block<256>", {1, kBlockThreads, block_shared(kBlockRows), passes},
         {8 * m * double(k) / passes, 4 * m * double(k) / passes / 132, 0, double(k) / passes});
  launch(op, name, "gather_rows<float>", {divided_up(k, kRowThreads / 32), kRowThreads, 0, passes},
         {12 * double(k) * double(d) / passes});
  product(op, name, 0, 8 * double(k) * double(d) / passes, passes);  // the sum of the picks
  floor_of(op, name, 2 * 4 * numbers);
}

}  // namespace

int main() {
  by_matrices("imagenet-1000x1300", 1000, 1300, 10, 513);
  by_matrices("cifar10-10x513", 10, 5000, 10, 513);
  in_blocks("5000-of-50000x650", 50'000, 650, 5000, 36);  // as many blocks as the prototype took, of 2,048 rows
  for (const bool wide : {false, true}) {
    const std::string type = wide ? "double" : "float";
    const int64_t largest = kGramShared / 16;
    block_of("graph_cut_gram<" + type + ", true>", gram_plan(largest, wide).threads, gram_plan(largest, wide).shared);
    block_of("graph_cut_gram<" + type + ", false>", gram_plan(largest + 16, wide).threads);
  }
  block_of("renew_gains<256>", kRenewThreads);
  block_of("pick_winner<256>", kWinnerThreads);
  block_of("bound_outside<256>", kOutsideThreads);
  block_of("pick_block<256>", kBlockThreads, block_shared(kBlockRows));
}
