// From accumulators to stored codes on AVX2. Only for translation units of this set: include
// outside any region.
#pragma once

#include <immintrin.h>

#include "kernels/avx2/set.h"
#include "kernels/finish.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

QB_INLINE __m128i load_codes(const std::uint8_t* x) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
}

// Requantization of one block of 16 channels.
//
// cvtps2dq rounds halves to even, and gives -2^31 for all that leaves int32, and for what is not a
// number: right for the negative, since codes saturate at `lo` there, and for what is not a number.
// Numbers above 32767 are cut to that first, which saturates at `hi` like them; vminps keeps its
// second argument where one is not a number.
struct Channel {
  __m256 m[2], ratio;
  __m256i zero, lo, hi, r_zero;
  bool clamps;

  QB_INLINE Channel(const Requant& q, int channel) : clamps(q.clamps) {
    m[0] = _mm256_loadu_ps(q.m + channel), m[1] = _mm256_loadu_ps(q.m + channel + 8);
    zero = _mm256_set1_epi16(short(q.zero));
    ratio = _mm256_set1_ps(q.ratio);
    r_zero = _mm256_set1_epi32(q.r_zero);
    lo = _mm256_broadcastsi128_si256(load_codes(q.lo + channel));
    hi = _mm256_broadcastsi128_si256(load_codes(q.hi + channel));
  }

  QB_INLINE static __m256i nearest(__m256 t) {
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_set1_ps(32767.0f), t));
  }

  // rint(float(acc) * m) of one pixel, as words. A 128-bit lane has channels 0-3 and 8-11, the
  // other 4-7 and 12-15. Saturation to int16, here and below, changes nothing before a clamp to
  // 0..255.
  QB_INLINE __m256i round(__m256i a, __m256i b) const {
    const __m256 s = _mm256_mul_ps(_mm256_cvtepi32_ps(a), m[0]);
    const __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(b), m[1]);
    return _mm256_packs_epi32(nearest(s), nearest(t));
  }

  // The same with a residual's share, of 16 codes r.
  QB_INLINE __m256i round_sum(__m256i a, __m256i b, const std::uint8_t* r) const {
    const __m128i codes = load_codes(r);
    const __m256 s = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(a), m[0]), share(codes));
    const __m256 t =
        _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(b), m[1]), share(_mm_srli_si128(codes, 8)));
    return _mm256_packs_epi32(nearest(s), nearest(t));
  }

  // Two rounded pixels to 32 codes in order.
  QB_INLINE __m256i codes(__m256i p, __m256i q) const {
    __m256i y = _mm256_packus_epi16(_mm256_adds_epi16(p, zero), _mm256_adds_epi16(q, zero));
    y = _mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return clamps ? _mm256_min_epu8(_mm256_max_epu8(y, lo), hi) : y;
  }

 private:
  QB_INLINE __m256 share(__m128i eight) const {
    const __m256i d = _mm256_sub_epi32(_mm256_cvtepu8_epi32(eight), r_zero);
    return _mm256_mul_ps(_mm256_cvtepi32_ps(d), ratio);
  }
};

// Stores the first `pixels` (1, more counts as 2) of two pixels of 16 codes.
QB_INLINE void store_pixels(std::uint8_t* y, __m256i codes, int pixels) {
  if (pixels >= 2)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), codes);
  else
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm256_castsi256_si128(codes));
}

// One pixel of one block, codes or floats.
[[maybe_unused]] QB_INLINE void finish_one(const Requant& out, int channel, const __m256i* acc,
                                           std::uint8_t* y) {
  const Channel c(out, channel);
  if (out.floats) {
    float* to = reinterpret_cast<float*>(y);
    _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtepi32_ps(acc[0]), c.m[0]));
    _mm256_storeu_ps(to + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(acc[1]), c.m[1]));
    return;
  }
  const __m256i q = c.round(acc[0], acc[1]);
  store_pixels(y, c.codes(q, q), 1);
}

}  // namespace
}  // namespace qb
QB_TARGET_END
