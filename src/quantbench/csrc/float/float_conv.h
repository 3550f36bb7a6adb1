// Convolution of float32 images by 3x3 filters of stride 1, with a border of one zero, and its
// derivatives: what reconstruction spends its time on. Images are NHWC, filters [3][3][in
// channels][out channels].
//
// One instruction set gives the same bits whatever the number of threads: an image is one thread's,
// and gradients of a filter are added up over shares of the images that the number of images alone
// decides. Another instruction set adds in another order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

struct FloatKernels;

// Names of the instruction sets that this machine has, the best first; none on many machines.
std::vector<std::string> float_instruction_sets();

// The set of this name, or the best of this machine for an empty one; null where there is none.
const FloatKernels* choose_float_kernels(const std::string& name);

void float_conv(const FloatKernels& kernels, const FloatConv& s, const float* x,
                const float* filter, const FloatTail& tail, float* y, int threads);

// From dy, which counts as 0 where the output `y` (if given: that of a ReLU) is not above 0: dx (if
// wanted; from the filter that is turned around: [3][3][k][c]) and the filter's gradient (if
// wanted: [3][3][c][k]).
void float_conv_back(const FloatKernels& kernels, const FloatConv& s, const float* x,
                     const float* turned, const float* dy, const float* y, float* dx,
                     float* dfilter, int threads);

}  // namespace qb
