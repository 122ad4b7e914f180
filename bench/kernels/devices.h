// Limits of the GPUs that machine code is made for (CUDA C++ programming guide, technical specifications by compute
// capability). Plain C++.
#pragma once
#include <cstddef>

struct Device {
  int target;              // 80: sm_80
  int sms;                 // of the A100 and the H100 SXM
  int threads;             // of a multiprocessor
  size_t shared_of_sm;     // bytes
  size_t shared_of_block;  // bytes that a block can have after cudaFuncSetAttribute
};

constexpr size_t kSharedWithoutAsking = 48 * 1024;
constexpr size_t kSharedReserved = 1024;  // of every block, by the driver
constexpr Device kDevices[] = {{80, 108, 2048, 164 * 1024, 163 * 1024}, {90, 132, 2048, 228 * 1024, 227 * 1024}};

// Grid limits of all of them.
constexpr long long kGridX = 2147483647, kGridY = 65535, kGridZ = 65535;
constexpr int kThreadsOfBlock = 1024;

inline const Device* device_of(int target) {
  for (const Device& device : kDevices)
    if (device.target == target) return &device;
  return nullptr;
}
