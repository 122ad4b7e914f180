// Launches of patch_scores on the benchmark's cases, [128, 512, 7, 7] float32 to a grid of 14 x 14, and on larger maps.
#include "../../../csrc/cuda/patch_scores_launch.h"

#include <algorithm>

#include "launches.h"

using namespace dq_fast;

namespace {

const char* kOp = "patch_scores";

struct Type {
  const char* name;
  int dtype;
};
constexpr Type kTypes[] = {
    {"float", kFloat32}, {"double", kFloat64}, {"__nv_bfloat16", kBFloat16}, {"__half", kFloat16}};

std::string kernel_of(const Type& t, const PatchScoresShape& shape, const PatchScoresPlan& plan) {
  const std::string type = t.name;
  if (plan.large) return "patch_maps_large<" + type + (shape.channels_last ? ", true>" : ", false>");
  if (shape.channels_last) return "patch_maps_last<" + type + ">";
  return "patch_maps<" + type + ", " + std::to_string(plan.lanes) + ">";
}

void one(const char* name, const PatchScoresShape& shape) {
  const PatchScoresPlan plan = patch_scores_plan(shape);
  const double positions = double(shape.height * shape.width), maps = double(shape.batch * shape.channels);
  const double numbers = maps * positions, gradients = shape.constant_gradients ? maps : numbers;
  const double grid = double(shape.batch * shape.rows * shape.cols), partial = 8 * double(plan.workspace);
  // An activation: a conversion and an addition for its channel's sum, another conversion and a multiply-add for the
  // map. A gradient: a conversion, and a term with its quotient: a first guess and about 14 operations.
  launch(kOp, name, kernel_of(kTypes[0], shape, plan), {shape.batch * plan.parts, plan.warps * 32, plan.shared},
         {4 * (numbers + gradients) + (plan.fused ? 4 * grid : partial), 2 * numbers + 16 * gradients,
          2 * numbers + 2 * gradients});
  if (!plan.fused)
    launch(kOp, name, "patch_scores_finish",
           {shape.batch, kPatchFinishThreads, plan.shares_in_workspace ? 0 : 8 * plan.shares}, {partial + 4 * grid});
  floor_of(kOp, name, 4 * (numbers + gradients + grid));
}

}  // namespace

int main() {
  PatchScoresShape shape{128, 512, 7, 7, 14, 14, kFloat32, kFloat32, false, false};
  one("paper-full", shape);
  shape.constant_gradients = true;
  one("paper-constant", shape);
  shape.constant_gradients = false;
  shape.channels_last = true;
  one("paper-full-channels-last", shape);
  shape = {4, 512, 7, 7, 14, 14, kFloat32, kFloat32, false, false};
  one("paper-full-batch-4", shape);
  shape = {128, 24, 56, 56, 14, 14, kFloat32, kFloat32, false, false};
  one("paper-full-56x56", shape);
  for (const Type& t : kTypes)
    for (const bool last : {false, true}) {
      for (const int64_t side : {5, 7, 16, 56}) {  // 25, 49, 256 positions, and a large map
        shape = {128, 512, side, side, 14, 14, t.dtype, t.dtype, false, last};
        const PatchScoresPlan plan = patch_scores_plan(shape);
        block_of(kernel_of(t, shape, plan), plan.warps * 32, plan.shared);
      }
    }
  block_of("patch_scores_finish", kPatchFinishThreads, kPatchFinishShared);
}
