// The float kernels of one instruction set: one image each, on one thread. Sets differ in the order
// of their sums, hence in last bits; one set gives the same bits wherever it runs. Sizes are in
// numbers.
#pragma once

#include "float/float_conv.h"

namespace qb {

struct FloatKernels {
  const char* name;

  // An image of c channels as `image` and `filter_gradient` read it: with a border, which the
  // caller has filled with zeros. Where `above` (if any) is not above 0, the copy holds 0.
  std::int64_t (*copied)(const FloatConv&, int c);
  void (*copy)(const FloatConv&, int c, const float* x, const float* above, float* to);

  // A filter as `image` reads it.
  std::int64_t (*packed)(const FloatConv&);
  void (*pack)(const FloatConv&, const float* filter, float* to);

  std::int64_t (*scratch)(const FloatConv&);  // of both functions below; zeros at first

  // One image, from its copy, to y + at; what is added lies at tail.add + at.
  void (*image)(const FloatConv&, const float* x, const float* packed, const FloatTail&,
                std::int64_t at, float* y, float* scratch);

  // Adds one image's part to what becomes the filter's gradient, from a copy of dy; and the
  // gradient, of all parts.
  std::int64_t (*sums)(const FloatConv&);
  void (*filter_gradient)(const FloatConv&, const float* x, const float* dy, float* sums,
                          float* scratch);
  void (*unpack)(const FloatConv&, const float* sums, float* dfilter);
};

// Null where this machine cannot run them.
const FloatKernels* float_avx512();
const FloatKernels* float_avx2();

}  // namespace qb
