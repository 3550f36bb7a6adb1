// The set's name for compilers, and its convolution: everything else is that of AVX2.
#pragma once

#include "base/target.h"
#include "kernels/kernels.h"

#define QB_AVXVNNI "avx2,avxvnni"

namespace qb {

void avxvnni_conv(const ConvLayer&, const ConvCall&);

}  // namespace qb
