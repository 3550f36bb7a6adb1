// What the files of this folder share: the set's name for compilers, and what they give to its
// table in kernels.cpp.
#pragma once

#include "base/target.h"
#include "kernels/kernels.h"

#define QB_AVX512 "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"

namespace qb {

bool avx512_conv_fits(const ConvLayer&);
void avx512_conv(const ConvLayer&, const ConvCall&);
void avx512_winograd(const WinogradLayer&, const WinogradCall&);
void avx512_depthwise(const DepthwiseLayer&, const View& x, const View& y, int block, int first,
                      int last, std::uint8_t* scratch);
void avx512_linear(const LinearLayer&, const std::uint8_t* x, std::int64_t x_image, int images,
                   std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t* scratch);

}  // namespace qb
