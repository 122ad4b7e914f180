#include "inline_shared.hpp"

__global__ static void other_arrays_first(int* box) {
  SHARED_ARRAY(int, first, 1);  // would take the place of the inline function's, were places numbered by file
  first[0] = 43;
  inline_box()[0] = 42;
  box[0] = inline_box()[0];
  box[1] = first[0];
}

__global__ void there(int* out) { other_arrays_first(out); }

void (*fill_from_there())(int*) { return there; }
