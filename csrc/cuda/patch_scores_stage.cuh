// Copies of tiles into shared memory, by a warp, in flight while it works: cp.async of 16 bytes a lane where all 16 lie
// within the image, single numbers at its ends. Nothing outside the image is read.
#pragma once
#include "patch_scores_terms.cuh"

namespace dq_fast {

#if defined(__CUDACC__)  // the emulator has its own
__device__ __forceinline__ void cp_async16(void* to, const void* from) {
  const unsigned at = unsigned(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}
#endif

__device__ __forceinline__ int past_16(const char* address) { return int(reinterpret_cast<uintptr_t>(address) & 15); }

// Bytes [begin, begin + bytes) of an image of `size` bytes go to slot + past_16(image + begin). `inside`: 15 bytes
// before and behind them are the image's too.
__device__ __forceinline__ void stage_span(char* slot, const char* image, int size, int begin, int bytes, bool inside,
                                           int lane) {
  const int past = past_16(image + begin);
  const int end = past + bytes;
  if (inside) {
    const char* from = image + (begin - past);
#pragma unroll 1
    for (int v = 16 * lane; v < end; v += 16 * 32) cp_async16(slot + v, from + v);
    return;
  }
#pragma unroll 1
  for (int v = 16 * lane; v < end; v += 16 * 32) {
    const int from = begin - past + v;
    if (from >= 0 && from + 16 <= size) {
      cp_async16(slot + v, image + from);
      continue;
    }
#pragma unroll 1
    for (int j = 0; j < 16; ++j)
      if (v + j >= past && v + j < end) slot[v + j] = image[from + j];
  }
}

// kTile channels from the first one on of every position of an image [positions, channels] go to
// slot [positions, kTile]; those of them that the image has.
template <int kTile, class T>
__device__ __forceinline__ void stage_rows(char* slot, const char* image, int channels, int first, int positions,
                                           int lane) {
  const int row = channels * int(sizeof(T));
  const char* from = image + first * int(sizeof(T));
  if (((reinterpret_cast<uintptr_t>(image) | uintptr_t(row)) & 15) == 0 && first + kTile <= channels) {
    constexpr int kVectors = kPatchTileBytes / 16;
    for (int v = lane; v < kVectors * positions; v += 32)
      cp_async16(slot + 16 * v, from + v / kVectors * row + 16 * (v % kVectors));
    return;
  }
  const int present = channels - first < kTile ? channels - first : kTile;
  T* to = reinterpret_cast<T*>(slot);
  for (int e = lane; e < kTile * positions; e += 32)
    if (e % kTile < present) to[e] = reinterpret_cast<const T*>(from + e / kTile * row)[e % kTile];
}

}  // namespace dq_fast
