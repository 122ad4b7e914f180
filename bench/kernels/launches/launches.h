// What a launch of a named case is: its configuration from the shipped launch arithmetic, and what it moves and
// computes, counted from the kernel's formula. table.py compiles and runs one program an op, which prints tab-separated
// lines.
#pragma once
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>

struct Work {
  double bytes = 0;        // read from and written to global memory, each once where caches keep it
  double float64 = 0;      // float64 additions, multiplications, multiply-adds
  double conversions = 0;  // to and from float64, and first guesses of roots and quotients: the same unit
  double steps = 0;        // of a block that wait for each other (picks of a greedy loop), one after the other
};

struct Launch {
  int64_t blocks;
  int64_t threads;
  int64_t shared = 0;  // dynamic, bytes
  double times = 1;    // how often it is launched, one after the other
};

inline void launch(const char* op, const char* name, const std::string& kernel, Launch how, Work work) {
  std::printf("launch\t%s\t%s\t%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%.17g\t%.17g\t%.17g\t%.17g\t%.17g\n", op,
              name, kernel.c_str(), how.blocks, how.threads, how.shared, how.times, work.bytes, work.float64,
              work.conversions, work.steps);
}

// A product of torch in an op: float64 multiplications and additions (both counted), bytes, and how often.
inline void product(const char* op, const char* name, double flops, double bytes, double times = 1) {
  std::printf("product\t%s\t%s\t%.17g\t%.17g\t%.17g\n", op, name, flops, bytes, times);
}

// The bytes that every exact method known here moves (bench/README.md, "Floor").
inline void floor_of(const char* op, const char* name, double bytes) {
  std::printf("floor\t%s\t%s\t%.17g\n", op, name, bytes);
}

// The largest block of a kernel, in threads and dynamic shared memory: what its occupancy in the table is of.
inline void block_of(const std::string& kernel, int64_t threads, int64_t shared = 0) {
  std::printf("block\t%s\t%" PRId64 "\t%" PRId64 "\n", kernel.c_str(), threads, shared);
}
