// nvcuda::wmma, 16 x 16 x 16. Which elements of a fragment a lane holds is not specified: here a scrambled order, so
// that code that relies on one is found out.
#pragma once
#include <cstdint>
#include <type_traits>

#include "warp.hpp"

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  static_assert(M == 16 && N == 16 && K == 16, "only 16 x 16 x 16 is emulated");
  static constexpr int num_elements = 8;
  T x[num_elements];
};

inline int element(int lane, int i) { return (lane * 8 + i) * 37 % 256; }  // 37 is odd: a permutation of 256

inline void all_lanes(const std::source_location& location) { emu::ballot(0xffffffffu, true, location); }

template <class F, class T>
void fill_fragment(F& f, T v) {
  for (auto& each : f.x) each = v;
}

template <class Use, class T, class Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& f, const T* p, unsigned ld, EMU_LOCATION) {
  if (uintptr_t(p) % 32) emu::fail("wmma: pointer not 256-bit aligned", location);
  for (int i = 0; i < 8; ++i) {
    const int row = element(emu::lane(), i) / 16, column = element(emu::lane(), i) % 16;
    f.x[i] = std::is_same_v<Layout, col_major> ? p[column * ld + row] : p[row * ld + column];
  }
  all_lanes(location);
}

template <class T>
void store_matrix_sync(T* p, const fragment<accumulator, 16, 16, 16, T>& f, unsigned ld, layout_t layout,
                       EMU_LOCATION) {
  for (int i = 0; i < 8; ++i) {
    const int row = element(emu::lane(), i) / 16, column = element(emu::lane(), i) % 16;
    p[layout == mem_row_major ? row * ld + column : column * ld + row] = f.x[i];
  }
  all_lanes(location);
}

// d = a b + c
template <class T, class LayoutA, class LayoutB>
EMU_UNSEEN void mma_sync(fragment<accumulator, 16, 16, 16, float>& d,
                         const fragment<matrix_a, 16, 16, 16, T, LayoutA>& a,
                         const fragment<matrix_b, 16, 16, 16, T, LayoutB>& b,
                         const fragment<accumulator, 16, 16, 16, float>& c, EMU_LOCATION) {
  struct Fragments {
    const fragment<matrix_a, 16, 16, 16, T, LayoutA>* a;
    const fragment<matrix_b, 16, 16, 16, T, LayoutB>* b;
    const fragment<accumulator, 16, 16, 16, float>* c;
    fragment<accumulator, 16, 16, 16, float>* d;
  } mine{&a, &b, &c, &d};
  const emu::Complete complete = [](void** arguments, uint32_t lanes) {
    if (lanes != 0xffffffffu) emu::fail("wmma needs all 32 lanes");
    float A[256], B[256], C[256];
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 8; ++i) {
        const auto* it = static_cast<Fragments*>(arguments[lane]);
        A[element(lane, i)] = float(it->a->x[i]);
        B[element(lane, i)] = float(it->b->x[i]);
        C[element(lane, i)] = it->c->x[i];
      }
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 8; ++i) {
        const int row = element(lane, i) / 16, column = element(lane, i) % 16;
        double sum = C[row * 16 + column];
        for (int k = 0; k < 16; ++k) sum += double(A[row * 16 + k]) * B[k * 16 + column];
        static_cast<Fragments*>(arguments[lane])->d->x[i] = float(sum);
      }
  };
  emu::warp_operation(emu::kMatrix, 0xffffffffu, &mine, complete, location);
}

}  // namespace nvcuda::wmma
