// Launchers of the patch scores. Like all of csrc/cuda they return a cudaError_t, never allocate and never wait.
#pragma once
#include <cstdint>

namespace dq_fast {

// What is scored, as dq_fast::patch_scores (csrc/kernels.h) has it: activations [batch, channels, height, width], or
// [batch, height, width, channels] if channels_last; gradients the same in the same type, or [batch, channels] of any
// type if constant_gradients; element types are numbers of Dtype (csrc/kernels.h); scores [batch, rows, cols].
struct PatchScoresShape {
  int64_t batch, channels, height, width, rows, cols;
  int activation_dtype, gradient_dtype;
  bool constant_gradients, channels_last;
};

// float64 numbers of workspace that patch_scores_cuda needs; often none.
int64_t patch_scores_cuda_workspace(const PatchScoresShape& shape);

// Strides are elements from image to image; variant: 0 paper, 1 torchcam, 2 grad-cam. No channels: scores of 0.
int patch_scores_cuda(const PatchScoresShape& shape, const void* activations, int64_t activation_stride,
                      const void* gradients, int64_t gradient_stride, int variant, double* workspace, float* scores,
                      void* stream);

}  // namespace dq_fast
