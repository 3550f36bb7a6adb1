// From accumulators to codes, in plain C++ that every compiler turns into vector code of the region
// it is inlined in.
#pragma once

#include "base/target.h"
#include "kernels/layer.h"

namespace qb {

// rint, halves to even, of |t| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
QB_INLINE float round_even(float t) {
  const float shift = 12582912.0f;
  return (t + shift) - shift;
}

// The definition's quantize; whatever the size of t, since it is clamped first. Not a number
// becomes lo.
QB_INLINE std::uint8_t quantize(float t, int zero, int lo, int hi) {
  const float low = float(lo - zero), high = float(hi - zero);
  t = t > low ? t : low;
  t = t < high ? t : high;
  return std::uint8_t(int(round_even(t)) + zero);
}

// One pixel of one block. `channel`: 16 * block. y: 16 codes, or 16 floats.
QB_INLINE void finish_pixel(const Requant& q, int channel, const std::int32_t* acc,
                            const std::uint8_t* r, std::uint8_t* y) {
  const float* m = q.m + channel;
  if (q.floats) {
    float t[kBlock];
    for (int i = 0; i < kBlock; i++) t[i] = float(acc[i]) * m[i];
    __builtin_memcpy(y, t, sizeof t);
    return;
  }
  std::uint8_t codes[kBlock];
  for (int i = 0; i < kBlock; i++) {
    float t = float(acc[i]) * m[i];
    if (q.residual) t = t + float(int(r[i]) - q.r_zero) * q.ratio;
    codes[i] = quantize(t, q.zero, q.lo[channel + i], q.hi[channel + i]);
  }
  __builtin_memcpy(y, codes, sizeof codes);
}

}  // namespace qb
