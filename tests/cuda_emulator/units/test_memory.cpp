#include <cmath>

#include "inline_shared.hpp"

using namespace units;

__global__ void read_before_write(float* f, int* i) {
  SHARED_ARRAY(float, numbers, 4);
  DYN_SMEM(int, more);
  f[0] = numbers[3];
  i[0] = more[1];
}

UNIT(shared_memory_is_poison_until_written) {
  float f = 0;
  int i = 0;
  CUDA_LAUNCH(read_before_write, 1, 1, 8, nullptr, &f, &i);
  EXPECT(std::isnan(f) && i == -1);
}

__global__ void own_memory(int* out) {
  SHARED_ARRAY(int, first, 1);
  SHARED_ARRAY(int, second, 1);
  DYN_SMEM(int, third);
  if (threadIdx.x == 0) {
    EXPECT(first[0] == -1);  // nothing of another block's
    first[0] = int(blockIdx.x), second[0] = 10, third[0] = 20;
  }
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = first[0] + second[0] + third[0];
}

UNIT(each_block_has_its_own_shared_memory) {
  emu::config.live_blocks = 3;
  int out[5 * 33];
  CUDA_LAUNCH(own_memory, 5, 33, 4, nullptr, out);
  for (int i = 0; i < 5 * 33; ++i) EXPECT(out[i] == i / 33 + 30);
}

template <int k>
__device__ int* instance() {
  SHARED_ARRAY(int, mine, 1);
  return mine;
}

__global__ void instances(bool* out) {
  out[0] = instance<0>() != instance<1>();
  out[1] = instance<1>() == instance<1>();
  SHARED_ARRAY(int, box, 1);
  out[2] = inline_box() != box && inline_box() == inline_box();
}

UNIT(arrays_of_functions_are_told_apart) {
  bool out[3] = {};
  one_block(instances, 1, out);
  EXPECT(out[0] && out[1] && out[2]);
}

UNIT(an_inline_function_has_one_array_in_all_files) {
  int out[2] = {};
  one_block(fill_from_here, 1, out);
  EXPECT(out[0] == 41);
  one_block(fill_from_there(), 1, out);
  EXPECT(out[0] == 42 && out[1] == 43);
}

__global__ void touches(int bytes) {
  DYN_SMEM(char, all);
  all[bytes - 1] = 1;
}
__global__ void touches_both(int bytes) {
  SHARED_ARRAY(char, some, 1024);
  DYN_SMEM(char, all);
  some[1023] = 1;
  all[bytes - 1] = 1;
}
__global__ void declares_much() {
  SHARED_ARRAY(double, much, 6145);
  much[0] = 1;
}

UNIT(more_than_48_kb_has_to_be_asked_for) {
  constexpr int kDefault = 48 << 10, kMost = 227 << 10;
  CUDA_LAUNCH(touches, 1, 1, kDefault, nullptr, kDefault);
  EXPECT(cudaGetLastError() == cudaSuccess);
  CUDA_LAUNCH(touches, 1, 1, kDefault + 1, nullptr, kDefault + 1);
  EXPECT(cudaPeekAtLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaErrorInvalidValue);
  EXPECT(cudaFuncSetAttribute(touches, cudaFuncAttributeMaxDynamicSharedMemorySize, kMost) == cudaSuccess);
  CUDA_LAUNCH(touches, 1, 1, kMost, nullptr, kMost);
  EXPECT(cudaGetLastError() == cudaSuccess);
  EXPECT(cudaFuncSetAttribute(touches, cudaFuncAttributeMaxDynamicSharedMemorySize, kMost + 1) != cudaSuccess);
  EXPECT(cudaGetLastError() != cudaSuccess);
  EXPECT(holds(error_of([&] { CUDA_LAUNCH(touches_both, 1, 1, kDefault, nullptr, kDefault); }), "shared memory"));
  EXPECT(holds(error_of([] { one_block(declares_much, 1); }), "48 KB"));
}

__global__ void hinted(float* x) {
  __stcg(x + 1, __ldg(x));
  __stcs(x + 2, __ldcs(x) + __ldcg(x));
}

UNIT(hinted_loads_and_stores) {
  float x[3] = {1.5f, 0, 0};
  one_block(hinted, 1, x);
  EXPECT(x[1] == 1.5f && x[2] == 3);
}
