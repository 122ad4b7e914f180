// Python's door to the CUDA kernels.
#include "cuda/bind.h"

namespace py = pybind11;

namespace {

constexpr int kInterface = 2;  // dq_fast/ops/native.py: INTERFACE

}  // namespace

#ifndef DQ_FAST_CUDA_MODULE
#define DQ_FAST_CUDA_MODULE _cuda  // the emulated build has another name (tests/cuda_emulator)
#endif

PYBIND11_MODULE(DQ_FAST_CUDA_MODULE, m, py::mod_gil_not_used()) {
  m.attr("interface") = kInterface;
  m.attr("built_with") =
      "CUDA " + std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  dq_fast::bind_graph_cut(m);
  dq_fast::bind_patch_scores(m);
  dq_fast::bind_row_sums(m);
}
