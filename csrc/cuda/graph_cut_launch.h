// Launch arithmetic of the graph-cut kernels, plain C++: tested without a GPU.
#pragma once
#include <cstdint>

namespace dq_fast {

constexpr int kGramThreads = 1024;          // of a block that runs a group's loop, at most
constexpr int kGramPieces = 2;              // 16-byte pieces of a row for each thread: both loads in flight
constexpr int64_t kGramShared = 96 << 10;   // bytes of a group's state: with 1 KB more it fits every GPU since sm_80
constexpr int64_t kPlainShared = 47 << 10;  // dynamic bytes up to here need no cudaFuncSetAttribute

constexpr int kRenewThreads = 256;
constexpr int kRenewRows = 4;                           // gains of a thread
constexpr int64_t kChunk = kRenewThreads * kRenewRows;  // rows whose largest gain is kept
constexpr int kWinnerThreads = 256;
constexpr int kOutsideThreads = 256;  // 8 warps, each with a bucket of rows
constexpr int kBuckets = 1024;        // of rows outside a block, at most
constexpr int64_t kBucketRows = 8;    // rows of one, at least
constexpr int kBlockThreads = 256;    // few warps: a pick is two barriers long
constexpr int64_t kBlockRows = 1024;  // candidates at most: 32 KB of shared state
static_assert(kBuckets % kBlockThreads == 0 && kBuckets % (kOutsideThreads / 32) == 0, "no part of a turn");

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct GramPlan {
  unsigned threads;
  int64_t state;   // float64 numbers of a group's state: base and taken, each padded to whole pieces
  int64_t shared;  // bytes of it in shared memory; 0: the state is in global memory
};

// Of a launch whose longest group has `longest` rows; numbers of the matrices are 4 or 8 bytes.
inline GramPlan gram_plan(int64_t longest, bool is_float64) {
  const int64_t wide = is_float64 ? 2 : 4, pieces = divide_up(longest, wide);
  const int64_t threads = divide_up(divide_up(pieces, kGramPieces), 32) * 32;
  GramPlan plan;
  plan.threads = unsigned(threads < 32 ? 32 : threads > kGramThreads ? kGramThreads : threads);
  plan.state = 2 * pieces * wide;
  const int64_t bytes = plan.state * int64_t(sizeof(double));
  plan.shared = bytes <= kGramShared ? bytes : 0;
  return plan;
}

// Buckets of `count` rows in order: each has `rows` of them, the last one maybe fewer.
struct BucketPlan {
  int64_t rows;
  int used;
};

inline BucketPlan bucket_plan(int64_t count) {
  const int64_t rows = divide_up(count, kBuckets);
  BucketPlan plan;
  plan.rows = rows < kBucketRows ? kBucketRows : rows;
  plan.used = int(divide_up(count, plan.rows));
  return plan;
}

// Of a block of `rows` candidates: start, dots, diagonal and along of each.
inline int64_t block_shared(int64_t rows) { return 4 * divide_up(rows, 2) * 2 * int64_t(sizeof(double)); }

}  // namespace dq_fast
