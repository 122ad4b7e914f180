// A few orthonormal directions that hold most of a group's rows, and each row's coordinates along them.
//
// For a sum D of rows and any row x (norm 1): <x, D> = a_x . a_D + <rest of x, rest of D> >= a_x . a_D - |rest_x|
// |rest_D|, by Cauchy and Schwarz on what the directions leave. Valid for any similarities, negative ones too; tight
// when the rest is small: 16 directions leave 5 % of the squared norm of a CIFAR-10 class's gradient embeddings.
#pragma once
#include <cstdint>

#include "rows32.h"

namespace dq_fast {

constexpr int64_t kDirections = kPad;  // at most: products with all rows once, and 4 bytes a row, each

// How loose the bounds will be: the part of the squared norm of a small sample that as many directions leave. It fits
// itself better than other rows, by a sixth or so of nearly orthogonal ones.
double looseness(const Rows& rows, const Rows32& copies);

class Directions {
 public:
  Directions(const Rows& rows, const Rows32& copies);

  int64_t count() const { return count_; }
  const float* coordinates(int64_t i) const { return coordinate_.data() + i * kDirections; }
  const float* coordinates() const { return coordinate_.data(); }  // [n, kDirections], zero from count() on
  const float* rests() const { return rest_.data(); }              // upper bounds
  double least() const { return least_; }  // and most: of the coordinates along the first direction
  double most() const { return most_; }
  // How wrong a_x . a_D - rest_x rest_D may be by the rounding of the coordinates, for ||D|| = 1.
  double error() const { return error_; }

 private:
  void find(const Rows& rows, const Rows32& copies);

  int64_t count_ = 0;
  double error_ = 0, least_ = 0, most_ = 0;
  Array<double> direction_;  // [kDirections, numbers], while they are found
  Array<float> coordinate_, rest_;
};

}  // namespace dq_fast
