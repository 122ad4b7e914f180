// Test only: CUDA kernels' own source compiled for the CPU and run by an emulator, one subject a header.
//
// g++ with C++20. A fibre for each CUDA thread, all on one thread of the host: every run is the same for the same order
// and seed. Shared memory is poisoned and each block's own, asynchronous copies are done at the wait, lanes that are
// missing in a collective, divergent or missing barriers and deadlocks are errors that name thread and line. Under the
// thread sanitizer it finds races between CUDA threads; under the address sanitizer accesses out of bounds.
#pragma once
#if defined(__CUDACC__)
#error "cuda_emu.hpp is for host compilers only"
#endif
// Every standard header first: CUDA's keywords are macros.
#include "emu/atomics.hpp"
#include "emu/barriers.hpp"
#include "emu/copies.hpp"
#include "emu/half.hpp"
#include "emu/intrinsics.hpp"
#include "emu/language.hpp"
#include "emu/launch.hpp"
#include "emu/machine.hpp"
#include "emu/matrix.hpp"
#include "emu/memory.hpp"
#include "emu/runtime.hpp"
#include "emu/types.hpp"
#include "emu/warp.hpp"
#include "emu/wmma.hpp"
