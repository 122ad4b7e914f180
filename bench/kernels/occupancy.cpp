// Blocks of a kernel that fit on a multiprocessor, by NVIDIA's own calculator.
//
// Reads lines "target threads registers static_shared dynamic_shared barriers" (target: 80 or 90) and answers each with
// "blocks limits" (limits: letters of w warps, r registers, s shared memory, b blocks, n barriers), or "error N".
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cuda_occupancy.h"
#include "devices.h"

struct Limit {
  unsigned bit;
  char letter;
};
constexpr Limit kLimits[] = {{OCC_LIMIT_WARPS, 'w'},
                             {OCC_LIMIT_REGISTERS, 'r'},
                             {OCC_LIMIT_SHARED_MEMORY, 's'},
                             {OCC_LIMIT_BLOCKS, 'b'},
                             {OCC_LIMIT_BARRIERS, 'n'}};

int main() {
  int target, threads, registers, fixed, dynamic, barriers;
  while (std::scanf("%d %d %d %d %d %d", &target, &threads, &registers, &fixed, &dynamic, &barriers) == 6) {
    const Device* device = device_of(target);
    if (!device) return std::fprintf(stderr, "no device for sm_%d\n", target), 2;
    cudaOccDeviceProp properties{};
    properties.computeMajor = target / 10;
    properties.computeMinor = target % 10;
    properties.warpSize = 32;
    properties.maxThreadsPerBlock = 1024;
    properties.maxThreadsPerMultiprocessor = device->threads;
    properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
    properties.sharedMemPerBlock = kSharedWithoutAsking;
    properties.sharedMemPerMultiprocessor = device->shared_of_sm;
    properties.sharedMemPerBlockOptin = device->shared_of_block;
    properties.reservedSharedMemPerBlock = kSharedReserved;
    properties.numSms = device->sms;
    cudaOccFuncAttributes kernel{};
    kernel.maxThreadsPerBlock = INT_MAX;
    kernel.numRegs = registers;
    kernel.sharedSizeBytes = size_t(fixed);
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = size_t(dynamic);
    kernel.numBlockBarriers = barriers;
    cudaOccDeviceState state{};
    cudaOccResult result{};
    const auto error =
        cudaOccMaxActiveBlocksPerMultiprocessor(&result, &properties, &kernel, &state, threads, size_t(dynamic));
    if (error != CUDA_OCC_SUCCESS) {
      std::printf("error %d\n", int(error));
      continue;
    }
    std::string limits;
    for (const auto& [bit, letter] : kLimits)
      if (result.limitingFactors & bit) limits += letter;
    std::printf("%d %s\n", result.activeBlocksPerMultiprocessor, limits.c_str());
  }
}
