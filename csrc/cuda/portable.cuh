// The few things that differ between nvcc and the emulator that runs these kernels on a CPU (tests/cuda_emulator).
#pragma once
#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define DYN_SMEM(T, name)                                       \
  extern __shared__ __align__(16) unsigned char name##_bytes[]; \
  T* name = reinterpret_cast<T*>(name##_bytes)
#define SHARED_ARRAY(T, name, N) __shared__ T name[N]
#define DQ_LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#else
#include "cuda_emu.hpp"
#define DQ_LAUNCH(kernel, grid, block, shared, stream, ...) \
  CUDA_LAUNCH(kernel, grid, block, shared, stream, __VA_ARGS__)
#endif
