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

}  // namespace

PYBIND11_MODULE(_cpu, m, py::mod_gil_not_used()) {
  m.attr("interface") = kInterface;
#ifdef _OPENMP
  m.attr("built_with") = std::string("OpenMP, ") + dq_fast::simd().name;
#else
  m.attr("built_with") = std::string("no OpenMP, ") + dq_fast::simd().name;
#endif
  m.def("cosine_row_sums", &cosine_row_sums);
}
