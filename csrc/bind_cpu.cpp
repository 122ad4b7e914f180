// Python's door to the CPU kernels: addresses in, nothing owned. Every function releases the GIL for work worth it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "cpu/mosaic/mosaic.h"
#include "cpu/mosaic/restore.h"
#include "cpu/simd/simd.h"
#include "kernels.h"

namespace py = pybind11;

namespace {

constexpr int kInterface = 3;  // dq_fast/ops/native.py: INTERFACE

using Sizes = std::vector<int64_t>;

// The GIL is released, unless that takes longer than the work.
class Released {
 public:
  explicit Released(double products) {
    constexpr double kBrief = 1 << 14;  // a few microseconds
    if (products >= kBrief) release_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> release_;
};

dq_fast::Factor factor(uintptr_t rows, bool is_float64, int64_t width) {
  return {reinterpret_cast<const void*>(rows), is_float64, width};
}

// Groups by their offsets; `whole` [2] serves where there are none: all rows are one group.
dq_fast::Groups groups_of(uintptr_t offsets, int64_t groups, const int64_t* whole) {
  if (!offsets) return {whole, 1};
  return {reinterpret_cast<const int64_t*>(offsets), groups};
}

int64_t cosine_row_sums(uintptr_t wide, bool wide64, int64_t d2, uintptr_t narrow, bool narrow64, int64_t d1, int64_t n,
                        uintptr_t offsets, int64_t groups, bool shifted, bool center, int threads, uintptr_t out) {
  const Released released(double(n) * double(d1) * double(d2));
  const dq_fast::Embedding x{factor(wide, wide64, d2), factor(narrow, narrow64, d1), n, shifted, center};
  const int64_t whole[] = {0, n};
  return dq_fast::cosine_row_sums(x, groups_of(offsets, groups, whole), threads, reinterpret_cast<double*>(out));
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
  PyObject* report;  // report(rows ranked since the last call), or None
  int64_t total;     // rows to rank
  int64_t told = 0;

  static bool poll(void* context, int64_t ranked) {
    auto* self = static_cast<PythonListener*>(context);
    if (self->report == Py_None && ranked == self->total) return false;  // done: Python itself looks for Ctrl-C now
    py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) return true;
    if (ranked == self->told || self->report == Py_None) return false;
    PyObject* answer = PyObject_CallFunction(self->report, "L", static_cast<long long>(ranked - self->told));
    self->told = ranked;
    Py_XDECREF(answer);
    return answer == nullptr;
  }
};

// What graph_cut and graph_cut_given have in common. rank(groups, ranking, listener) ranks. Either `budgets` rows of
// each group are picked, or all rows in n_bins bins (budgets empty, n_bins > 0): then gains go by row and bin_of is
// filled. trace: address of a Trace of zeros to fill, or 0.
template <class Rank>
int64_t listening(const dq_fast::Groups& groups, int64_t n, double numbers, const Sizes& budgets, int64_t n_bins,
                  double lam, int method, const py::object& report, uintptr_t indices, uintptr_t bin_of,
                  uintptr_t gains, uintptr_t trace, Rank rank) {
  const bool binned = n_bins > 0;
  if (!binned && int64_t(budgets.size()) != groups.count) return dq_fast::kInvalid;
  if (!is_valid(groups, n, binned ? nullptr : budgets.data())) return dq_fast::kInvalid;
  PythonListener listener{report.ptr(), binned ? n : std::accumulate(budgets.begin(), budgets.end(), int64_t(0))};
  Sizes sizes;
  std::vector<double> in_order;
  dq_fast::Ranking ranking{budgets.data(),
                           1,
                           lam,
                           static_cast<dq_fast::Method>(method),
                           reinterpret_cast<int64_t*>(indices),
                           reinterpret_cast<double*>(gains),
                           reinterpret_cast<dq_fast::Trace*>(trace)};
  int64_t bad;
  {
    const Released released(double(n) * double(n) * numbers);
    if (binned) {
      sizes.resize(size_t(groups.count) * size_t(n_bins));
      in_order.resize(size_t(n));
      dq_fast::bin_sizes(groups, n_bins, sizes.data());
      ranking.sizes = sizes.data(), ranking.bins = n_bins, ranking.gains = in_order.data();
    }
    bad = rank(groups, ranking, dq_fast::Listener{&PythonListener::poll, &listener});
  }
  if (PyErr_Occurred()) throw py::error_already_set();  // stopped: the ranking is not complete
  if (binned && bad == dq_fast::kAllFinite) {
    const Released released{double(n)};
    dq_fast::by_row(groups, ranking, reinterpret_cast<int64_t*>(bin_of), reinterpret_cast<double*>(gains));
  }
  return bad;
}

int64_t graph_cut(uintptr_t wide, bool wide64, int64_t d2, uintptr_t narrow, bool narrow64, int64_t d1, int64_t n,
                  bool shifted, bool center, uintptr_t offsets, int64_t groups, const Sizes& budgets, int64_t n_bins,
                  double lam, int method, int threads, const py::object& report, uintptr_t indices, uintptr_t bin_of,
                  uintptr_t gains, uintptr_t trace) {
  const dq_fast::Embedding x{factor(wide, wide64, d2), factor(narrow, narrow64, d1), n, shifted, center};
  const int64_t whole[] = {0, n};
  return listening(groups_of(offsets, groups, whole), n, double(d1) * double(d2), budgets, n_bins, lam, method, report,
                   indices, bin_of, gains, trace, [&](const auto& g, const auto& ranking, const auto& listener) {
                     return dq_fast::graph_cut(x, g, ranking, threads, listener);
                   });
}

// Offsets as Python has them: few, and no address of theirs.
std::vector<int64_t> graph_cut_ways(int64_t d2, int64_t d1, bool has_narrow, bool center, const Sizes& offsets,
                                    int64_t n_bins, int method, double looseness) {
  const dq_fast::Groups groups{offsets.data(), int64_t(offsets.size()) - 1};
  if (offsets.empty() || n_bins < 1 || !is_valid(groups, offsets.back())) return {};
  const dq_fast::Ways ways = dq_fast::graph_cut_ways(d1, d2, has_narrow, center, groups, n_bins,
                                                     static_cast<dq_fast::Method>(method), looseness);
  return {ways.naive, ways.gram, ways.lazy};
}

int64_t graph_cut_given(uintptr_t s, bool is_float64, int64_t n, uintptr_t offsets, int64_t groups,
                        const Sizes& budgets, int64_t n_bins, double lam, int method, int threads,
                        const py::object& report, uintptr_t indices, uintptr_t bin_of, uintptr_t gains,
                        uintptr_t trace) {
  const int64_t whole[] = {0, n};
  const dq_fast::Groups one = groups_of(offsets, groups, whole);
  if (one.count != 1) return dq_fast::kInvalid;
  return listening(one, n, 1.0, budgets, n_bins, lam, method, report, indices, bin_of, gains, trace,
                   [&](const auto&, const auto& ranking, const auto& listener) {
                     return dq_fast::graph_cut_given(reinterpret_cast<const void*>(s), is_float64, n, ranking, threads,
                                                     listener);
                   });
}

void mosaic_rgb(uintptr_t luma, uintptr_t half, int64_t height, int64_t width, int64_t patch, uintptr_t out) {
  const Released released(double(height) * double(width));
  dq_fast::mosaic_rgb(reinterpret_cast<const uint8_t*>(luma), reinterpret_cast<const uint8_t*>(half), height, width,
                      patch, reinterpret_cast<uint8_t*>(out));
}

void mosaic_patches(uintptr_t tall, int64_t step, uintptr_t places, int64_t count, int64_t width, int64_t patch,
                    uintptr_t out) {
  const Released released(double(count) * double(patch) * double(patch));
  dq_fast::mosaic_patches(reinterpret_cast<const uint8_t*>(tall), step, reinterpret_cast<const int64_t*>(places), count,
                          width, patch, reinterpret_cast<uint8_t*>(out));
}

bool restore_images(uintptr_t patches, uintptr_t starts, uintptr_t positions, uintptr_t sizes, int64_t n, int64_t patch,
                    uintptr_t offsets, uintptr_t out) {
  const Released released(double(n) * 1e4);
  return dq_fast::restore_images(reinterpret_cast<const uint8_t*>(patches), reinterpret_cast<const int64_t*>(starts),
                                 reinterpret_cast<const int64_t*>(positions), reinterpret_cast<const int64_t*>(sizes),
                                 n, patch, reinterpret_cast<const int64_t*>(offsets), reinterpret_cast<uint8_t*>(out));
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
  m.def("mosaic_patches", &mosaic_patches);
  m.def("graph_cut_ways", &graph_cut_ways);
  m.def("mosaic_rgb", &mosaic_rgb);
  m.def("patch_scores", &patch_scores);
  m.def("restore_images", &restore_images);
}
