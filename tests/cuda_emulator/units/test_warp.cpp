#include "unit.hpp"

using namespace units;

namespace {
constexpr unsigned kAll = 0xffffffffu;
}

__global__ void shuffles(int* out, int width) {
  const int lane = threadIdx.x;
  out[lane] = __shfl_sync(kAll, 100 + lane, 5, width);
  out[32 + lane] = __shfl_up_sync(kAll, 100 + lane, 3, width);
  out[64 + lane] = __shfl_down_sync(kAll, 100 + lane, 3, width);
  out[96 + lane] = __shfl_xor_sync(kAll, 100 + lane, 6, width);
}

UNIT(shuffles_by_width) {
  for (int width : {32, 16, 8, 4, 1}) {
    int out[128];
    one_block(shuffles, 32, out, width);
    for (int lane = 0; lane < 32; ++lane) {
      const int first = lane / width * width, last = first + width - 1;
      EXPECT(out[lane] == 100 + first + 5 % width);
      EXPECT(out[32 + lane] == 100 + (lane - 3 >= first ? lane - 3 : lane));
      EXPECT(out[64 + lane] == 100 + (lane + 3 <= last ? lane + 3 : lane));
      const int other = lane ^ 6;  // a lane of a later part is not read, one of an earlier part is
      EXPECT(out[96 + lane] == 100 + (other <= last ? other : lane));
    }
  }
}

__global__ void shuffle_numbers(double* d, float* f, long long* l) {
  const int lane = threadIdx.x;
  d[lane] = __shfl_xor_sync(kAll, 0.1 * lane, 1);
  f[lane] = __shfl_xor_sync(kAll, 0.1f * float(lane), 2);
  l[lane] = __shfl_down_sync(kAll, (1ll << 40) + lane, 31);
}

UNIT(shuffles_move_64_bits) {
  double d[32];
  float f[32];
  long long l[32];
  one_block(shuffle_numbers, 32, d, f, l);
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT(d[lane] == 0.1 * (lane ^ 1));
    EXPECT(f[lane] == 0.1f * float(lane ^ 2));
    EXPECT(l[lane] == (1ll << 40) + (lane == 0 ? 31 : lane));
  }
}

__global__ void shuffle_halves(int* out) {
  const int lane = threadIdx.x;
  if (lane < 16)
    out[lane] = __shfl_sync(0xffffu, lane, 15 - lane);
  else
    out[lane] = __shfl_sync(0xffff0000u, lane, 47 - lane);
}

UNIT(parts_of_a_warp_go_their_own_ways) {
  int out[32];
  one_block(shuffle_halves, 32, out);
  for (int lane = 0; lane < 32; ++lane) EXPECT(out[lane] == (lane < 16 ? 15 - lane : 47 - lane));
}

__global__ void after_exit(int* out) {
  if (threadIdx.x >= 20) return;
  out[threadIdx.x] = __shfl_xor_sync(kAll, int(threadIdx.x), 4);
  out[32 + threadIdx.x] = int(__popc(__ballot_sync(kAll, 1)));
}

UNIT(exited_lanes_are_not_waited_for_and_hold_poison) {
  int out[64];
  one_block(after_exit, 32, out);
  for (int lane = 0; lane < 20; ++lane) {
    EXPECT(out[lane] == ((lane ^ 4) < 20 ? lane ^ 4 : -1));
    EXPECT(out[32 + lane] == 20);
  }
}

__global__ void votes(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[lane] = __ballot_sync(kAll, lane % 3 == 0);
  out[32 + lane] = unsigned(__any_sync(kAll, lane == 7)) * 8 + unsigned(__any_sync(kAll, 0)) * 4 +
                   unsigned(__all_sync(kAll, lane < 32)) * 2 + unsigned(__all_sync(kAll, lane != 7));
}

UNIT(votes_count_every_lane) {
  unsigned out[64], thirds = 0;
  one_block(votes, 32, out);
  for (unsigned lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT(out[lane] == thirds);
    EXPECT(out[32 + lane] == 10);
  }
}

__global__ void matches(unsigned* out, int* all) {
  const int lane = threadIdx.x;
  out[lane] = __match_any_sync(kAll, lane % 5);
  out[32 + lane] = __match_all_sync(kAll, 1.5, &all[lane]);
  out[64 + lane] = __match_all_sync(kAll, lane == 3, &all[32 + lane]);
}

UNIT(matches_find_equal_lanes) {
  unsigned out[96];
  int all[64];
  one_block(matches, 32, out, all);
  for (int lane = 0; lane < 32; ++lane) {
    unsigned same = 0;
    for (int other = lane % 5; other < 32; other += 5) same |= 1u << other;
    EXPECT(out[lane] == same);
    EXPECT(out[32 + lane] == kAll && all[lane] == 1);
    EXPECT(out[64 + lane] == 0 && all[32 + lane] == 0);
  }
}

__global__ void reductions(unsigned* u, int* i) {
  const int lane = threadIdx.x;
  const unsigned unsigned_results[] = {__reduce_add_sync(kAll, unsigned(lane) + 0x80000000u),
                                       __reduce_min_sync(kAll, unsigned(lane - 1)),
                                       __reduce_max_sync(kAll, unsigned(lane - 1)),
                                       __reduce_and_sync(kAll, 0xf0u | unsigned(lane)),
                                       __reduce_or_sync(kAll, 1u << lane),
                                       __reduce_xor_sync(kAll, unsigned(lane) | 0x100u)};
  const int results[] = {__reduce_add_sync(kAll, -lane), __reduce_min_sync(kAll, lane - 5),
                         __reduce_max_sync(kAll, lane - 5)};
  if (lane != 13) return;  // each lane has them all: ask one
  for (int k = 0; k < 6; ++k) u[k] = unsigned_results[k];
  for (int k = 0; k < 3; ++k) i[k] = results[k];
}

UNIT(reductions_of_integers) {
  unsigned u[6];
  int i[3];
  one_block(reductions, 32, u, i);
  EXPECT(u[0] == 31 * 16);  // 32 times 2^31 wraps to nothing
  EXPECT(u[1] == 0 && u[2] == 0xffffffffu);
  EXPECT(u[3] == 0xf0 && u[4] == 0xffffffffu && u[5] == 0);
  EXPECT(i[0] == -31 * 16 && i[1] == -5 && i[2] == 26);
}

__global__ void not_mine() { __syncwarp(threadIdx.x == 3 ? ~8u : 8u); }
__global__ void two_places(int* out) {
  if (threadIdx.x < 16)
    out[threadIdx.x] = __shfl_sync(kAll, 1, 0);
  else
    out[threadIdx.x] = __shfl_sync(kAll, 2, 0);
}
__global__ void never_together(int* out) {
  if (threadIdx.x != 9) out[threadIdx.x] = __shfl_sync(kAll, 1, 0);
  if (threadIdx.x == 9) __syncthreads();
}

UNIT(wrong_masks_are_errors) {
  int out[32];
  EXPECT(holds(error_of([&] { one_block(not_mine, 32); }), "lane not in its own mask"));
  EXPECT(holds(error_of([&] { one_block(two_places, 32, out); }), "different source lines"));
  const std::string stuck = error_of([&] { one_block(never_together, 32, out); });
  EXPECT(holds(stuck, "deadlock") && holds(stuck, "warp collective") && holds(stuck, "test_warp.cpp"));
}

__global__ void hand_over(int* out, bool sync) {
  SHARED_ARRAY(int, box, 32);
  box[threadIdx.x] = int(threadIdx.x);
  if (sync) __syncwarp();
  out[threadIdx.x] = box[31 - threadIdx.x];
}

UNIT(syncwarp_hands_over_and_its_absence_shows) {
  int out[32], wrong = 0;
  one_block(hand_over, 32, out, true);
  for (int lane = 0; lane < 32; ++lane) EXPECT(out[lane] == 31 - lane);
#ifndef EMU_TSAN  // which reports the race, as it should
  one_block(hand_over, 32, out, false);
  for (int lane = 0; lane < 32; ++lane) wrong += out[lane] != 31 - lane;
  EXPECT(wrong > 0);
#endif
  (void)wrong;
}
