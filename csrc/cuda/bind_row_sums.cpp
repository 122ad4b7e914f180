#include "bind.h"
#include "row_sums.h"

namespace dq_fast {
namespace {

void row_sums(uintptr_t x, int64_t n, int64_t d, bool shifted, uintptr_t workspace, uintptr_t out, uintptr_t stream) {
  check("cosine_row_sums", cosine_row_sums_cuda(at<const float>(x), n, d, shifted, at<double>(workspace),
                                                at<double>(out), at<void>(stream)));
}

}  // namespace

void bind_row_sums(pybind11::module_& m) {
  m.def("cosine_row_sums", &row_sums);
  m.def("cosine_row_sums_workspace", &cosine_row_sums_cuda_workspace);
}

}  // namespace dq_fast
