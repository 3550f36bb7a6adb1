// What the two sets of this folder share. Both have a product of four bytes with four bytes, added
// to an int32, for four outputs at once, and they differ in the signs of these bytes:
//
//   arm64_dot    ARMv8.2 with the dot product: sdot takes signed bytes only, so that codes are
//                shifted by 128, sum (x - 128) w = sum x w - 128 sum w, and the second term, which
//                no input changes, is added to the bias
//   arm64_i8mm   ARMv8.6: usdot takes codes as they are
//
// Each set's file names its instructions (an Input, kShift, and products), and then includes the
// kernels inside of its own region and namespace, as it does rows.h.
#pragma once

#include "base/target.h"
#include "kernels/kernels.h"

#if defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define QB_ARM64 1
#else
#define QB_ARM64 0
#endif
