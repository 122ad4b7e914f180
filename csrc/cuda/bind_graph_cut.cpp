#include "bind.h"
#include "graph_cut.h"

namespace dq_fast {
namespace {

void gram(uintptr_t matrices, bool is_float64, uintptr_t sums, uintptr_t groups, int64_t count, int64_t longest,
          uintptr_t sizes, int64_t bins, uintptr_t tolerances, double lam, bool shifted, uintptr_t state,
          uintptr_t indices, uintptr_t gains, uintptr_t stream) {
  check("graph_cut_gram",
        graph_cut_gram_cuda(at<const void>(matrices), is_float64, at<const double>(sums), at<const int64_t>(groups),
                            count, longest, at<const int64_t>(sizes), bins, at<const double>(tolerances), lam, shifted,
                            at<double>(state), at<int64_t>(indices), at<double>(gains), at<void>(stream)));
}

void renew(uintptr_t base, uintptr_t dots, bool add, uintptr_t gone, int64_t n, double lam, bool shifted,
           uintptr_t taken, uintptr_t gains, uintptr_t maxima, uintptr_t stream) {
  check("graph_cut_renew",
        graph_cut_renew_cuda(at<const double>(base), at<const double>(dots), add, at<const uint8_t>(gone), n, lam,
                             shifted, at<double>(taken), at<double>(gains), at<double>(maxima), at<void>(stream)));
}

void winner(uintptr_t gains, uintptr_t maxima, int64_t n, double tolerance, int64_t first, double constant,
            uintptr_t gone, uintptr_t picked, uintptr_t index, uintptr_t value, uintptr_t stream) {
  check("graph_cut_winner", graph_cut_winner_cuda(at<const double>(gains), at<const double>(maxima), n, tolerance,
                                                  first, constant, at<uint8_t>(gone), at<int64_t>(picked),
                                                  at<int64_t>(index), at<double>(value), at<void>(stream)));
}

void outside(uintptr_t order, int64_t count, uintptr_t along, uintptr_t gains, uintptr_t inside, uintptr_t bounds,
             uintptr_t stream) {
  check("graph_cut_outside",
        graph_cut_outside_cuda(at<const int64_t>(order), count, at<const double>(along), at<const double>(gains),
                               at<const uint8_t>(inside), at<double>(bounds), at<void>(stream)));
}

void block(uintptr_t s, int64_t m, uintptr_t rows, uintptr_t along, uintptr_t gains, uintptr_t bounds, int64_t ordered,
           double tolerance, bool shifted, int64_t most, int64_t first, double constant, uintptr_t gone,
           uintptr_t indices, uintptr_t values, uintptr_t count, uintptr_t stream) {
  check("graph_cut_block",
        graph_cut_block_cuda(at<const double>(s), m, at<const int64_t>(rows), at<const double>(along),
                             at<const double>(gains), at<const double>(bounds), ordered, tolerance, shifted, most,
                             first, constant, at<uint8_t>(gone), at<int64_t>(indices), at<double>(values),
                             at<int64_t>(count), at<void>(stream)));
}

}  // namespace

void bind_graph_cut(pybind11::module_& m) {
  m.def("graph_cut_gram", &gram);
  m.def("graph_cut_gram_state", &graph_cut_gram_cuda_state);
  m.def("graph_cut_chunks", &graph_cut_chunks);
  m.def("graph_cut_block_rows", &graph_cut_block_rows);
  m.def("graph_cut_bounds", &graph_cut_bounds);
  m.def("graph_cut_renew", &renew);
  m.def("graph_cut_winner", &winner);
  m.def("graph_cut_outside", &outside);
  m.def("graph_cut_block", &block);
}

}  // namespace dq_fast
