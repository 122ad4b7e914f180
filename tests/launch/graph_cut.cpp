// Launch arithmetic of the graph-cut kernels.
#include "../../csrc/cuda/graph_cut_launch.h"

#include "checks.h"

using namespace dq_fast;

namespace {

constexpr int64_t kStatic = 1024;  // bytes of static shared memory of every kernel here, at most

void gram_of(int64_t longest, bool is_float64) {
  const std::string where = "a group of " + std::to_string(longest) + (is_float64 ? " in float64" : " in float32");
  const GramPlan plan = gram_plan(longest, is_float64);
  const int64_t wide = is_float64 ? 2 : 4, padded = divide_up(longest, wide) * wide;
  expect(padded >= longest && plan.state >= 2 * padded, "the state does not hold two numbers a row", where);
  expect(plan.shared == 0 || plan.shared == 8 * plan.state, "part of the state in shared memory", where);
  expect(plan.shared <= kGramShared, "shared memory", where);
  expect(plan.shared != 0 || 8 * plan.state > kGramShared, "global memory although shared memory has room", where);
  // a thread has no more than its share of loose numbers at a row's ends: the block covers fewer than 2 * kWide
  expect(int64_t(plan.threads) >= 2 * wide, "threads for what is loose at both ends of a row", where);
  expect_launchable(1, 1, plan.threads, plan.shared + kStatic, where);
}

void buckets_of(int64_t count) {
  const std::string where = std::to_string(count) + " rows in buckets";
  const BucketPlan plan = bucket_plan(count);
  expect(plan.used >= 1 && plan.used <= kBuckets, "buckets", where);
  expect(plan.rows * plan.used >= count && plan.rows * (plan.used - 1) < count, "rows left out, or an empty bucket",
         where);
  const int64_t warps = kOutsideThreads / 32;
  expect(divide_up(plan.used, warps) * warps >= plan.used, "a bucket without a warp", where);
  expect_launchable(divide_up(plan.used, warps), 1, kOutsideThreads, kStatic, where);
}

}  // namespace

int main() {
  auto rows = sizes();
  rows.insert(rows.end(), kHuge.begin(), kHuge.end());
  for (int64_t n : rows) {
    if (n <= 65'536)
      for (bool wide : {false, true}) gram_of(n, wide);
    buckets_of(n);
    const int64_t chunks = divide_up(n, kChunk);
    expect(chunks * kChunk >= n && (chunks - 1) * kChunk < n, "chunks of gains", at(n, 0));
    expect_launchable(chunks, 1, kRenewThreads, kStatic, at(n, 0));
  }
  for (int64_t n = 1; n < 7000; ++n) gram_of(n, n % 2), buckets_of(n);
  for (int64_t m = 1; m <= kBlockRows; ++m) {
    const std::string where = std::to_string(m) + " candidates";
    expect(block_shared(m) >= 4 * 8 * m && block_shared(m) % 16 == 0, "four numbers a candidate", where);
    expect(block_shared(m) + kStatic <= int64_t(kSharedWithoutAsking), "more than 48 KB without asking", where);
    expect_launchable(1, 1, kBlockThreads, block_shared(m) + kStatic, where);
  }
  return result();
}
