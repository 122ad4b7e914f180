// Launch arithmetic of the patch scores, plain C++: tested without a GPU.
#pragma once
#include <cstdint>

#include "../kernels.h"
#include "patch_scores.h"

namespace dq_fast {

// An image's channels are dealt to this many warps, each of which adds its own to a map; the maps are then added in
// order. The number is fixed, so that an image's scores are the same bits in any batch and on any GPU.
constexpr int kPatchWarps = 16;
constexpr int64_t kPatchSmall = 256;  // positions up to which a lane keeps its part of a map in 8 registers
constexpr int kPatchKept = 8;
constexpr int64_t kPatchSmallImage = 1 << 27;  // and numbers of an image: offsets in it take 31 bits
constexpr int64_t kPatchShared = 96 << 10;     // bytes a block may take: sm_80 has 163 KB, but sm_86 and sm_89 99 KB
constexpr int kPatchStages = 3;                // tiles of a warp at most: one at work, two on their way
constexpr int kPatchTileBytes = 32;            // of a row of a channels-last tile: what memory hands out at least
constexpr int64_t kPatchBlocks = 264;          // two blocks on each of an H100's 132 multiprocessors
// Activations a block has at least where an image is split between blocks: fewer take less time than the second launch,
// which then adds the blocks' maps.
constexpr int64_t kPatchBlockNumbers = 1 << 14;
constexpr int64_t kPatchImages = 1 << 26;  // of one launch: times kPatchWarps blocks they stay within a grid

// Larger maps: a block takes a channel (channels-last: 32 of them) at a time and adds to a map in shared memory.
constexpr int kPatchLargeThreads = 256;
constexpr int64_t kPatchLargeShared = 88 << 10;  // bytes of that map; beyond, it stays in global memory
constexpr int64_t kPatchLargeChannels = 64;      // of a block at least: its map is 2 % of what it reads
constexpr int64_t kPatchLargeParts = 16;

constexpr int kPatchFinishThreads = 256;
constexpr int64_t kPatchFinishShared = 40 << 10;  // bytes; more stays in the workspace

struct PatchScoresPlan {
  bool large;              // patch_scores_large.cuh: more than kPatchSmall positions or kPatchSmallImage numbers
  int lanes;               // of a warp that share a channel (channels first)
  int warps;               // of a block
  int64_t parts;           // blocks an image
  int stages;              // tiles in a warp's ring
  int64_t slot_a, slot_g;  // bytes of a tile of activations, of gradients
  int64_t maps_at;         // byte of shared memory where the block's maps [warps, positions] begin
  bool fused;              // the block finishes the image: no workspace, no second launch
  int64_t shared;          // bytes of dynamic shared memory
  int64_t maps;            // an image's maps in the workspace, unless fused
  int64_t shares;          // float64 numbers that finishing an image takes besides
  bool shares_in_workspace;
  int64_t workspace;  // float64 numbers
};

inline int patch_element(int dtype) { return dtype == kFloat64 ? 8 : dtype == kFloat32 ? 4 : 2; }

// Channels of a warp's tile.
inline int64_t patch_tile(const PatchScoresShape& x, int lanes) {
  return x.channels_last ? kPatchTileBytes / patch_element(x.activation_dtype) : 32 / lanes;
}

inline PatchScoresPlan patch_scores_plan(const PatchScoresShape& x) {
  const auto up = [](int64_t bytes) { return (bytes + 15) / 16 * 16; };
  const int64_t positions = x.height * x.width;
  PatchScoresPlan plan{};
  plan.large = positions > kPatchSmall || x.channels * positions > kPatchSmallImage;
  plan.shares = x.rows * x.height + x.cols * x.width + x.height * x.cols;
  if (plan.large) {
    const int64_t parts = x.channels / kPatchLargeChannels;
    plan.parts = plan.maps = parts < 1 ? 1 : parts < kPatchLargeParts ? parts : kPatchLargeParts;
    plan.warps = kPatchLargeThreads / 32;
    plan.shared = 8 * positions <= kPatchLargeShared ? 8 * positions : 0;
  } else {
    plan.lanes = positions <= 4 * kPatchKept ? 4 : positions <= 8 * kPatchKept ? 8 : 32;
    const int64_t tile = patch_tile(x, plan.lanes);
    // A tile of consecutive numbers lies in its slot as it lies in memory modulo 16 bytes.
    plan.slot_a = up(tile * positions * patch_element(x.activation_dtype)) + 16;
    plan.slot_g = x.constant_gradients ? up(tile * patch_element(x.gradient_dtype)) + 16 : plan.slot_a;
    plan.parts = 1;
    while (plan.parts < kPatchWarps && 2 * plan.parts * x.batch <= kPatchBlocks &&
           x.channels * positions / (2 * plan.parts) >= kPatchBlockNumbers)
      plan.parts *= 2;
    const auto fits = [&](int64_t shares) {
      plan.warps = int(kPatchWarps / plan.parts);
      for (plan.stages = kPatchStages; plan.stages > 0; --plan.stages) {
        plan.maps_at = plan.warps * plan.stages * (plan.slot_a + plan.slot_g);
        plan.shared = plan.maps_at + 8 * (plan.warps * positions + shares);
        if (plan.shared <= kPatchShared) return true;
      }
      return false;
    };
    plan.fused = plan.parts == 1 && plan.shares <= kPatchShared / 8 && fits(plan.shares);
    if (!plan.fused)
      while (!fits(0)) plan.parts *= 2;
    plan.maps = kPatchWarps;
  }
  if (plan.fused) return plan;
  plan.shares_in_workspace = plan.shares > kPatchFinishShared / 8;
  plan.workspace = x.batch * (plan.maps * positions + (plan.shares_in_workspace ? plan.shares : 0));
  return plan;
}

}  // namespace dq_fast
