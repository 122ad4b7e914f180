#include <cmath>

#include "unit.hpp"

using namespace units;

UNIT(bits_of_numbers) {
  EXPECT(__float_as_int(-0.0f) == int(0x80000000u) && __float_as_uint(1.0f) == 0x3f800000u);
  EXPECT(__int_as_float(0x40490fdb) == float(M_PI) && __uint_as_float(0xff800000u) == -INFINITY);
  EXPECT(__double_as_longlong(1.0) == 0x3ff0000000000000ll && __longlong_as_double(0x4000000000000000ll) == 2.0);
  EXPECT(__hiloint2double(__double2hiint(M_PI), __double2loint(M_PI)) == M_PI);
  EXPECT(__double2hiint(1.0) == 0x3ff00000 && __double2loint(1.0) == 0);
}

UNIT(counting_bits) {
  EXPECT(__popc(0xf0f0u) == 8 && __popcll(~0ull) == 64);
  EXPECT(__clz(1) == 31 && __clz(0) == 32 && __clz(-1) == 0 && __clzll(1) == 63 && __clzll(0) == 64);
  EXPECT(__ffs(0) == 0 && __ffs(8) == 4 && __ffsll(1ll << 40) == 41 && __ffsll(0) == 0);
  EXPECT(__brev(1u) == 0x80000000u && __brev(0x12345678u) == 0x1e6a2c48u);
}

UNIT(moving_bits) {
  EXPECT(__byte_perm(0x33221100u, 0x77665544u, 0x7531) == 0x77553311u);
  EXPECT(__byte_perm(0x33221100u, 0x77665544u, 0x0246) == 0x00224466u);
  EXPECT(__funnelshift_l(0x80000001u, 0x12345678u, 4) == 0x23456788u);
  EXPECT(__funnelshift_r(0x12345678u, 0x80000001u, 4) == 0x11234567u);
  EXPECT(__funnelshift_l(1, 2, 32) == 2 && __funnelshift_r(1, 2, 32) == 1);
  EXPECT(__umulhi(0xffffffffu, 0xffffffffu) == 0xfffffffeu && __umul64hi(1ull << 63, 6) == 3);
}

UNIT(rounded_arithmetic) {
  const double e = std::ldexp(1.0, -52);
  EXPECT(__fma_rn(1 + e, 1 - e, -1.0) == -e * e);  // one rounding, where product and sum apart give 0
  EXPECT(__dadd_rn(__dmul_rn(1 + e, 1 - e), -1.0) == 0);
  EXPECT(__fmaf_rn(1 + 0x1p-23f, 1 - 0x1p-23f, -1.0f) == -0x1p-46f);
  EXPECT(__dsqrt_rn(2.0) == std::sqrt(2.0) && __ddiv_rn(1.0, 3.0) == 1.0 / 3 && __dsub_rn(1, 3) == -2);
  EXPECT(__drcp_rn(4.0) == 0.25 && __frcp_rn(8.0f) == 0.125f && __fsqrt_rn(9.0f) == 3);
  EXPECT(rsqrt(4.0) == 0.5 && rsqrtf(16.0f) == 0.25f && __double2float_rn(1 + 0x1p-30) == 1.0f);
  EXPECT(__fadd_rn(1, 2) == 3 && __fmul_rn(3, 4) == 12);
  EXPECT(max(3, 5) == 5 && min(int64_t(3), int64_t(5)) == 3 && max(1.5, 2.5) == 2.5);
}

__global__ void traps(int at) {
  if (int(threadIdx.x) == at) __trap();
}

UNIT(a_trap_names_the_thread) {
  const std::string text = error_of([] { one_block(traps, 32, 9); });
  EXPECT(holds(text, "__trap()") && holds(text, "thread (9, 0, 0)") && holds(text, "test_intrinsics.cpp"));
}
