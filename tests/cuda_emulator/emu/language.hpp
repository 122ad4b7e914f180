// CUDA's keywords. __noinline__ is missing on purpose: the standard library's headers use that word themselves.
#pragma once
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
inline constexpr int warpSize = 32;
