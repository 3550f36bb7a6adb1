// What the files of this folder share: the set's name for compilers, and what they give to its
// table in kernels.cpp.
#pragma once

#include "base/target.h"
#include "kernels/kernels.h"

#define QB_AVX2 "avx2"

namespace qb {

void avx2_conv(const ConvLayer&, const ConvCall&);
void avx2_winograd(const WinogradLayer&, const WinogradCall&);
void avx2_depthwise(const DepthwiseLayer&, const View& x, const View& y, int block, int first,
                    int last, std::uint8_t* scratch);
void avx2_linear(const LinearLayer&, const std::uint8_t* x, std::int64_t x_image, int images,
                 std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t* scratch);

}  // namespace qb
