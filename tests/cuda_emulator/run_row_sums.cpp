// Runs csrc/cuda/row_sums.cuh on the CPU and compares it with float64: run_row_sums N D FORWARD|REVERSE|RANDOM.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "cuda_emu.hpp"
//
#include "row_sums.cuh"
#include "row_sums_launch.h"

using namespace dq_fast;

static double run(int64_t n, int64_t d, bool shifted) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(size_t(n * d));
  for (auto& v : x) v = normal(generator);
  for (int64_t c = 0; c < d && n > 2; ++c) x[size_t(2 * d + c)] = 0;  // a zero row
  std::vector<double> workspace(size_t(row_sums_workspace(n, d)), NAN), out(size_t(n), NAN);
  const RowSumsPlan plan = row_sums_plan(n, d);
  double *inverse = workspace.data(), *part = inverse + n, *total = part + plan.parts * d;
  constexpr int kT = kRowSumsThreads;
  CUDA_LAUNCH(inverse_norms<kT>, dim3(plan.row_blocks), dim3(kT), 0, 0, x.data(), inverse, n, d);
  CUDA_LAUNCH(column_sums<kT>, dim3(plan.column_blocks, unsigned(plan.parts)), dim3(kT), 0, 0, x.data(), inverse, part,
              n, d, plan.rows_per_part);
  CUDA_LAUNCH(add_parts<kT>, dim3(plan.column_blocks), dim3(kT), 0, 0, part, total, plan.parts, d);
  CUDA_LAUNCH(row_dots<kT>, dim3(plan.row_blocks), dim3(kT), 0, 0, x.data(), inverse, total, out.data(), n, d, shifted);
  double worst = 0;
  for (int64_t i = 0; i < n; ++i) {
    double want = 0;
    for (int64_t j = 0; j < n; ++j) {
      double dot = 0, ni = 0, nj = 0;
      for (int64_t c = 0; c < d; ++c) {
        const double a = x[size_t(i * d + c)], b = x[size_t(j * d + c)];
        dot += a * b, ni += a * a, nj += b * b;
      }
      const double cosine = ni * nj > 0 ? dot / std::sqrt(ni * nj) : 0;
      want += shifted ? 0.5 + 0.5 * cosine : cosine;
    }
    const double error = std::fabs(out[size_t(i)] - want);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  emu::config.order = !std::strcmp(argv[3], "FORWARD")   ? emu::Order::Forward
                      : !std::strcmp(argv[3], "REVERSE") ? emu::Order::Reverse
                                                         : emu::Order::Random;
  for (bool shifted : {true, false}) {
    const double error = run(std::atoll(argv[1]), std::atoll(argv[2]), shifted);
    std::printf("shifted %d: error %.3g\n", shifted, error);
    if (!(error < 1e-9)) return 1;
  }
  return 0;
}
