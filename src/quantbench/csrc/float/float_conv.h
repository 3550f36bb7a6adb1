// Convolution of float32 images by 3x3 filters of stride 1, with a border of one zero, and its
// derivatives: what reconstruction spends its time on. Images are NHWC, filters [3][3][in
// channels][out channels].
#pragma once

#include <cstdint>

namespace qb {

struct FloatConv {
  std::int64_t images;
  int h, w, c, k;  // input channels, output channels: multiples of 16
};

// What follows a convolution: y = f(conv + bias + add). Either may be missing.
struct FloatTail {
  const float* bias;  // [k]
  const float* add;   // like the output
  bool relu;
};

bool float_conv_runs_here();

void float_conv(const FloatConv& s, const float* x, const float* filter, const FloatTail& tail,
                float* y, int threads);

// From dy, which counts as 0 where the output `y` (if given: that of a ReLU) is not above 0: dx (if
// wanted; from the filter that is turned around: [3][3][k][c]) and the filter's gradient (if
// wanted: [3][3][c][k]). Images are shared out evenly, so that bits depend on the number of threads
// alone.
void float_conv_back(const FloatConv& s, const float* x, const float* turned, const float* dy,
                     const float* y, float* dx, float* dfilter, int threads);

}  // namespace qb
