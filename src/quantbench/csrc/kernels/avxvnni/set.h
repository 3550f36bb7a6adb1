// The set's name for compilers, and its convolutions: everything else is that of AVX2.
#pragma once

#include "base/target.h"
#include "kernels/kernels.h"

#define QB_AVXVNNI "avx2,avxvnni"

namespace qb {

void avxvnni_conv(const ConvLayer&, const ConvCall&);
std::int64_t avxvnni_multiply(std::int64_t rounds);
void avxvnni_winograd(const WinogradLayer&, const WinogradCall&);

}  // namespace qb
