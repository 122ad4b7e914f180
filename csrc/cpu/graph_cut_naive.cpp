// The definition in float64: for each pick its cosines with all rows, formed on the spot. 2 n (d1 + d2) products a
// pick, the rows read once a pick; no memory but the gains and two numbers a row. The fallback where bounds decide
// nothing.
#include "pick_loop.h"

namespace dq_fast {
namespace {

class Naive {
 public:
  Naive(const Rows& rows, const Job& job) : rows_(rows), job_(job), base_(rows.n()), cosines_(rows.n()) {
    total_.resize(rows.numbers());
    std::copy_n(rows.total(), rows.numbers(), total_.data());
    rows.dots(total_.data(), base_.data());
  }

  void start(double* gains) const {
    for (int64_t i = 0; i < rows_.n(); ++i) gains[i] = job_.unit() * job_.lam * base_[i];
  }

  void after(int64_t row, double* gains) {
    const double factor = 2 * job_.unit();
    rows_.cosines(row, nullptr, rows_.n(), cosines_.data());
    for (int64_t i = 0; i < rows_.n(); ++i) gains[i] -= factor * cosines_[i];
  }

  void end(const int64_t* picked, int64_t count) {
    Array<double> scratch(rows_.d1() + rows_.d2());
    for (int64_t t = 0; t < count; ++t) rows_.add(picked[t], -1.0, total_.data(), scratch.data());
    rows_.dots(total_.data(), base_.data());
  }

 private:
  const Rows& rows_;
  const Job& job_;
  Array<double> total_, base_, cosines_;
};

}  // namespace

void graph_cut_naive(const Rows& rows, const Job& job) {
  job.trace->naive = 1;
  Naive source(rows, job);
  pick_loop(source, rows.n(), tie_tolerance(rows.n(), job.lam), job);
}

}  // namespace dq_fast
