// Launchers of the cosine row sums. Like all of csrc/cuda they return a cudaError_t, never allocate and never wait.
#pragma once
#include <cstdint>

namespace dq_fast {

// float64 numbers that cosine_row_sums_cuda needs.
int64_t cosine_row_sums_cuda_workspace(int64_t n, int64_t d);

// x [n, d] float32, one factor, one group; out [n] float64: sum over j of s(i, j), NaN where a row is not finite.
int cosine_row_sums_cuda(const float* x, int64_t n, int64_t d, bool shifted, double* workspace, double* out,
                         void* stream);

}  // namespace dq_fast
