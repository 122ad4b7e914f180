// An inline device function with a shared array, used by kernels of two files.
#pragma once
#include "unit.hpp"

inline int* inline_box() {
  SHARED_ARRAY(int, box, 2);
  return box;
}

inline void fill_from_here(int* out) {
  inline_box()[0] = 41;
  out[0] = inline_box()[0];
}

void (*fill_from_there())(int*);
