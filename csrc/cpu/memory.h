// Aligned arrays of numbers, without a constructor a number: the workspace of the kernels.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "simd/simd.h"

namespace dq_fast {

template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(int64_t count) { resize(count); }
  ~Array() { std::free(block_); }
  Array(Array&& other) noexcept : block_(other.block_), data_(other.data_), count_(other.count_) {
    other.block_ = nullptr, other.data_ = nullptr, other.count_ = 0;
  }
  Array& operator=(Array&& other) noexcept {
    std::swap(block_, other.block_), std::swap(data_, other.data_), std::swap(count_, other.count_);
    return *this;
  }

  void resize(int64_t count) {  // contents are lost; a smaller or equal count keeps the memory
    if (count <= count_) return;
    std::free(block_);
    block_ = nullptr, data_ = nullptr, count_ = 0;
    const size_t bytes = (size_t(count) * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    // Aligned allocation takes several times as long as malloc, which a call with eight rows feels.
    block_ = bytes <= kSmall ? std::malloc(bytes + kAlign) : std::aligned_alloc(kAlign, bytes);
    if (!block_) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(block_) + kAlign - 1) / kAlign * kAlign);
    count_ = count;
  }
  void zero(int64_t count) { resize(count), std::memset(static_cast<void*>(data_), 0, size_t(count) * sizeof(T)); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr size_t kSmall = 0;  // no slack in which an overrun would hide
#else
  static constexpr size_t kSmall = 896;  // with the slack, still of the sizes that malloc keeps at hand
#endif

  void* block_ = nullptr;
  T* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace dq_fast
