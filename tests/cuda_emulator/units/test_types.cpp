#include <cmath>
#include <limits>

#include "unit.hpp"

using namespace units;

namespace {

// What a format of 16 bits says: value = (-1)^s 2^(e - bias) 1.f, and 2^(1 - bias) 0.f for e = 0.
double value_of(uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1), fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1, part = std::ldexp(double(fraction), -fraction_bits);
  if (exponent == (1 << exponent_bits) - 1) return fraction ? NAN : sign * INFINITY;
  return exponent ? sign * std::ldexp(1 + part, exponent - bias) : sign * std::ldexp(part, 1 - bias);
}

// Every value, and every point between two neighbours where rounding changes its mind.
template <class T>
void all_values(int exponent_bits) {
  int wrong = 0;
  const uint16_t infinity = uint16_t(((1 << exponent_bits) - 1) << (15 - exponent_bits));
  for (int b = 0; b < 0x10000; ++b) {
    const uint16_t bits = uint16_t(b);
    const T number = emu::bits<T>(bits);
    const double value = value_of(bits, exponent_bits);
    if (std::isnan(value)) {
      wrong += !std::isnan(float(number)) || !std::isnan(float(T(float(number))));
      continue;
    }
    wrong += double(float(number)) != value || T(float(value)).bits != bits || std::signbit(float(number)) != (b >> 15);
    if ((bits & 0x7fff) >= infinity) continue;
    const uint16_t next = uint16_t(bits + 1);  // away from zero
    const bool last = (next & 0x7fff) == infinity;
    // beyond the largest number rounding goes on as if there were another one
    const double beyond =
        last ? 2 * value - value_of(uint16_t(bits - 1), exponent_bits) : value_of(next, exponent_bits);
    const float middle = float((value + beyond) / 2);
    const float nearer = std::nextafter(middle, float(value)), farther = std::nextafter(middle, float(beyond));
    wrong += T(nearer).bits != bits || T(farther).bits != next || T(middle).bits != (bits & 1 ? next : bits);
  }
  EXPECT(wrong == 0);
}

}  // namespace

UNIT(half_is_read_and_rounded) {
  all_values<__half>(5);
  EXPECT(float(__half(1e30f)) == INFINITY && float(__half(-70000.0f)) == -INFINITY);
}
UNIT(bfloat16_is_read_and_rounded) {
  all_values<__nv_bfloat16>(8);
  EXPECT(float(__nv_bfloat16(std::numeric_limits<float>::max())) == INFINITY);
}

UNIT(pairs_keep_their_order) {
  const float2 h = __half22float2(__floats2half2_rn(1.5f, -2.25f));
  const float2 b = __bfloat1622float2(__floats2bfloat162_rn(1.5f, -2.25f));
  EXPECT(h.x == 1.5f && h.y == -2.25f && b.x == 1.5f && b.y == -2.25f);
  EXPECT(__low2float(__floats2half2_rn(1, 2)) == 1 && __high2float(__floats2half2_rn(1, 2)) == 2);
  EXPECT(__half_as_ushort(__float2half_rn(1.0f)) == 0x3c00 && __half2float(__ushort_as_half(0xc000)) == -2);
  EXPECT(__bfloat16_as_ushort(__float2bfloat16_rn(1.0f)) == 0x3f80 &&
         __bfloat162float(__ushort_as_bfloat16(0xc000)) == -2);
}

UNIT(vectors_have_their_alignment) {
  EXPECT(alignof(float4) == 16 && sizeof(float4) == 16 && alignof(float2) == 8);
  EXPECT(alignof(double2) == 16 && sizeof(double4) == 32 && alignof(uchar4) == 4 && alignof(ushort4) == 8);
  EXPECT(make_float4(1, 2, 3, 4).z == 3 && make_uint2(5, 6).y == 6 && make_double2(1, 2).x == 1);
  const dim3 one, two(3, 4);
  EXPECT(one.x * one.y * one.z == 1 && two.x == 3 && two.y == 4 && two.z == 1);
}
