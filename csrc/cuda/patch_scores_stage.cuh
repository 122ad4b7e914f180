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

// Bytes [begin, begin + bytes) of an image of `size` bytes go to slot + past_16(image + begin).
__device__ __forceinline__ void stage_span(char* slot, const char* image, int64_t size, int64_t begin, int bytes,
                                           int lane) {
  const int past = past_16(image + begin);
  const int64_t first = begin - past;  // may lie before the image: then it is not read
  for (int v = 16 * lane; v < past + bytes; v += 16 * 32) {
    const int64_t from = first + v;
    if (from >= 0 && from + 16 <= size) {
      cp_async16(slot + v, image + from);
      continue;
    }
    for (int j = 0; j < 16; ++j)
      if (v + j >= past && v + j < past + bytes) slot[v + j] = image[from + j];
  }
}

// kTile channels from the first one on of every position of an image [positions, channels] go to
// slot [positions, kTile]; those of them that the image has.
template <int kTile, class T>
__device__ __forceinline__ void stage_rows(char* slot, const char* image, int64_t channels, int64_t first,
                                           int positions, int lane) {
  const int64_t row = channels * int64_t(sizeof(T));
  const char* from = image + first * int64_t(sizeof(T));
  if (((reinterpret_cast<uintptr_t>(image) | uintptr_t(row)) & 15) == 0 && first + kTile <= channels) {
    constexpr int kVectors = kPatchTileBytes / 16;
    for (int v = lane; v < kVectors * positions; v += 32)
      cp_async16(slot + 16 * v, from + v / kVectors * row + 16 * (v % kVectors));
    return;
  }
  const int present = int(channels - first < kTile ? channels - first : kTile);
  T* to = reinterpret_cast<T*>(slot);
  for (int e = lane; e < kTile * positions; e += 32)
    if (e % kTile < present) to[e] = reinterpret_cast<const T*>(from + e / kTile * row)[e % kTile];
}

}  // namespace dq_fast
