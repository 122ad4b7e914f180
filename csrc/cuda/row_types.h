// From a Dtype to the type of the kernels' template.
#pragma once
#include "../kernels.h"
#include "portable.cuh"

namespace dq_fast {

template <class T>
struct Of {
  using type = T;
};

// use(Of<T>) for the type; cudaErrorInvalidValue for one that the kernels do not take.
template <class Use>
int with_type(int dtype, Use use) {
  switch (dtype) {
    case kFloat32:
      return use(Of<float>());
    case kFloat16:
      return use(Of<__half>());
    case kBFloat16:
      return use(Of<__nv_bfloat16>());
    default:
      return cudaErrorInvalidValue;
  }
}

inline int element_bytes(int dtype) { return dtype == kFloat64 ? 8 : dtype == kFloat32 ? 4 : 2; }

}  // namespace dq_fast
