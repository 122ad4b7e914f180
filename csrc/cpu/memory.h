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
  ~Array() { std::free(data_); }
  Array(Array&& other) noexcept : data_(other.data_), count_(other.count_) { other.data_ = nullptr, other.count_ = 0; }
  Array& operator=(Array&& other) noexcept {
    std::swap(data_, other.data_), std::swap(count_, other.count_);
    return *this;
  }

  void resize(int64_t count) {  // contents are lost; a smaller or equal count keeps the memory
    if (count > count_) {
      std::free(data_);
      count_ = 0;
      const size_t bytes = (size_t(count) * sizeof(T) + kAlign - 1) / kAlign * kAlign;
      data_ = static_cast<T*>(std::aligned_alloc(kAlign, bytes));
      if (!data_) throw std::bad_alloc();
      count_ = count;
    }
  }
  void zero(int64_t count) { resize(count), std::memset(static_cast<void*>(data_), 0, size_t(count) * sizeof(T)); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace dq_fast
