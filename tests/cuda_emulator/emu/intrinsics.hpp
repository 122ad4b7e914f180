// Device functions of one thread: bits, rounding, mathematics.
#pragma once
#include <math.h>  // the C names, in the global namespace, as device code has them

#include <bit>
#include <cmath>
#include <cstdint>

#include "half.hpp"
#include "machine.hpp"

inline int __float_as_int(float f) { return emu::bits<int>(f); }
inline unsigned __float_as_uint(float f) { return emu::bits<unsigned>(f); }
inline float __int_as_float(int i) { return emu::bits<float>(i); }
inline float __uint_as_float(unsigned i) { return emu::bits<float>(i); }
inline long long __double_as_longlong(double f) { return emu::bits<long long>(f); }
inline double __longlong_as_double(long long i) { return emu::bits<double>(i); }
inline int __double2hiint(double f) { return int(emu::bits<uint64_t>(f) >> 32); }
inline int __double2loint(double f) { return int(uint32_t(emu::bits<uint64_t>(f))); }
inline double __hiloint2double(int high, int low) {
  return emu::bits<double>(uint64_t(uint32_t(high)) << 32 | uint32_t(low));
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(unsigned(x)) + 1; }
inline int __ffsll(long long x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1; }
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
  return r;
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = uint64_t(high) << 32 | low;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) r |= unsigned(bytes >> (8 * (selector >> (4 * i) & 7u)) & 0xffu) << (8 * i);
  return r;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return unsigned((uint64_t(high) << 32 | low) << (by & 31u) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return unsigned((uint64_t(high) << 32 | low) >> (by & 31u));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline float __double2float_rn(double a) { return float(a); }
namespace emu {
inline double reciprocal_root(double x) { return 1.0 / std::sqrt(x); }
inline float reciprocal_root(float x) { return 1.0f / std::sqrt(x); }
}  // namespace emu
#define rsqrt(x) ::emu::reciprocal_root(x)  // newer C libraries have functions of these names
#define rsqrtf(x) ::emu::reciprocal_root(float(x))

// clang-format off
template <class T> T max(T a, T b) { return a < b ? b : a; }
template <class T> T min(T a, T b) { return b < a ? b : a; }
// clang-format on

[[noreturn]] inline void __trap(EMU_LOCATION) { emu::fail("__trap()", location); }
