// The part of the CUDA runtime that launchers use. A launch runs at once, so a stream is only a name; errors are kept
// until they are read, as CUDA does.
#pragma once
#include <cstddef>
#include <cstring>

#include "types.hpp"

#define CUDART_VERSION 13000  // the runtime whose rules these are

using cudaStream_t = struct CUstream_st*;

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorCooperativeLaunchTooLarge = 720,
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemsetAsync(void* at, int byte, size_t bytes, cudaStream_t stream = nullptr);

namespace emu {

// The machine that is emulated, where it matters to a launcher: an H100.
constexpr int kMultiprocessors = 132;
constexpr size_t kSharedMemoryDefault = 48 << 10;  // a block's, unless its kernel was allowed more
constexpr size_t kSharedMemoryMost = 227 << 10;
constexpr size_t kThreadsPerBlock = 1024;
constexpr size_t kThreadsPerMultiprocessor = 2048;
constexpr size_t kBlocksPerMultiprocessor = 32;

cudaError_t note_error(cudaError_t error);  // kept until it is read; returned
cudaError_t allow_shared_memory(const void* kernel, int bytes);
size_t allowed_shared_memory(const void* kernel);
int resident_blocks(unsigned threads, size_t shared);  // on a multiprocessor, by threads and shared memory alone

}  // namespace emu

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  return emu::allow_shared_memory(reinterpret_cast<const void*>(kernel), value);
}

template <class... P>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(P...), int threads,
                                                          size_t shared) {
  (void)kernel;
  *blocks = emu::resident_blocks(unsigned(threads), shared);
  return cudaSuccess;
}
