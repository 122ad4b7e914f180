#include "patch_scores.cuh"

#include "patch_scores.h"
#include "patch_scores_large.cuh"
#include "patch_scores_launch.h"

namespace dq_fast {
namespace {

using Kernel = void (*)(PatchJob);

template <class T>
Kernel choose(const PatchScoresPlan& plan, bool channels_last) {
  if (plan.large) return channels_last ? patch_maps_large<T, true> : patch_maps_large<T, false>;
  if (channels_last) return patch_maps_last<T>;
  return plan.lanes == 4 ? patch_maps<T, 4> : plan.lanes == 8 ? patch_maps<T, 8> : patch_maps<T, 32>;
}

Kernel choose(const PatchScoresPlan& plan, const PatchScoresShape& shape) {
  const bool last = shape.channels_last;
  if (shape.activation_dtype == kFloat32) return choose<float>(plan, last);
  if (shape.activation_dtype == kFloat64) return choose<double>(plan, last);
  if (shape.activation_dtype == kBFloat16) return choose<__nv_bfloat16>(plan, last);
  return choose<__half>(plan, last);
}

// Up to kPatchImages images.
cudaError_t launch(const PatchJob& job, int64_t batch, Kernel maps, cudaStream_t stream) {
  const PatchScoresPlan& plan = job.plan;
  cudaError_t error;
  DQ_LAUNCH(maps, dim3(unsigned(batch * plan.parts)), dim3(unsigned(plan.warps * 32)), size_t(plan.shared), stream,
            job);
  if ((error = cudaGetLastError()) != cudaSuccess || plan.fused) return error;
  const size_t shared = plan.shares_in_workspace ? 0 : size_t(8 * plan.shares);
  DQ_LAUNCH(patch_scores_finish, dim3(unsigned(batch)), dim3(kPatchFinishThreads), shared, stream, job);
  return cudaGetLastError();
}

}  // namespace

int64_t patch_scores_cuda_workspace(const PatchScoresShape& shape) { return patch_scores_plan(shape).workspace; }

int patch_scores_cuda(const PatchScoresShape& shape, const void* activations, int64_t activation_stride,
                      const void* gradients, int64_t gradient_stride, int variant, double* workspace, float* scores,
                      void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  if (shape.batch == 0) return cudaSuccess;
  const int64_t positions = shape.height * shape.width, grid = shape.rows * shape.cols;
  if (shape.channels == 0) return cudaMemsetAsync(scores, 0, size_t(4 * shape.batch * grid), on);
  PatchJob job{static_cast<const char*>(activations),
               static_cast<const char*>(gradients),
               scores,
               workspace,
               nullptr,
               activation_stride * patch_element(shape.activation_dtype),
               gradient_stride * patch_element(shape.gradient_dtype),
               shape.channels,
               shape.height,
               shape.width,
               shape.rows,
               shape.cols,
               variant,
               shape.constant_gradients ? shape.gradient_dtype : kPatchNotConstant,
               patch_scores_plan(shape)};
  const Kernel maps = choose(job.plan, shape);
  if (job.plan.shared > (48 << 10)) {  // without this a block gets no more
    const auto error = cudaFuncSetAttribute(maps, cudaFuncAttributeMaxDynamicSharedMemorySize, int(job.plan.shared));
    if (error != cudaSuccess) return error;
  }
  if (job.plan.shares_in_workspace) job.shares = workspace + shape.batch * job.plan.maps * positions;
  for (int64_t begin = 0; begin < shape.batch; begin += kPatchImages) {
    if (begin) {
      job.activations += kPatchImages * job.activation_stride;
      job.gradients += kPatchImages * job.gradient_stride;
      job.scores += kPatchImages * grid;
      job.maps += kPatchImages * job.plan.maps * positions;
      job.shares += kPatchImages * job.plan.shares;
    }
    const int64_t count = shape.batch - begin < kPatchImages ? shape.batch - begin : kPatchImages;
    const cudaError_t error = launch(job, count, maps, on);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace dq_fast
