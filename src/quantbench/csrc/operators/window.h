// A window that moves over an image: of a convolution or a pool. Pairs are rows and columns; pads
// top, left, bottom, right.
#pragma once

#include <array>

#include "base/checks.h"
#include "operators/tensor.h"

namespace qb {

struct Window {
  std::array<int, 2> kernel, stride;
  std::array<int, 4> pads;
  std::array<int, 2> dilation;

  std::int64_t reach(int i) const { return std::int64_t(kernel[i] - 1) * dilation[i] + 1; }
  // Outputs over `size` rows (0) or columns (1).
  int outputs(int i, int size) const {
    return int((size + pads[i] + pads[i + 2] - reach(i)) / stride[i] + 1);
  }
};

// Throws std::invalid_argument for a window that does not fit the image.
inline void check(const Window& w, const Tensor& image) {
  for (int i = 0; i < 2; i++) {
    require(
        1 <= w.kernel[i] && w.kernel[i] <= kLargest && 1 <= w.stride[i] && w.stride[i] <= kLargest,
        "kernel or stride outside of 1..65536");
    require(1 <= w.dilation[i] && w.dilation[i] <= kLargest, "a dilation outside of 1..65536");
    require(
        0 <= w.pads[i] && w.pads[i] <= kLargest && 0 <= w.pads[i + 2] && w.pads[i + 2] <= kLargest,
        "padding outside of 0..65536");
    require(w.reach(i) <= std::int64_t(i ? image.w : image.h) + w.pads[i] + w.pads[i + 2],
            "a window larger than the image");
  }
}

}  // namespace qb
