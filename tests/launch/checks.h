// What every launch has to keep to, on every GPU that kernels are compiled for. Each program in this folder asks it of
// one op's launch arithmetic, prints what is wrong, and ends with status 1 if anything is.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "../../bench/kernels/devices.h"

inline int failures = 0;

// Reports `what` unless `good`; `where` names the sizes.
inline void expect(bool good, const std::string& what, const std::string& where) {
  if (good) return;
  ++failures;
  if (failures <= 20) std::printf("%s: %s\n", where.c_str(), what.c_str());
}

inline std::string at(int64_t n, int64_t d) { return "n " + std::to_string(n) + ", d " + std::to_string(d); }

// Grid (x, y, 1) of blocks of `threads` with `shared` bytes, static and dynamic.
inline void expect_launchable(int64_t x, int64_t y, int64_t threads, int64_t shared, const std::string& where) {
  expect(x >= 1 && x <= kGridX, "grid x " + std::to_string(x), where);
  expect(y >= 1 && y <= kGridY, "grid y " + std::to_string(y), where);
  expect(threads >= 32 && threads <= kThreadsOfBlock && threads % 32 == 0, "block " + std::to_string(threads), where);
  for (const Device& device : kDevices)
    expect(shared >= 0 && size_t(shared) <= device.shared_of_block,
           "shared memory " + std::to_string(shared) + " on sm_" + std::to_string(device.target), where);
}

// Sizes that trip arithmetic: around powers of two and block sizes, and as large as memory may once be.
inline std::vector<int64_t> sizes() {
  std::vector<int64_t> found;
  for (int64_t base : {1,    2,      8,      31,     32,      33,      64,      127,     128,       255,       256,
                       257,  511,    512,    513,    1023,    1024,    1025,    1300,    4095,      4096,      5000,
                       8192, 50'000, 65'535, 65'536, 200'000, 524'287, 524'288, 524'289, 1'281'167, 16'777'217})
    found.push_back(base);
  return found;
}

inline const std::vector<int64_t> kHuge = {100'000'000, 2'147'483'647, 2'147'483'648, 13'000'000'000};

inline int result() {
  if (failures) std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
