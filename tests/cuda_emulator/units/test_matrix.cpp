#include <cmath>
#include <random>

#include "unit.hpp"

using namespace units;

namespace {

// a [16, 16] and b [16, 8] (or [16, 16]): no symmetry that could hide a transposed operand.
std::vector<__nv_bfloat16> numbers(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<__nv_bfloat16> out;
  for (size_t i = 0; i < count; ++i) out.push_back(__nv_bfloat16(float(int(random() % 31) - 15)));
  return out;
}

template <class At>
int wrong(const std::vector<float>& got, int rows, int columns, At product) {
  int count = 0;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) count += got[size_t(r * columns + c)] != product(r, c);
  return count;
}

}  // namespace

// Operands straight from memory, by the manual's tables.
__global__ void mma_from_registers(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {
  const int group = threadIdx.x / 4, in_group = threadIdx.x % 4;
  const auto pair = [](__nv_bfloat16 low, __nv_bfloat16 high) {
    return uint32_t(low.bits) | uint32_t(high.bits) << 16;
  };
  const auto from_a = [&](int row, int k) { return pair(a[row * 16 + k], a[row * 16 + k + 1]); };
  const auto from_b = [&](int k, int column) { return pair(b[k * 8 + column], b[(k + 1) * 8 + column]); };
  const uint32_t A[4] = {from_a(group, 2 * in_group), from_a(group + 8, 2 * in_group), from_a(group, 2 * in_group + 8),
                         from_a(group + 8, 2 * in_group + 8)};
  const uint32_t B[2] = {from_b(2 * in_group, group), from_b(2 * in_group + 8, group)};
  float D[4] = {1, 1, 1, 1};
  mma_bf16_16816(D, A, B);
  for (int i = 0; i < 4; ++i) c[(group + 8 * (i / 2)) * 8 + 2 * in_group + i % 2] = D[i];
}

UNIT(mma_of_an_asymmetric_product) {
  const auto a = numbers(256, 1), b = numbers(128, 2);
  std::vector<float> c(128, NAN);
  one_block(mma_from_registers, 32, a.data(), b.data(), c.data());
  EXPECT(wrong(c, 16, 8, [&](int r, int n) {
           float sum = 1;
           for (int k = 0; k < 16; ++k) sum += float(a[size_t(r * 16 + k)]) * float(b[size_t(k * 8 + n)]);
           return sum;
         }) == 0);
}

// The same through cp.async and ldmatrix; b is stored by columns, [8, 16].
__global__ void mma_from_shared(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, bool wait) {
  constexpr int kRow = 24;  // padded
  DYN_SMEM(__nv_bfloat16, as);
  __nv_bfloat16* bs = as + 16 * kRow;
  const int lane = threadIdx.x;
  cp_async16(as + lane / 2 * kRow + lane % 2 * 8, a + lane * 8);
  if (lane < 16) cp_async16(bs + lane / 2 * kRow + lane % 2 * 8, b + lane * 8);
  cp_async_commit();
  if (wait) cp_async_wait<0>();
  __syncwarp();
  uint32_t A[4], B[2];
  ldsm_x4(A, as + lane % 16 * kRow + lane / 16 * 8);
  ldsm_x2(B, bs + lane % 8 * kRow + lane / 8 % 2 * 8);
  float D[4] = {0, 0, 0, 0};
  mma_bf16_16816(D, A, B);
  for (int i = 0; i < 4; ++i) c[(lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2] = D[i];
}

UNIT(ldmatrix_and_asynchronous_copies) {
  const auto a = numbers(256, 3), b = numbers(128, 4);
  alignas(16) __nv_bfloat16 aligned_a[256], aligned_b[128];
  std::copy(a.begin(), a.end(), aligned_a);
  std::copy(b.begin(), b.end(), aligned_b);
  constexpr size_t kShared = (16 + 8) * 24 * 2;
  std::vector<float> c(128, NAN);
  CUDA_LAUNCH(mma_from_shared, 1, 32, kShared, nullptr, aligned_a, aligned_b, c.data(), true);
  const auto product = [&](int r, int n) {
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += float(a[size_t(r * 16 + k)]) * float(b[size_t(n * 16 + k)]);
    return sum;
  };
  EXPECT(wrong(c, 16, 8, product) == 0);
  CUDA_LAUNCH(mma_from_shared, 1, 32, kShared, nullptr, aligned_a, aligned_b, c.data(), false);
  EXPECT(wrong(c, 16, 8, product) > 0);
}

__global__ void groups_of_copies(const int* in, int* out) {
  SHARED_ARRAY(int4, box, 3);
  for (int i = 0; i < 3; ++i) {
    __pipeline_memcpy_async(&box[i], in + 4 * i, 16);
    __pipeline_commit();
  }
  __pipeline_wait_prior(1);
  for (int i = 0; i < 3; ++i) out[i] = box[i].w;
  __pipeline_wait_prior(0);
  out[3] = box[2].w;
}

UNIT(a_wait_is_for_the_older_groups) {
  alignas(16) int in[12];
  int out[4];
  for (int i = 0; i < 12; ++i) in[i] = i;
  one_block(groups_of_copies, 1, in, out);
  EXPECT(out[0] == 3 && out[1] == 7 && out[2] == -1 && out[3] == 11);
}

__global__ void misaligned_copy(const int* in) {
  SHARED_ARRAY(int4, box, 1);
  __pipeline_memcpy_async(&box[0], in + 1, 16);
}
__global__ void few_lanes(float* d) {
  float D[4] = {};
  const uint32_t A[4] = {}, B[2] = {};
  mma_bf16_16816(D, A, B);
  d[0] = D[0];
}

UNIT(what_the_instructions_need_is_checked) {
  alignas(16) int in[8] = {};
  float d[1];
  EXPECT(holds(error_of([&] { one_block(misaligned_copy, 1, in); }), "misaligned"));
  EXPECT(holds(error_of([&] { one_block(few_lanes, 20, d); }), "all 32 lanes"));
}

template <class LayoutA, class LayoutB>
__global__ void with_wmma(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, bool by_rows) {
  namespace w = nvcuda::wmma;
  w::fragment<w::matrix_a, 16, 16, 16, __nv_bfloat16, LayoutA> fa;
  w::fragment<w::matrix_b, 16, 16, 16, __nv_bfloat16, LayoutB> fb;
  w::fragment<w::accumulator, 16, 16, 16, float> sum;
  w::fill_fragment(sum, 2.0f);
  w::load_matrix_sync(fa, a, 16);
  w::load_matrix_sync(fb, b, 16);
  w::mma_sync(sum, fa, fb, sum);
  w::store_matrix_sync(c, sum, 16, by_rows ? w::mem_row_major : w::mem_col_major);
}

UNIT(wmma_of_asymmetric_products_in_every_layout) {
  namespace w = nvcuda::wmma;
  alignas(32) __nv_bfloat16 a[256], b[256];
  const auto some = numbers(512, 5);
  std::copy(some.begin(), some.begin() + 256, a);
  std::copy(some.begin() + 256, some.end(), b);
  const auto check = [&](auto* kernel, bool a_rows, bool b_rows, bool c_rows) {
    std::vector<float> c(256, NAN);
    one_block(kernel, 32, a, b, c.data(), c_rows);
    EXPECT(wrong(c, 16, 16, [&](int r, int n) {
             if (!c_rows) std::swap(r, n);
             float sum = 2;
             for (int k = 0; k < 16; ++k)
               sum += float(a[a_rows ? r * 16 + k : k * 16 + r]) * float(b[b_rows ? k * 16 + n : n * 16 + k]);
             return sum;
           }) == 0);
  };
  check(with_wmma<w::row_major, w::row_major>, true, true, true);
  check(with_wmma<w::row_major, w::col_major>, true, false, false);
  check(with_wmma<w::col_major, w::row_major>, false, true, false);
}
