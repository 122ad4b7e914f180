#include <cmath>

#include "unit.hpp"

using namespace units;

namespace {
constexpr unsigned kThreads = 96;
}

__global__ void reverse_block(const int* in, int* out, bool sync) {
  SHARED_ARRAY(int, box, kThreads);
  box[threadIdx.x] = in[threadIdx.x];
  if (sync) __syncthreads();
  out[threadIdx.x] = box[kThreads - 1 - threadIdx.x];
}

UNIT(syncthreads_orders_and_its_absence_shows) {
  int in[kThreads], out[kThreads];
  for (unsigned i = 0; i < kThreads; ++i) in[i] = int(i * i);
  one_block(reverse_block, kThreads, in, out, true);
  for (unsigned i = 0; i < kThreads; ++i) EXPECT(out[i] == in[kThreads - 1 - i]);
#ifndef EMU_TSAN  // which reports the race, as it should
  int wrong = 0;
  one_block(reverse_block, kThreads, in, out, false);
  for (unsigned i = 0; i < kThreads; ++i) wrong += out[i] != in[kThreads - 1 - i];
  EXPECT(wrong > 0);
#endif
}

__global__ void barrier_votes(int* out) {
  const int i = threadIdx.x;
  out[i] = __syncthreads_or(i == 50);
  out[i] += 2 * __syncthreads_or(0);
  out[i] += 4 * __syncthreads_and(1);
  out[i] += 8 * __syncthreads_and(i != 50);
  out[i] += 16 * __syncthreads_count(i % 3 == 0);
}

UNIT(barriers_count_votes) {
  int out[kThreads];
  one_block(barrier_votes, kThreads, out);
  for (int each : out) EXPECT(each == 1 + 4 + 16 * 32);
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void barrier_after_exit() {
  if (threadIdx.x == 40) return;
  __syncthreads();
}
__global__ void barrier_for_some() {
  if (threadIdx.x == 40) {
    for (int i = 0; i < 3; ++i) __nanosleep(10);
    return;
  }
  __syncthreads();
}

UNIT(barriers_that_some_miss_are_errors) {
  EXPECT(holds(error_of([] { one_block(divergent_barrier, kThreads); }), "divergent __syncthreads"));
  EXPECT(holds(error_of([] { one_block(barrier_after_exit, kThreads); }), "exited"));
  EXPECT(holds(error_of([] { one_block(barrier_for_some, kThreads); }), "exited while others wait"));
}

// Each block writes a number; after the grid's barrier each thread adds all of them.
__global__ void sum_over_grid(int* numbers, int* out) {
  const auto grid = cooperative_groups::this_grid();
  const int rank = int(grid.thread_rank());
  for (int round = 1; round <= 3; ++round) {
    if (threadIdx.x == 0) numbers[blockIdx.x] = round * int(blockIdx.x + 1);
    grid.sync();
    int sum = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) sum += numbers[b];
    out[rank] = (round == 1 ? 0 : out[rank]) + sum;
    grid.sync();
  }
}

UNIT(the_barrier_of_a_grid_orders_blocks) {
  int numbers[5], out[5 * 40];
  CUDA_LAUNCH_COOP(sum_over_grid, 5, 40, 0, nullptr, numbers, out);
  EXPECT(cudaGetLastError() == cudaSuccess);
  for (int each : out) EXPECT(each == 15 + 30 + 45);
  int *a = numbers, *b = out;
  void* arguments[] = {&a, &b};
  for (int& each : out) each = 0;
  EXPECT(cudaLaunchCooperativeKernel(sum_over_grid, 5, 40, arguments, 0, nullptr) == cudaSuccess);
  for (int each : out) EXPECT(each == 90);
}

UNIT(the_barrier_of_a_grid_needs_a_cooperative_launch) {
  int numbers[5], out[5 * 40];
  EXPECT(holds(error_of([&] { CUDA_LAUNCH(sum_over_grid, 5, 40, 0, nullptr, numbers, out); }), "not launched coop"));
}

__global__ void three_dimensions(int* out) {
  const unsigned in_block = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + in_block] += int(blockIdx.y * 100 + threadIdx.z);
  EXPECT(cooperative_groups::this_thread_block().thread_rank() == in_block);
}

UNIT(every_thread_of_every_block_runs_once) {
  std::vector<int> out(2 * 3 * 4 * 5 * 2 * 3, 0);
  CUDA_LAUNCH(three_dimensions, dim3(2, 3, 4), dim3(5, 2, 3), 0, nullptr, out.data());
  for (size_t i = 0; i < out.size(); ++i) EXPECT(out[i] == int(i / 30 / 2 % 3 * 100 + i % 30 / 10));
}

__global__ void until_told(int* flag, int* seen) {
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0) == 0) __nanosleep(20);
    __threadfence();
    seen[0] = seen[1];
  } else if (threadIdx.x == 33) {
    seen[1] = 7;
    __threadfence();
    atomicExch(flag, 1);
  }
}

UNIT(a_thread_that_waits_lets_others_run) {
  int flag = 0, seen[2] = {0, 0};
  one_block(until_told, 64, &flag, seen);
  EXPECT(seen[0] == 7);
}
