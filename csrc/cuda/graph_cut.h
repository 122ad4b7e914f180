// Launchers of the graph-cut kernels. Like all of csrc/cuda they return a cudaError_t, never allocate and never wait.
// Picks of a bin: gain(x) = lam * sum_{j in R} s(j, x) - 2 * sum_{b in B} s(b, x), see dq_fast/ops/graph_cut.py.
#pragma once
#include <cstdint>

namespace dq_fast {

// float64 numbers that each group of a launch needs in `state`; 0 where shared memory holds them.
int64_t graph_cut_gram_cuda_state(int64_t longest, bool is_float64);

// All bins of `count` groups, a thread block each. groups int64 [count, 4]: place of the group's matrix in `matrices`
// (float64 or float32, [n, n] without gaps), n, number of its first row, place of its first pick. sums [all rows]: of
// the matrices' columns. sizes [count, bins], tolerances [count]. indices and gains: by place of pick. shifted: the
// matrices hold c of s = 1/2 + 1/2 c. No group has more rows than `longest`.
int graph_cut_gram_cuda(const void* matrices, bool is_float64, const double* sums, const int64_t* groups, int64_t count,
                        int64_t longest, const int64_t* sizes, int64_t bins, const double* tolerances, double lam,
                        bool shifted, double* state, int64_t* indices, double* gains, void* stream);

// How many numbers `maxima` has, and rows of similarities a block takes at most, and numbers of `bounds`.
int64_t graph_cut_chunks(int64_t n);
int64_t graph_cut_block_rows();
int64_t graph_cut_bounds();

// Gains [n] of a group's rows from base and taken [n], dots [n] (or nullptr: none) added to taken or replacing it.
int graph_cut_renew_cuda(const double* base, const double* dots, bool add, const uint8_t* gone, int64_t n, double lam,
                         bool shifted, double* taken, double* gains, double* maxima, void* stream);

// The winner among all gains: picked [1], gone; index and value [1] with first and constant added.
int graph_cut_winner_cuda(const double* gains, const double* maxima, int64_t n, double tolerance, int64_t first,
                          double constant, uint8_t* gone, int64_t* picked, int64_t* index, double* value, void* stream);

// Bounds of the rows order [count] that are not inside [n], in buckets of neighbours in the order.
int graph_cut_outside_cuda(const int64_t* order, int64_t count, const double* along, const double* gains,
                           const uint8_t* inside, double* bounds, void* stream);

// Picks among m candidates: s [m, m], rows [m] ascending, m up to graph_cut_block_rows(); bounds of `ordered` rows.
int graph_cut_block_cuda(const double* s, int64_t m, const int64_t* rows, const double* along, const double* gains,
                         const double* bounds, int64_t ordered, double tolerance, bool shifted, int64_t most,
                         int64_t first, double constant, uint8_t* gone, int64_t* indices, double* values,
                         int64_t* count, void* stream);

}  // namespace dq_fast
