#include "unit.hpp"

using namespace units;

__global__ void count_all(int* i, unsigned* u, unsigned long long* l, float* f, double* d) {
  const int me = int(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(i, -me);
  atomicSub(i + 1, me);
  atomicMin(i + 2, me - 7);
  atomicMax(i + 3, -me);
  atomicAdd(u, 1u);
  atomicOr(u + 1, 1u << (me % 32));
  atomicAnd(u + 2, ~(1u << (me % 7)));
  atomicXor(u + 3, unsigned(me));
  atomicInc(u + 4, 9);
  atomicDec(u + 5, 9);
  atomicAdd(l, 1ull << 33);
  atomicMax(l + 1, (1ull << 40) + unsigned(me));
  atomicMin(l + 2, (1ull << 40) - unsigned(me));
  atomicAdd(f, 0.5f);
  atomicAdd(d, 0.25);
}

UNIT(atomics_lose_nothing) {
  constexpr int kBlocks = 3, kThreads = 50, kAll = kBlocks * kThreads;
  int i[4] = {0, 0, 100, -100};
  unsigned u[6] = {0, 0, 0xffffffffu, 0, 0, 0}, odd = 0;
  unsigned long long l[3] = {0, 0, ~0ull};
  float f = 0;
  double d = 0;
  CUDA_LAUNCH(count_all, kBlocks, kThreads, 0, nullptr, i, u, l, &f, &d);
  for (int k = 0; k < kAll; ++k) odd ^= unsigned(k);
  EXPECT(i[0] == -kAll * (kAll - 1) / 2 && i[1] == i[0] && i[2] == -7 && i[3] == 0);
  EXPECT(u[0] == kAll && u[1] == 0xffffffffu && u[2] == ~0x7fu && u[3] == odd);
  EXPECT(u[4] == kAll % 10);              // 0 .. 9 and round
  EXPECT(u[5] == (10 - kAll % 10) % 10);  // 9 .. 0 and round
  EXPECT(l[0] == (1ull << 33) * kAll && l[1] == (1ull << 40) + kAll - 1 && l[2] == (1ull << 40) - (kAll - 1));
  EXPECT(f == 0.5f * kAll && d == 0.25 * kAll);
}

__global__ void swap_in(unsigned* place, unsigned* seen) {
  seen[threadIdx.x] = atomicExch(place, threadIdx.x + 1);
  unsigned before = atomicAdd(place + 1, 0u), read;  // the usual loop
  do {
    read = before;
    before = atomicCAS(place + 1, read, read + 2);
  } while (before != read);
}

UNIT(exchanges_hand_every_value_on) {
  unsigned place[2] = {0, 0}, seen[40], sum = 0;
  one_block(swap_in, 40, place, seen);
  for (unsigned each : seen) sum += each;
  EXPECT(sum + place[0] == 40 * 41 / 2);
  EXPECT(place[1] == 80);
}

__global__ void last_block_adds(const int* in, int* parts, unsigned* ticket, int* out) {
  SHARED_ARRAY(int, last, 1);
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = in[blockIdx.x];
    __threadfence();
    last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (last[0] && threadIdx.x == 0)
    for (unsigned b = 0; b < gridDim.x; ++b) out[0] += parts[b];
}

UNIT(a_fence_and_a_ticket_hand_over_between_blocks) {
  int in[6] = {1, 20, 300, 4000, 50000, 600000}, parts[6], out = 0;
  unsigned ticket = 0;
  CUDA_LAUNCH(last_block_adds, 6, 33, 0, nullptr, in, parts, &ticket, &out);
  EXPECT(out == 654321);
}
