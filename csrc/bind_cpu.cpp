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

// Called from the native code on the calling thread: takes the GIL, tells Python, and looks for Ctrl-C. A Python error
// stays set until the call returns.
struct PythonListener {
  PyObject* report;  // report(rows ranked since the last call)
  int64_t told = 0;

  static bool poll(void* context, int64_t ranked) {
    auto* self = static_cast<PythonListener*>(context);
    py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) return true;
    if (ranked == self->told) return false;
    PyObject* answer = PyObject_CallFunction(self->report, "L", static_cast<long long>(ranked - self->told));
    self->told = ranked;
    Py_XDECREF(answer);
    return answer == nullptr;
  }
};

template <class Work>
int64_t listening(const py::object& report, Work work) {
  PythonListener listener{report.ptr()};
  int64_t bad;
  {
    py::gil_scoped_release release;
    bad = work(dq_fast::Listener{&PythonListener::poll, &listener});
  }
  if (PyErr_Occurred()) throw py::error_already_set();
  return bad;
}

dq_fast::Ranking ranking(uintptr_t sizes, int64_t bins, double lam, int method, uintptr_t indices, uintptr_t gains) {
  return {reinterpret_cast<const int64_t*>(sizes),
          bins,
          lam,
          static_cast<dq_fast::Method>(method),
          reinterpret_cast<int64_t*>(indices),
          reinterpret_cast<double*>(gains)};
}

int64_t graph_cut(uintptr_t wide, bool wide64, int64_t d2, uintptr_t narrow, bool narrow64, int64_t d1, int64_t n,
                  bool shifted, bool center, uintptr_t offsets, int64_t groups, uintptr_t sizes, int64_t bins,
                  double lam, int method, int threads, const py::object& report, uintptr_t indices, uintptr_t gains) {
  const dq_fast::Embedding x{factor(wide, wide64, d2), factor(narrow, narrow64, d1), n, shifted, center};
  return listening(report, [&](const dq_fast::Listener& listener) {
    return dq_fast::graph_cut(x, {reinterpret_cast<const int64_t*>(offsets), groups},
                              ranking(sizes, bins, lam, method, indices, gains), threads, listener);
  });
}

int64_t graph_cut_given(uintptr_t s, bool is_float64, int64_t n, uintptr_t, int64_t, uintptr_t sizes, int64_t bins,
                        double lam, int method, int threads, const py::object& report, uintptr_t indices,
                        uintptr_t gains) {
  return listening(report, [&](const dq_fast::Listener& listener) {
    return dq_fast::graph_cut_given(reinterpret_cast<const void*>(s), is_float64, n,
                                    ranking(sizes, bins, lam, method, indices, gains), threads, listener);
  });
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
  m.def("graph_cut", &graph_cut);
  m.def("graph_cut_given", &graph_cut_given);
  m.def("patch_scores", &patch_scores);
}
