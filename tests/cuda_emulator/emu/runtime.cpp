#include "runtime.hpp"

#include <algorithm>
#include <map>

namespace {

cudaError_t last_error = cudaSuccess;

std::map<const void*, size_t>& allowed() {
  static std::map<const void*, size_t> bytes;
  return bytes;
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDeviceFunction:
      return "invalid device function";
    case cudaErrorLaunchOutOfResources:
      return "too many resources requested for launch";
    case cudaErrorCooperativeLaunchTooLarge:
      return "too many blocks in cooperative launch";
  }
  return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return emu::note_error(cudaErrorInvalidValue);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = emu::kMultiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = int(emu::kSharedMemoryMost);
      break;
    default:
      return emu::note_error(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* at, int byte, size_t bytes, cudaStream_t) {
  std::memset(at, byte, bytes);
  return cudaSuccess;
}

namespace emu {

cudaError_t note_error(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t allow_shared_memory(const void* kernel, int bytes) {
  if (bytes < 0 || size_t(bytes) > kSharedMemoryMost) return note_error(cudaErrorInvalidValue);
  allowed()[kernel] = size_t(bytes);
  return cudaSuccess;
}

size_t allowed_shared_memory(const void* kernel) {
  const auto found = allowed().find(kernel);
  return found == allowed().end() ? kSharedMemoryDefault : std::max(found->second, kSharedMemoryDefault);
}

int resident_blocks(unsigned threads, size_t shared) {
  if (threads == 0 || threads > kThreadsPerBlock || shared > kSharedMemoryMost) return 0;
  size_t blocks = std::min(kBlocksPerMultiprocessor, kThreadsPerMultiprocessor / ((threads + 31) / 32 * 32));
  constexpr size_t kReserved = 1 << 10;  // a block's, by the system
  blocks = std::min(blocks, (kSharedMemoryMost + kReserved) / (shared + kReserved));
  return int(blocks);
}

}  // namespace emu
