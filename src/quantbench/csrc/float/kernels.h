// The float kernels of one instruction set: one image each, on one thread. Sets differ in the order
// of their sums, hence in last bits; one set gives the same bits wherever it runs.
#pragma once

#include "float/float_conv.h"

namespace qb {

struct FloatKernels {
  const char* name;

  // The filter as `image` wants it, as many numbers; null where it takes [3][3][c][k] as it is.
  void (*pack)(const FloatConv&, const float* filter, float* to);

  // One image, from a copy with a border, to y + at; what is added lies at tail.add + at.
  void (*image)(const FloatConv&, const float* x, const float* filter, const FloatTail&,
                std::int64_t at, float* y);

  // Adds one image's part of the filter's gradient to d; `dy` has a border.
  void (*filter_gradient)(const FloatConv&, const float* x, const float* dy, float* d);

  // Rows of an image into a copy that has a border; 0 where `above` (if any) is not above 0.
  void (*with_border)(int h, int w, int c, const float* x, const float* above, float* to);
};

// Null where this machine cannot run them.
const FloatKernels* float_avx512();
const FloatKernels* float_avx2();

}  // namespace qb
