#include "bind.h"
#include "patch_scores.h"

namespace dq_fast {
namespace {

int64_t workspace(int activation_dtype, int gradient_dtype, bool constant_gradients, bool channels_last, int64_t batch,
                  int64_t channels, int64_t height, int64_t width, int64_t rows, int64_t cols) {
  return patch_scores_cuda_workspace({batch, channels, height, width, rows, cols, activation_dtype, gradient_dtype,
                                      constant_gradients, channels_last});
}

void scores(uintptr_t activations, int activation_dtype, int64_t activation_stride, uintptr_t gradients,
            int gradient_dtype, int64_t gradient_stride, bool constant_gradients, bool channels_last, int variant,
            uintptr_t workspace, uintptr_t scores, int64_t batch, int64_t channels, int64_t height, int64_t width,
            int64_t rows, int64_t cols, uintptr_t stream) {
  check("patch_scores",
        patch_scores_cuda({batch, channels, height, width, rows, cols, activation_dtype, gradient_dtype,
                           constant_gradients, channels_last},
                          at<const void>(activations), activation_stride, at<const void>(gradients), gradient_stride,
                          variant, at<double>(workspace), at<float>(scores), at<void>(stream)));
}

}  // namespace

void bind_patch_scores(pybind11::module_& m) {
  m.def("patch_scores", &scores);
  m.def("patch_scores_workspace", &workspace);
}

}  // namespace dq_fast
