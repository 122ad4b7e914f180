// Launches of cosine_row_sums: one factor of 200,000 x 512, and the CIFAR-10 factors 10 and 513 in ten groups. The last
// also stands for what graph cut asks of its rows.
#include "../../../csrc/cuda/row_sums_launch.h"

#include "launches.h"

using namespace dq_fast;

namespace {

const char* kOp = "cosine_row_sums";

struct Type {
  const char* name;
  int bytes;
};
constexpr Type kTypes[] = {{"float", 4}, {"__half", 2}, {"__nv_bfloat16", 2}};

std::string add_name(const Type& t, const RowPlan& plan, bool center = false) {
  return "add_rows<" + std::string(t.name) + ", " + std::to_string(plan.columns) + ", " + (center ? "true>" : "false>");
}
std::string dot_name(const Type& t, bool center = false, bool tile = true) {
  return "reduce_rows<" + std::string(t.name) + ", (RowReduction)0, " + (center ? "true" : "false") + ", " +
         (tile ? "true>" : "false>");
}

// The first pass over the rows of a group, and the adding of its parts.
void first_pass(const char* name, const Type& t, int64_t n, int64_t d, double times) {
  const RowPlan plan = row_plan(n, d, t.bytes);
  const int64_t parts = row_parts(plan, n, nullptr, 1);
  const double numbers = double(n) * double(d), partial = 8.0 * double(parts) * double(plan.slices * d);
  launch(kOp, name, add_name(t, plan), {parts, kRowThreads, plan.shared, times},
         {t.bytes * numbers + 8 * double(n) + partial, 2 * numbers, 2 * numbers});
  const bool few = parts * plan.slices <= kFewParts;
  launch(kOp, name, few ? "add_parts<8>" : "add_parts<32>", {add_parts_blocks(d, 1), few ? 256 : 1024, 0, times},
         {partial + 8 * double(d), partial / 8});
}

void one_factor(const char* name, const Type& t, int64_t n, int64_t d) {
  const RowPlan plan = row_plan(n, d, t.bytes);
  const double numbers = double(n) * double(d);
  first_pass(name, t, n, d, 1);
  launch(kOp, name, dot_name(t), {row_parts(plan, n, nullptr, 1), kRowThreads, plan.shared},
         {t.bytes * numbers + 16 * double(n), numbers, numbers});
  floor_of(kOp, name, 2 * t.bytes * numbers);
}

// Groups of n rows, factors d1 (of kNarrow columns or fewer) and d2, float32: dq_fast/ops/cuda/rows.py, _Two.
void two_factors(const char* name, double groups, int64_t n, int64_t d1, int64_t d2) {
  const Type& t = kTypes[0];
  first_pass(name, t, n, d1, groups);
  first_pass(name, t, n, d2, groups);
  const double rows = double(n), narrow = rows * double(d1), wide = rows * double(d2), every = wide * double(d1);
  launch(kOp, name, "gather_rows<float>", {divided_up(n, kRowThreads / 32), kRowThreads, 0, groups},
         {12 * narrow + 8 * rows, narrow, narrow});
  const int64_t parts = divided_up(n, pair_part_rows(n, d1, d2));
  const double partial = 8 * double(parts * d1 * d2);
  launch(kOp, name, "add_pairs<float>", {pair_sums_blocks(d2, parts), kRowThreads, 0, groups},
         {4 * wide + 8 * narrow + partial, every + wide, wide});
  const bool few = parts <= kFewParts;
  launch(kOp, name, few ? "add_parts<8>" : "add_parts<32>", {add_parts_blocks(d1 * d2, 1), few ? 256 : 1024, 0, groups},
         {partial, partial / 8});
  launch(kOp, name, "narrow_dots<float>", {divided_up(n, 4 * kRowThreads / 32), kRowThreads, 0, groups},
         {4 * wide + 8 * narrow + 16 * rows, every + 2 * wide, wide});
  floor_of(kOp, name, 2 * 4 * groups * (narrow + wide));
}

}  // namespace

int main() {
  one_factor("200000x512-float32", kTypes[0], 200'000, 512);
  one_factor("200000x512-float16", kTypes[1], 200'000, 512);
  one_factor("200000x512-bfloat16", kTypes[2], 200'000, 512);
  two_factors("cifar10-10x513", 10, 5000, 10, 513);
  for (const Type& t : kTypes) {
    for (const int64_t d : {256, 512, 2048, kRowThreads * kRowColumns})
      for (const bool center : {false, true}) {
        const RowPlan plan = row_plan(200'000, d, t.bytes);
        block_of(add_name(t, plan, center), kRowThreads, plan.shared);
        block_of(dot_name(t, center), kRowThreads, plan.shared);
        block_of(dot_name(t, center, false), kRowThreads);
      }
    for (const char* kernel : {"gather_rows<", "pair_dots<", "narrow_dots<", "add_pairs<", "centred_norms<"})
      block_of(kernel + std::string(t.name) + ">", kRowThreads);
    for (const char* center : {"false>", "true>"}) {
      block_of("add_wide_rows<" + std::string(t.name) + ", " + center, kRowThreads);
      block_of("reduce_rows<" + std::string(t.name) + ", (RowReduction)" + (center[0] == 't' ? "2" : "1") + ", " +
                   (center[0] == 't' ? "true" : "false") + ", false>",
               kRowThreads);
    }
  }
  block_of("add_parts<8>", 256);
  block_of("add_parts<32>", 1024);
}
