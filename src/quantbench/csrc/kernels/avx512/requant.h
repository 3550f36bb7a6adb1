// From accumulators to stored codes on AVX-512. Only for translation units of that set: include
// outside any region.
#pragma once

#include <immintrin.h>

#include "kernels/avx512/set.h"
#include "kernels/finish.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

// Four pixels of 16 codes, of which only the first `pixels` are read.
[[maybe_unused]] QB_INLINE __m512i load_pixels(const std::uint8_t* x, std::int64_t pixels) {
  if (pixels >= 4) return _mm512_loadu_si512(x);
  if (pixels <= 0) return _mm512_setzero_si512();
#if QB_CHECKED
  std::uint8_t bytes[64] = {};
  __builtin_memcpy(bytes, x, pixels * kBlock);
  return _mm512_loadu_si512(bytes);
#else
  return _mm512_maskz_loadu_epi32(__mmask16((1 << 4 * pixels) - 1), x);
#endif
}

// Stores the first `pixels` (1 to 4, more counts as 4) of four pixels of 16 codes.
QB_INLINE void store_pixels(std::uint8_t* y, __m512i codes, int pixels) {
  if (pixels >= 4) {
    _mm512_storeu_si512(y, codes);
    return;
  }
#if QB_CHECKED
  std::uint8_t bytes[64];
  _mm512_storeu_si512(bytes, codes);
  __builtin_memcpy(y, bytes, pixels * kBlock);
#else
  _mm512_mask_storeu_epi32(y, __mmask16((1 << 4 * pixels) - 1), codes);
#endif
}

// Requantization of one block of 16 channels.
//
// cvtps2dq rounds halves to even, and gives -2^31 for all that leaves int32, and for what is not a
// number: right for the negative, since codes saturate at `lo` there, and for what is not a number.
// Where numbers may be too large they are cut to 32767 first, which saturates at `hi` like them;
// vminps keeps its second argument where one is not a number. To cut always
// costs MobileNets 4 %.
struct Channel {
  __m512 m, ratio;
  __m512i zero, lo, hi, r_zero;
  bool clamps, far;

  QB_INLINE Channel(const Requant& q, int channel)
      : m(_mm512_loadu_ps(q.m + channel)), clamps(q.clamps), far(q.far) {
    zero = _mm512_set1_epi16(short(q.zero));
    ratio = _mm512_set1_ps(q.ratio);
    r_zero = _mm512_set1_epi32(q.r_zero);
    lo = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q.lo + channel)));
    hi = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q.hi + channel)));
  }

  QB_INLINE __m512i nearest(__m512 t) const {
    return _mm512_cvtps_epi32(far ? _mm512_min_ps(_mm512_set1_ps(32767.0f), t) : t);
  }

  // rint(float(acc) * m), one pixel.
  QB_INLINE __m512i round(__m512i acc) const {
    return nearest(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), m));
  }

  // The same with a residual's share, of 16 codes r.
  QB_INLINE __m512i round_sum(__m512i acc, const std::uint8_t* r) const {
    const __m512i codes =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(r)));
    const __m512 d = _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, r_zero));
    return nearest(
        _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), m), _mm512_mul_ps(d, ratio)));
  }

  // Four rounded pixels to 64 codes in order. Saturation to int16 and uint8 changes nothing before
  // a clamp to 0..255.
  QB_INLINE __m512i codes(const __m512i* q) const {
    const __m512i even = _mm512_adds_epi16(_mm512_packs_epi32(q[0], q[1]), zero);
    const __m512i odd = _mm512_adds_epi16(_mm512_packs_epi32(q[2], q[3]), zero);
    // A lane of `even` has four channels of pixel 0, then of 1; of `odd`, of pixels 2 and 3.
    // Packing them gives, in each 128-bit lane, four channels of each of the four pixels:
    //
    //   lane 0: p0 c0-3 | p1 c0-3 | p2 c0-3 | p3 c0-3      lane 1: p0 c4-7 | p1 c4-7 | ...
    //
    // and the permutation, which transposes lanes and 32-bit words, brings a pixel's together.
    __m512i y = _mm512_packus_epi16(even, odd);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    y = _mm512_permutexvar_epi32(order, y);
    return clamps ? _mm512_min_epu8(_mm512_max_epu8(y, lo), hi) : y;
  }
};

// One pixel of one block, codes or floats.
[[maybe_unused]] QB_INLINE void finish_one(const Requant& out, int channel, __m512i acc,
                                           std::uint8_t* y) {
  const Channel c(out, channel);
  if (out.floats) {
    _mm512_storeu_ps(y, _mm512_mul_ps(_mm512_cvtepi32_ps(acc), c.m));
    return;
  }
  const __m512i q = c.round(acc), four[4] = {q, q, q, q};
  store_pixels(y, c.codes(four), 1);
}

}  // namespace
}  // namespace qb
QB_TARGET_END
