// CUDA's vector types, with CUDA's alignment.
#pragma once
#include <cstdint>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#define EMU_VECTOR_TYPES(name, T)                                                    \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                 \
  struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                         \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTOR_TYPES(uchar, unsigned char)
EMU_VECTOR_TYPES(short, short)
EMU_VECTOR_TYPES(ushort, unsigned short)
EMU_VECTOR_TYPES(int, int)
EMU_VECTOR_TYPES(uint, unsigned)
EMU_VECTOR_TYPES(longlong, long long)
EMU_VECTOR_TYPES(ulonglong, unsigned long long)
EMU_VECTOR_TYPES(float, float)
EMU_VECTOR_TYPES(double, double)
#undef EMU_VECTOR_TYPES
