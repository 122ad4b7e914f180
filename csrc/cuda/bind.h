// What the bindings of the CUDA kernels share: addresses and a stream in, nothing owned, nothing synchronised.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#ifdef DQ_FAST_EMULATED
#include "cuda_emu.hpp"
#else
#include <cuda_runtime_api.h>
#endif

namespace dq_fast {

// Raises what a launcher returned, if that is an error.
inline void check(const char* what, int error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(static_cast<cudaError_t>(error)));
}

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// One for each op.
void bind_graph_cut(pybind11::module_& m);
void bind_patch_scores(pybind11::module_& m);
void bind_row_sums(pybind11::module_& m);

}  // namespace dq_fast
