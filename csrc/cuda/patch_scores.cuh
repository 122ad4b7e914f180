// GradCAM++ scores of patches: channel weights, attention map, and the map averaged over the patch grid, in one launch.
//
// Formula, for an image with activations A [c, h, w] and gradients g of the target logit, S_k = sum_ij A_k,ij:
//   w_k    = sum_ij t(g_k,ij, S_k), zero where g <= 0, by variant
//            paper     t = g / (2 + g S)                     Eq. 4 with the common factor g^2 cancelled: no underflow
//            torchcam  t = g^3
//            grad-cam  t = g * g^2 / (2 g^2 + S g^3 + 1e-6)
//            (g constant over the map: w_k = h w t(g_k, S_k))
//   map    = max(0, sum_k w_k A_k)                           [h, w]
//   scores = R_h map R_w^T                                   [rows, cols]
// Inputs of any precision, float64 from the first sum to the last.
//
// Mapping of maps up to 256 positions: a block is an image, or a part of it where a small batch would leave most of the
// GPU idle. Its 16 warps deal the channels among them, a tile at a time: 4, 8 or 1 of them, whose numbers follow each
// other in memory (channels first), or 32 bytes of channels at every position (channels last). Each warp copies its
// tiles into a ring of its own with cp.async, two ahead where there is room, so that no warp waits for another before
// the end. In a tile a channel belongs to 8, 4 or 32 lanes (channels last: 4, 2 or 8), which sum its activations, sum
// its terms, and add weight times activation to their part of the map: in registers; channels last in shared memory,
// after one exchange among the channels' lanes. Then the warps' maps are added in order, and the scores made, in the
// same block; only where an image is split, patch_scores_finish does it, in a second launch. An image's 16 sums are the
// same however many blocks it has, so its scores are the same bits in any batch. Larger maps: patch_scores_large.cuh.
//
// Bytes: activations once, gradients once (constant ones [batch, channels]); scores are nothing beside them.
// Floor: those bytes over the memory's bandwidth: 25.7 MB, 8.6 us at 3 TB/s, for [128, 512, 7, 7] float32.
// Prediction (nothing here was timed on a GPU; counted in the machine code for sm_90): 75 instructions an activation
// and its gradient, 9 of them float64 and 3 conversions, are 8.1 us of an H100's issue slots, 2.0 us of its float64
// units and 2.6 us of its converters. So memory and issue are nearly even: predicted 14 us, launch not counted, of them
// 2 us the two ends of a block, which nothing hides while every multiprocessor has one; constant gradients, with a
// quotient a channel, predicted 8 us. On GPUs with few float64 units (1/64: GeForce) these bound it: predicted 0.06 ms
// on an RTX 4090, whose memory would take 0.03 ms.
#pragma once
#include "patch_scores_finish.cuh"
#include "patch_scores_stage.cuh"

namespace dq_fast {

// A tile in shared memory: activations and gradients (constant ones: a number a channel) of `present` channels.
struct PatchTile {
  const char *a, *g;
  int present;
};

// A lane's numbers of a tile: n of them; `most` is any lane's n at most, so that all lanes leave a loop at once.
struct PatchCounts {
  int n, most;
};

// each(i) for the lane's numbers, of which no lane has more than kMost; 0: there is no bound.
template <int kMost, class Each>
__device__ __forceinline__ void for_own(PatchCounts of, Each each) {
  if constexpr (kMost > 0) {
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i >= of.most) break;
      if (i < of.n) each(i);
    }
  } else {
#pragma unroll 4
    for (int i = 0; i < of.most; ++i)
      if (i < of.n) each(i);
  }
}

// The weight of a lane's channel.
template <class Layout, class T>
__device__ __forceinline__ double weight_of(const PatchTile& tile, const T* a, const T* g, PatchCounts of, int channel,
                                            int positions, int variant, int constant_dtype) {
  constexpr int kMost = Layout::kMost, kStep = Layout::kStep;
  double sum = 0, weight = 0;
  if (variant != kPatchTorchcam) {
    for_own<kMost>(of, [&](int i) { sum += number(a[i * kStep]); });
    sum = Layout::add_up(sum);
  }
  if (constant_dtype != kPatchNotConstant) {
    const double gradient = of.n ? number_at(tile.g, constant_dtype, channel) : 0;
    return constant_weight(variant, gradient, sum, positions);
  }
  if (variant == kPatchPaper)
    for_own<kMost>(of, [&](int i) { add_term<kPatchPaper>(real(g[i * kStep]), sum, weight); });
  else if (variant == kPatchTorchcam)
    for_own<kMost>(of, [&](int i) { add_term<kPatchTorchcam>(real(g[i * kStep]), sum, weight); });
  else
    for_own<kMost>(of, [&](int i) { add_term<kPatchGradCam>(real(g[i * kStep]), sum, weight); });
  return Layout::add_up(weight);
}

// Tiles [kTile, positions], consecutive numbers; kLanes lanes a channel, each with every kLanes-th position.
template <class T, int kLanes>
struct ChannelsFirst {
  static constexpr int kTile = 32 / kLanes, kStep = kLanes, kMost = kPatchKept;
  const int positions, channel, slice;
  double part[kPatchKept] = {};

  __device__ ChannelsFirst(int lane, int positions, double*)
      : positions(positions), channel(lane / kLanes), slice(lane % kLanes) {}

  __device__ static double add_up(double v) { return lane_sum<1, kLanes>(v); }

  __device__ static void stage(char* slot, const char* image, int channels, int first, int positions, int lane) {
    const int row = positions * int(sizeof(T));
    const int present = channels - first < kTile ? channels - first : kTile;
    // Tiles have 16 bytes or more: one before, one behind, and that one whole.
    const bool inside = first > 0 && first + 2 * kTile < channels;
    stage_span(slot, image, channels * row, first * row, present * row, inside, lane);
  }

  // How far into its slot a tile begins.
  __device__ static int past(const char* image, int first, int positions) {
    return past_16(image + first * positions * int(sizeof(T)));
  }

  __device__ __forceinline__ void add(const PatchTile& tile, int variant, int constant_dtype) {
    const T* a = reinterpret_cast<const T*>(tile.a) + channel * positions + slice;
    const T* g = reinterpret_cast<const T*>(tile.g) + channel * positions + slice;
    const int most = (positions + kLanes - 1) / kLanes;
    const PatchCounts of{channel < tile.present ? (positions - slice + kLanes - 1) / kLanes : 0, most};
    const double weight = weight_of<ChannelsFirst>(tile, a, g, of, channel, positions, variant, constant_dtype);
    read_again();  // from shared memory: in registers they would be too many for two blocks a multiprocessor
    for_own<kMost>(of, [&](int i) { part[i] += weight * number(a[i * kStep]); });
  }

  // The warp's map goes to `to` [positions].
  __device__ __forceinline__ void write(double* to) const {
#pragma unroll
    for (int i = 0; i < kPatchKept; ++i) {
      if (i * kLanes >= positions) break;
      const double total = lane_sum<kLanes, 32>(part[i]);
      const int p = i * kLanes + slice;
      if (channel == 0 && p < positions) to[p] = total;
    }
  }
};

// Tiles [positions, kTile]; a lane a channel and every kLanes-th position. `map` [positions] is the warp's.
template <class T>
struct ChannelsLast {
  static constexpr int kTile = kPatchTileBytes / sizeof(T), kLanes = 32 / kTile, kStep = 32, kMost = 0;
  const int lane, positions, channel, slice;
  const int owned;  // of every 32 positions of the map the one that only this lane touches
  double* const map;

  __device__ ChannelsLast(int lane, int positions, double* map)
      : lane(lane),
        positions(positions),
        channel(lane % kTile),
        slice(lane / kTile),
        owned(slice + kLanes * channel),
        map(map) {
    for (int p = owned; p < positions; p += 32) map[p] = 0;
  }

  __device__ static double add_up(double v) { return lane_sum<kTile, 32>(v); }

  __device__ static void stage(char* slot, const char* image, int channels, int first, int positions, int lane) {
    stage_rows<kTile, T>(slot, image, channels, first, positions, lane);
  }

  __device__ static int past(const char*, int, int) { return 0; }

  __device__ __forceinline__ void add(const PatchTile& tile, int variant, int constant_dtype) {
    const T* a = reinterpret_cast<const T*>(tile.a) + lane;
    const T* g = reinterpret_cast<const T*>(tile.g) + lane;
    const PatchCounts of{channel < tile.present ? (positions - slice + kLanes - 1) / kLanes : 0,
                         (positions + kLanes - 1) / kLanes};
    const double weight = weight_of<ChannelsLast>(tile, a, g, of, channel, positions, variant, constant_dtype);
    for (int base = 0; base < positions; base += 32) {
      double v[kTile];
#pragma unroll
      for (int q = 0; q < kTile; ++q) {
        const int i = base / kLanes + q;
        v[q] = i < of.n ? weight * number(a[i * kStep]) : 0;
      }
      const double total = dealt_sum<kTile>(v, lane);
      if (base + owned < positions) map[base + owned] += total;
    }
  }

  __device__ __forceinline__ void write(double* to) const {
    if (to == map) return;
    for (int p = owned; p < positions; p += 32) to[p] = map[p];
  }
};

// The warps of a block add their channels' maps; where the block has the whole image, it finishes it.
template <class Layout>
__device__ __forceinline__ void add_maps(const PatchJob& job) {
  constexpr int kTile = Layout::kTile;
  DYN_SMEM(char, shared);
  const PatchScoresPlan& plan = job.plan;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int parts = int(plan.parts);
  const int64_t image = blockIdx.x / unsigned(parts);
  const int nth = int(blockIdx.x % unsigned(parts)) * plan.warps + warp;  // of the image's kPatchWarps
  const int positions = int(job.height * job.width), stages = plan.stages;
  const int channels = int(job.channels), tiles = (channels + kTile - 1) / kTile;  // small: patch_scores_plan
  const bool constant = job.constant_dtype != kPatchNotConstant;
  const int gradient = !constant ? 0 : job.constant_dtype == kFloat64 ? 8 : job.constant_dtype == kFloat32 ? 4 : 2;
  const char* a = job.activations + image * job.activation_stride;
  const char* g = job.gradients + image * job.gradient_stride;
  const int slot = int(plan.slot_a + plan.slot_g);
  char* ring = shared + warp * stages * slot;
  double* maps = reinterpret_cast<double*>(shared + plan.maps_at);
  double* shares = maps + plan.warps * positions;
  Layout mine(lane, positions, maps + warp * positions);

  const auto stage = [&](int tile, char* to) {
    if (tile < tiles) {
      const int first = tile * kTile;
      Layout::stage(to, a, channels, first, positions, lane);
      if (constant)
        stage_span(to + plan.slot_a, g, channels * gradient, first * gradient,
                   gradient * (channels - first < kTile ? channels - first : kTile), false, lane);
      else
        Layout::stage(to + plan.slot_a, g, channels, first, positions, lane);
    }
    cp_async_commit();  // an empty one too: the wait below counts them
  };

  // Begins where the first tile is still `stages` - 1 tiles away; a warp without tiles comes by once.
  const int ahead = (stages - 1) * kPatchWarps;
  int filled = 0, read = 0;
  for (int tile = nth - ahead; tile < tiles || tile <= nth; tile += kPatchWarps) {
    __syncwarp();  // nobody reads the slot any more that is filled now
    stage(tile + ahead, ring + filled * slot);
    filled = filled + 1 == stages ? 0 : filled + 1;
    if (tile < 0) continue;
    if (tile == nth && plan.fused) fill_shares<int>(job, shares);  // while the first tiles are on their way
    if (stages == 3)
      cp_async_wait<2>();
    else if (stages == 2)
      cp_async_wait<1>();
    else
      cp_async_wait<0>();
    __syncwarp();  // all lanes' copies are here
    if (tile >= tiles) break;
    const int first = tile * kTile;
    const char* at = ring + read * slot;
    read = read + 1 == stages ? 0 : read + 1;
    PatchTile found{at + Layout::past(a, first, positions), at + plan.slot_a,
                    channels - first < kTile ? channels - first : kTile};
    found.g += constant ? past_16(g + first * gradient) : Layout::past(g, first, positions);
    mine.add(found, job.variant, job.constant_dtype);
  }
  if (!plan.fused) {
    mine.write(job.maps + (image * kPatchWarps + nth) * positions);
    return;
  }
  mine.write(maps + warp * positions);
  finish_image<int>(job, maps, kPatchWarps, shares, job.scores + image * job.rows * job.cols);
}

// A part of an image a block; plan.warps * 32 threads.
template <class T, int kLanes>
__global__ void __launch_bounds__(kPatchWarps * 32, 2) patch_maps(const PatchJob job) {
  add_maps<ChannelsFirst<T, kLanes>>(job);
}
template <class T>
__global__ void __launch_bounds__(kPatchWarps * 32, 2) patch_maps_last(const PatchJob job) {
  add_maps<ChannelsLast<T>>(job);
}

}  // namespace dq_fast
