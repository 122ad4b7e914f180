// Groups over threads: whole groups where there are enough of them, else the threads together on one group after the
// other. Neither changes a bit of the result.
#include "graph_cut.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <vector>

#include "costs.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace dq_fast {
namespace {

constexpr double kParallel = 1 << 17;  // products of all pairs of rows: below, waking threads costs more than the work

bool is_caller() {
#ifdef _OPENMP
  return omp_get_thread_num() == 0;
#else
  return true;
#endif
}

void add(const Trace& part, Trace* sum) {
  sum->naive += part.naive, sum->gram += part.gram, sum->lazy += part.lazy, sum->switched += part.switched;
  sum->rows += part.rows, sum->bytes += part.bytes, sum->decisions += part.decisions;
}

void rank_group(const Rows& rows, const Job& job) {
  const Way way = way_to_begin(Shape::of(rows), job);
  if (way == Way::kNaive)
    graph_cut_naive(rows, job);
  else if (way == Way::kGram64)
    graph_cut_gram64(rows, job);
  else
    graph_cut_lazy(rows, job, way);
}

}  // namespace

bool is_valid(const Groups& groups, int64_t n, const int64_t* sizes) {
  if (groups.count < 0 || groups.offsets[0] != 0 || groups.offsets[groups.count] != n) return false;
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t rows = groups.offsets[g + 1] - groups.offsets[g];
    if (rows < 0 || (sizes && (sizes[g] < 0 || sizes[g] > rows))) return false;
  }
  return true;
}

void bin_sizes(const Groups& groups, int64_t bins, int64_t* sizes) {
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t rows = groups.offsets[g + 1] - groups.offsets[g];
    for (int64_t k = 0; k < bins; ++k) *sizes++ = rows / bins + (k < rows % bins);
  }
}

void by_row(const Groups& groups, const Ranking& ranking, int64_t* bin_of, double* gains) {
  int64_t place = 0;
  for (int64_t k = 0; k < groups.count * ranking.bins; ++k)
    for (int64_t t = 0; t < ranking.sizes[k]; ++t, ++place) {
      bin_of[ranking.indices[place]] = k % ranking.bins;
      gains[ranking.indices[place]] = ranking.gains[place];
    }
}

int64_t graph_cut(const Embedding& x, const Groups& groups, const Ranking& ranking, int threads,
                  const Listener& listener) {
  Monitor monitor(listener);
  std::vector<int64_t> order(groups.count), start(groups.count + 1, 0);
  const auto size = [&](int64_t g) { return groups.offsets[g + 1] - groups.offsets[g]; };
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t* sizes = ranking.sizes + g * ranking.bins;
    start[g + 1] = std::accumulate(sizes, sizes + ranking.bins, start[g]);
  }
  std::iota(order.begin(), order.end(), 0);
  if (groups.count > 1)  // the longest first
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size(a) > size(b); });
  const double numbers = double(x.wide.width) * double(x.narrow.width);
  if (groups.count > 0 && double(x.n) * double(size(order[0])) * numbers < kParallel) threads = 1;
  const bool by_group = threads > 1 && groups.count >= 2 && size(order[0]) * threads <= x.n + size(order.back());

  std::atomic<int64_t> bad{kAllFinite};
  std::exception_ptr error;
  const auto work = [&](int64_t g, int inner) {
    try {
      if (size(g) == 0 || monitor.stopped()) return;
      const Rows rows(x, groups.offsets[g], size(g), inner);
      if (rows.first_bad() != kAllFinite) {
        const int64_t row = groups.offsets[g] + rows.first_bad();
#pragma omp critical(dq_fast_first_bad)
        if (bad.load() == kAllFinite || row < bad.load()) bad = row;
        return;
      }
      if (bad.load() != kAllFinite || start[g + 1] == start[g]) return;
      Trace trace{};
      rank_group(rows, {groups.offsets[g], ranking.sizes + g * ranking.bins, ranking.bins, ranking.lam, x.shifted,
                        ranking.method, inner, ranking.indices + start[g], ranking.gains + start[g], &monitor, &trace});
      if (!ranking.trace) return;
      trace.rows = rows.rows_read(), trace.bytes = trace.rows * rows.row_bytes();
#pragma omp critical(dq_fast_trace)
      add(trace, ranking.trace);
    } catch (...) {
#pragma omp critical(dq_fast_error)
      if (!error) error = std::current_exception();
      monitor.stop();
    }
  };

  if (by_group) {
    std::atomic<int64_t> next{0}, finished{0};
#pragma omp parallel num_threads(threads)
    {
      for (int64_t k; (k = next.fetch_add(1)) < groups.count; finished.fetch_add(1)) work(order[k], 1);
      if (is_caller())  // others may still be at it: go on listening for Ctrl-C
        while (finished.load() < groups.count) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          monitor.tick(0);
        }
    }
  } else {
    for (int64_t k = 0; k < groups.count; ++k) work(order[k], threads);
  }
  if (error) std::rethrow_exception(error);
  monitor.finish();
  return bad.load();
}

}  // namespace dq_fast
