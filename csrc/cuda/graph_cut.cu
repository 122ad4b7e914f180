#include "graph_cut.h"

#include "graph_cut_block.cuh"
#include "graph_cut_gram.cuh"
#include "graph_cut_launch.h"
#include "graph_cut_rowwise.cuh"

namespace dq_fast {
namespace {

// Dynamic shared memory beyond what a kernel has by itself must be asked for.
template <class Kernel>
cudaError_t allow_shared(Kernel kernel, int64_t bytes) {
  if (bytes <= kPlainShared) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
}

template <class T, bool kShared>
int run_gram(const GramPlan& plan, const void* matrices, const double* sums, const int64_t* groups, int64_t count,
             const int64_t* sizes, int64_t bins, const double* tolerances, double lam, bool shifted, double* state,
             int64_t* indices, double* gains, cudaStream_t stream) {
  const auto kernel = &graph_cut_gram<T, kShared>;
  const cudaError_t error = allow_shared(kernel, plan.shared);
  if (error != cudaSuccess) return error;
  DQ_LAUNCH(kernel, unsigned(count), plan.threads, size_t(plan.shared), stream, static_cast<const T*>(matrices), sums,
            reinterpret_cast<const GramGroup*>(groups), sizes, bins, tolerances, lam, shifted, state, plan.state,
            indices, gains);
  return cudaGetLastError();
}

}  // namespace

int64_t graph_cut_gram_cuda_state(int64_t longest, bool is_float64) {
  const GramPlan plan = gram_plan(longest, is_float64);
  return plan.shared ? 0 : plan.state;
}

int graph_cut_gram_cuda(const void* matrices, bool is_float64, const double* sums, const int64_t* groups, int64_t count,
                        int64_t longest, const int64_t* sizes, int64_t bins, const double* tolerances, double lam,
                        bool shifted, double* state, int64_t* indices, double* gains, void* stream) {
  if (count == 0 || longest == 0) return cudaSuccess;
  const GramPlan plan = gram_plan(longest, is_float64);
  const bool shared = plan.shared != 0;
  const auto run = is_float64 ? (shared ? &run_gram<double, true> : &run_gram<double, false>)
                              : (shared ? &run_gram<float, true> : &run_gram<float, false>);
  return run(plan, matrices, sums, groups, count, sizes, bins, tolerances, lam, shifted, state, indices, gains,
             static_cast<cudaStream_t>(stream));
}

int64_t graph_cut_chunks(int64_t n) { return divide_up(n, kChunk); }
int64_t graph_cut_block_rows() { return kBlockRows; }
int64_t graph_cut_bounds() { return 4 * kBuckets; }

int graph_cut_renew_cuda(const double* base, const double* dots, bool add, const uint8_t* gone, int64_t n, double lam,
                         bool shifted, double* taken, double* gains, double* maxima, void* stream) {
  if (n == 0) return cudaSuccess;
  DQ_LAUNCH(renew_gains<kRenewThreads>, unsigned(graph_cut_chunks(n)), kRenewThreads, 0,
            static_cast<cudaStream_t>(stream), base, dots, add, gone, n, lam, shifted, taken, gains, maxima);
  return cudaGetLastError();
}

int graph_cut_winner_cuda(const double* gains, const double* maxima, int64_t n, double tolerance, int64_t first,
                          double constant, uint8_t* gone, int64_t* picked, int64_t* index, double* value,
                          void* stream) {
  if (n == 0) return cudaSuccess;
  DQ_LAUNCH(pick_winner<kWinnerThreads>, 1, kWinnerThreads, 0, static_cast<cudaStream_t>(stream), gains, maxima, n,
            graph_cut_chunks(n), tolerance, first, constant, gone, picked, index, value);
  return cudaGetLastError();
}

int graph_cut_outside_cuda(const int64_t* order, int64_t count, const double* along, const double* gains,
                           const uint8_t* inside, double* bounds, void* stream) {
  if (count == 0) return cudaSuccess;
  const BucketPlan plan = bucket_plan(count);
  DQ_LAUNCH(bound_outside<kOutsideThreads>, unsigned(divide_up(plan.used, kOutsideThreads / 32)), kOutsideThreads, 0,
            static_cast<cudaStream_t>(stream), order, count, plan.rows, plan.used, along, gains, inside, bounds);
  return cudaGetLastError();
}

int graph_cut_block_cuda(const double* s, int64_t m, const int64_t* rows, const double* along, const double* gains,
                         const double* bounds, int64_t ordered, double tolerance, bool shifted, int64_t most,
                         int64_t first, double constant, uint8_t* gone, int64_t* indices, double* values,
                         int64_t* count, void* stream) {
  if (m < 0 || m > kBlockRows) return cudaErrorInvalidValue;
  const cudaError_t error = allow_shared(&pick_block<kBlockThreads>, block_shared(m));
  if (error != cudaSuccess) return error;
  DQ_LAUNCH(pick_block<kBlockThreads>, 1, kBlockThreads, size_t(block_shared(m)), static_cast<cudaStream_t>(stream), s,
            int(m), rows, along, gains, bounds, bucket_plan(ordered).used, tolerance, shifted, most, first, constant,
            gone, indices, values, count);
  return cudaGetLastError();
}

}  // namespace dq_fast
