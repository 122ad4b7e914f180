// Python's door to the CPU kernels: addresses in, nothing owned. Every function releases the GIL.
#include <pybind11/pybind11.h>

#include <string>

#include "cpu/simd/simd.h"
#include "kernels.h"

namespace py = pybind11;

namespace {

constexpr int kInterface = 1;  // dq_fast/ops/native.py: INTERFACE

dq_fast::Factor factor(uintptr_t rows, bool is_float64, int64_t width) {
  return {reinterpret_cast<const void*>(rows), is_float64, width};
}

int64_t cosine_row_sums(uintptr_t wide, bool wide64, int64_t d2, uintptr_t narrow, bool narrow64, int64_t d1, int64_t n,
                        uintptr_t offsets, int64_t groups, bool shifted, bool center, int threads, uintptr_t out) {
  py::gil_scoped_release release;
  const dq_fast::Embedding x{factor(wide, wide64, d2), factor(narrow, narrow64, d1), n, shifted, center};
  return dq_fast::cosine_row_sums(x, {reinterpret_cast<const int64_t*>(offsets), groups}, threads,
                                  reinterpret_cast<double*>(out));
}

void patch_scores(uintptr_t activations, int activation_dtype, int64_t activation_stride, uintptr_t gradients,
                  int gradient_dtype, int64_t gradient_stride, bool constant_gradients, bool channels_last, int variant,
                  uintptr_t scores, int64_t batch, int64_t channels, int64_t height, int64_t width, int64_t rows,
                  int64_t cols, int threads) {
  py::gil_scoped_release release;
  dq_fast::patch_scores(reinterpret_cast<const void*>(activations), activation_dtype, activation_stride,
                        reinterpret_cast<const void*>(gradients), gradient_dtype, gradient_stride, constant_gradients,
                        channels_last, variant, reinterpret_cast<float*>(scores), batch, channels, height, width, rows,
                        cols, threads);
}

}  // namespace

PYBIND11_MODULE(_cpu, m, py::mod_gil_not_used()) {
  m.attr("interface") = kInterface;
#ifdef _OPENMP
  m.attr("built_with") = std::string("OpenMP, ") + dq_fast::simd().name;
#else
  m.attr("built_with") = std::string("no OpenMP, ") + dq_fast::simd().name;
#endif
  m.def("cosine_row_sums", &cosine_row_sums);
  m.def("patch_scores", &patch_scores);
}
