// Python's door to the CUDA kernels: addresses and a stream in, nothing owned, nothing synchronised.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "kernels.h"

namespace py = pybind11;

namespace {

constexpr int kInterface = 1;  // dq_fast/ops/native.py: INTERFACE

void check(const char* what, int error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(static_cast<cudaError_t>(error)));
}

void cosine_row_sums(uintptr_t x, int64_t n, int64_t d, bool shifted, uintptr_t workspace, uintptr_t out,
                     uintptr_t stream) {
  check("cosine_row_sums", dq_fast::cosine_row_sums_cuda(
                               reinterpret_cast<const float*>(x), n, d, shifted, reinterpret_cast<double*>(workspace),
                               reinterpret_cast<double*>(out), reinterpret_cast<void*>(stream)));
}

}  // namespace

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
  m.attr("interface") = kInterface;
  m.attr("built_with") =
      "CUDA " + std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  m.def("cosine_row_sums", &cosine_row_sums);
  m.def("cosine_row_sums_workspace", &dq_fast::cosine_row_sums_cuda_workspace);
}
