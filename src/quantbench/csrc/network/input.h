// From the caller's images to a network's first tensor.
#pragma once

#include "kernels/kernels.h"
#include "operators/op.h"
#include "operators/tensor.h"

namespace qb {

// run.images images (c, h, w), float32 numbers or codes, quantized by `scale`. False when a number
// is NaN.
bool load(const void* images, bool floats, float scale, const Kernels&, const Tensor& to,
          const Run& run);

}  // namespace qb
