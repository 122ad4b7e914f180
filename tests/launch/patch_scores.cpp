// Launch arithmetic of the patch scores.
#include "../../csrc/cuda/patch_scores_launch.h"

#include "checks.h"

using namespace dq_fast;

namespace {

void plan_of(const PatchScoresShape& x) {
  const std::string where = "[" + std::to_string(x.batch) + ", " + std::to_string(x.channels) + ", " +
                            std::to_string(x.height) + ", " + std::to_string(x.width) + "] to " +
                            std::to_string(x.rows) + " x " + std::to_string(x.cols) + (x.channels_last ? " last" : "") +
                            (x.constant_gradients ? " constant" : "") + " type " + std::to_string(x.activation_dtype);
  const PatchScoresPlan plan = patch_scores_plan(x);
  const int64_t positions = x.height * x.width, element = patch_element(x.activation_dtype);
  const int64_t images = x.batch < kPatchImages ? x.batch : kPatchImages;
  expect(plan.parts >= 1 && plan.warps >= 1, "nobody works", where);
  expect_launchable(images * plan.parts, 1, plan.warps * 32, plan.shared, where);
  expect(plan.maps >= 0 && plan.workspace >= 0, "negative workspace", where);
  if (plan.large) {
    expect(positions > kPatchSmall, "a small map taken for a large one", where);
    expect(plan.shared == 0 || plan.shared >= 8 * positions, "the map does not fit into shared memory", where);
    expect(plan.maps == plan.parts && !plan.fused, "a map for each part", where);
  } else {
    const int64_t tile = patch_tile(x, plan.lanes);
    expect(plan.warps * plan.parts == kPatchWarps, "an image has another number of warps", where);
    expect(plan.stages >= 1 && plan.stages <= kPatchStages, "stages of the ring", where);
    expect(x.channels_last || plan.lanes * kPatchKept >= positions, "a lane keeps too little of the map", where);
    // 15 bytes: where the tile begins, modulo 16
    expect(plan.slot_a >= tile * positions * element + 15, "a tile of activations does not fit", where);
    if (!x.constant_gradients) expect(plan.slot_g == plan.slot_a, "a tile of gradients does not fit", where);
    expect(plan.slot_a % 16 == 0 && plan.slot_g % 16 == 0 && plan.maps_at % 16 == 0, "not on 16 bytes", where);
    expect(plan.maps_at >= plan.warps * plan.stages * (plan.slot_a + plan.slot_g), "maps lie in the ring", where);
    const int64_t after = plan.warps * positions + (plan.fused ? plan.shares : 0);
    expect(plan.shared >= plan.maps_at + 8 * after, "shared memory ends too early", where);
    expect(plan.shared <= kPatchShared, "more shared memory than sm_86 has", where);
    expect(!plan.fused || plan.parts == 1, "a split image finishes in no single block", where);
  }
  if (!plan.fused) {
    const int64_t shares = plan.shares_in_workspace ? plan.shares : 0;
    expect(plan.workspace >= x.batch * (plan.maps * positions + shares), "workspace", where);
    expect_launchable(images, 1, kPatchFinishThreads, plan.shares_in_workspace ? 0 : 8 * plan.shares, where);
    expect(plan.shares_in_workspace || 8 * plan.shares <= 48 * 1024, "the finish asks for more than 48 KB", where);
  }
}

}  // namespace

int main() {
  for (int64_t batch : {int64_t(1), int64_t(2), int64_t(5), int64_t(128), int64_t(1000), 3 * kPatchImages})
    for (int64_t channels : {1, 3, 32, 33, 512, 2048, 100'000})
      for (int64_t side : {1, 2, 5, 7, 8, 14, 16, 17, 56, 112, 224, 600})
        for (int64_t grid : {1, 4, 14, 64, 200})
          for (int dtype : {int(kFloat32), int(kFloat64), int(kBFloat16), int(kFloat16)})
            for (bool constant : {false, true})
              for (bool last : {false, true})
                plan_of({batch, channels, side, side, grid, grid + 1, dtype, dtype, constant, last});
  plan_of({1, 8, 1, 256, 1, 64, kFloat64, kFloat64, false, true});
  plan_of({1, 8, 3, 300, 7, 1, kFloat16, kFloat64, true, true});
  return result();
}
