#include "unit.hpp"

using namespace units;

struct Sizes {
  int64_t n, d;
};

__global__ void take(int64_t n, const float* x, double scale, Sizes sizes, bool flag, double* out) {
  out[0] = double(n) + (x == nullptr ? 0 : x[0]) + scale + double(sizes.n * sizes.d) + (flag ? 0.5 : 0);
}

UNIT(arguments_are_converted_as_in_a_call) {
  double out = 0;
  float x[] = {10};
  one_block(take, 1, 3, nullptr, 4.0f, Sizes{5, 6}, 1, &out);
  EXPECT(out == 3 + 4 + 30 + 0.5);
  one_block(take, 1, 3u, x, 4, Sizes{5, 6}, false, &out);
  EXPECT(out == 3 + 10 + 4 + 30);
}

__global__ void nothing(int) {}

UNIT(a_wrong_launch_is_an_error_that_waits_to_be_read) {
  const auto error = [](dim3 grid, dim3 block) {
    CUDA_LAUNCH(nothing, grid, block, 0, nullptr, 1);
    return cudaGetLastError();
  };
  EXPECT(error(1, 1) == cudaSuccess);
  EXPECT(error(0, 32) == cudaErrorInvalidConfiguration && error(1, 0) == cudaErrorInvalidConfiguration);
  EXPECT(error(1, 1025) == cudaErrorInvalidConfiguration && error(1, dim3(1, 1, 65)) == cudaErrorInvalidConfiguration);
  EXPECT(error(dim3(1, 65536), 1) == cudaErrorInvalidConfiguration);
  EXPECT(error(dim3(1, 1, 65536), 1) == cudaErrorInvalidConfiguration);
  CUDA_LAUNCH(nothing, 0, 1, 0, nullptr, 1);
  CUDA_LAUNCH(nothing, 1, 1, 0, nullptr, 1);  // a good one does not hide it
  EXPECT(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
  EXPECT(std::string(cudaGetErrorString(cudaGetLastError())) == "invalid configuration argument");
  EXPECT(cudaGetLastError() == cudaSuccess);
}

UNIT(a_cooperative_grid_has_to_fit) {
  int blocks = 0, processors = 0;
  EXPECT(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess && processors == 132);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 1024, 0) == cudaSuccess && blocks == 2);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 64, 100 << 10) == cudaSuccess && blocks == 2);
  EXPECT(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, nothing, 32, 0) == cudaSuccess && blocks == 32);
  CUDA_LAUNCH_COOP(nothing, 2 * 132 + 1, 1024, 0, nullptr, 1);
  EXPECT(cudaGetLastError() == cudaErrorCooperativeLaunchTooLarge);
}

UNIT(launches_are_counted_by_name_and_stream) {
  emu::launches().clear();
  emu::on_other_streams().clear();
  const auto other = reinterpret_cast<cudaStream_t>(8);
  CUDA_LAUNCH(nothing, 1, 1, 0, nullptr, 1);
  CUDA_LAUNCH(nothing, 1, 1, 0, other, 1);
  EXPECT(emu::launches().size() == 1 && emu::launches()["nothing"] == 2);
  EXPECT(emu::on_other_streams().size() == 1 && emu::on_other_streams()["nothing"] == 1);
}

UNIT(a_hook_sees_the_launch_and_its_arguments) {
  int calls = 0;
  double out = 0;
  emu::hook() = [&](const emu::Launch& launch) {
    calls++;
    EXPECT(emu::mangled_name(launch.kernel) == "_Z4takelPKfd5SizesbPd");
    EXPECT(launch.grid.x == 2 && launch.block.y == 3 && launch.shared == 40 && launch.count == 6);
    EXPECT(launch.sizes[0] == 8 && launch.sizes[3] == sizeof(Sizes) && launch.sizes[4] == 1);
    EXPECT(*static_cast<const int64_t*>(launch.arguments[0]) == 7);
    EXPECT(*static_cast<double* const*>(launch.arguments[5]) == &out);
  };
  CUDA_LAUNCH(take, 2, dim3(1, 3), 40, nullptr, 7, nullptr, 1, Sizes{1, 2}, true, &out);
  emu::hook() = nullptr;
  EXPECT(calls == 1 && out == 0);
}

__global__ void who_ran(int* order, int* next) { order[atomicAdd(next, 1)] = int(blockIdx.x * 64 + threadIdx.x); }

UNIT(orders_differ_and_a_seed_repeats_its_own) {
  const auto run = [](emu::Order order, uint64_t seed) {
    emu::config = {};
    emu::config.order = order;
    emu::config.seed = seed;
    std::vector<int> seen(256);
    int next = 0;
#ifdef EMU_TSAN  // blocks run together there
    CUDA_LAUNCH(who_ran, 1, 256, 0, nullptr, seen.data(), &next);
#else
    CUDA_LAUNCH(who_ran, 4, 64, 0, nullptr, seen.data(), &next);
#endif
    return seen;
  };
  std::vector<int> forward(256), reverse(256);
  for (int i = 0; i < 256; ++i) forward[size_t(i)] = i, reverse[size_t(i)] = 255 - i;
  EXPECT(run(emu::Order::Forward, 1) == forward);
  EXPECT(run(emu::Order::Reverse, 1) == reverse);
  const auto random = run(emu::Order::Random, 1);
  EXPECT(random != forward && random != reverse && random == run(emu::Order::Random, 1));
  EXPECT(random != run(emu::Order::Random, 2));
}
