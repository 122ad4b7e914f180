// __half and __nv_bfloat16: storage and conversions, rounded to nearest, ties to even, as the hardware does. Arithmetic
// is left out on purpose: the kernels compute in float32 and float64.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "types.hpp"

namespace emu {

template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline float bfloat16_to_float(uint16_t v) { return bits<float>(uint32_t(v) << 16); }

inline uint16_t float_to_bfloat16(float f) {
  const uint32_t u = bits<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN
  return uint16_t((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

inline float half_to_float(uint16_t v) {
  const uint32_t sign = uint32_t(v & 0x8000u) << 16, exponent = v >> 10 & 31u, fraction = v & 0x3ffu;
  if (exponent == 31) return bits<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) return (sign ? -1.0f : 1.0f) * std::ldexp(float(fraction), -24);
  return bits<float>(sign | (exponent + 112u) << 23 | fraction << 13);
}

inline uint16_t float_to_half(float f) {
  const uint32_t u = bits<uint32_t>(f), magnitude = u & 0x7fffffffu;
  const uint16_t sign = uint16_t(u >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return 0x7fff;                     // NaN
  if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // 65520 and more: infinity
  if (magnitude < 0x38800000u)                                    // below 2^-14: multiples of 2^-24
    return uint16_t(sign | uint16_t(std::nearbyint(std::ldexp(bits<float>(magnitude), 24))));
  return uint16_t(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

}  // namespace emu

struct __half {
  uint16_t bits;
  __half() = default;
  explicit __half(float f) : bits(emu::float_to_half(f)) {}
  operator float() const { return emu::half_to_float(bits); }
};
struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float f) : bits(emu::float_to_bfloat16(f)) {}
  operator float() const { return emu::bfloat16_to_float(bits); }
};
struct alignas(4) __half2 {
  __half x, y;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline float __half2float(__half h) { return float(h); }
inline __half __float2half(float f) { return __half(f); }
inline __half __float2half_rn(float f) { return __half(f); }
inline float2 __half22float2(__half2 h) { return {float(h.x), float(h.y)}; }
inline float __low2float(__half2 h) { return float(h.x); }
inline float __high2float(__half2 h) { return float(h.y); }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half __ushort_as_half(unsigned short bits) { return emu::bits<__half>(uint16_t(bits)); }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }

inline float __bfloat162float(__nv_bfloat16 h) { return float(h); }
inline __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
inline float2 __bfloat1622float2(__nv_bfloat162 h) { return {float(h.x), float(h.y)}; }
inline float __low2float(__nv_bfloat162 h) { return float(h.x); }
inline float __high2float(__nv_bfloat162 h) { return float(h.y); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return emu::bits<__nv_bfloat16>(uint16_t(bits)); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h) { return h.bits; }
