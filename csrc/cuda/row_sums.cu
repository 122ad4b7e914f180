#include "row_sums.h"

#include "row_sums.cuh"
#include "row_sums_launch.h"

namespace dq_fast {

int64_t cosine_row_sums_cuda_workspace(int64_t n, int64_t d) { return row_sums_workspace(n, d); }

int cosine_row_sums_cuda(const float* x, int64_t n, int64_t d, bool shifted, double* workspace, double* out,
                         void* stream) {
  if (n == 0) return cudaSuccess;
  const RowSumsPlan plan = row_sums_plan(n, d);
  double *inverse = workspace, *part = inverse + n, *total = part + plan.parts * d;
  const dim3 sums(plan.column_blocks, unsigned(plan.parts));
  const auto on = static_cast<cudaStream_t>(stream);
  cudaError_t error;
  DQ_LAUNCH(inverse_norms<kRowSumsThreads>, plan.row_blocks, kRowSumsThreads, 0, on, x, inverse, n, d);
  if ((error = cudaGetLastError()) != cudaSuccess) return error;
  DQ_LAUNCH(column_sums<kRowSumsThreads>, sums, kRowSumsThreads, 0, on, x, inverse, part, n, d, plan.rows_per_part);
  if ((error = cudaGetLastError()) != cudaSuccess) return error;
  DQ_LAUNCH(add_parts<kRowSumsThreads>, plan.column_blocks, kRowSumsThreads, 0, on, part, total, plan.parts, d);
  if ((error = cudaGetLastError()) != cudaSuccess) return error;
  DQ_LAUNCH(row_dots<kRowSumsThreads>, plan.row_blocks, kRowSumsThreads, 0, on, x, inverse, total, out, n, d, shifted);
  return cudaGetLastError();
}

}  // namespace dq_fast
