// Products of four inputs with eight outputs. Only for translation units of this set: include
// outside any region.
//
// AVX2 has no exact byte dot product: vpmaddubsw saturates to int16. Where no pair of products can
// leave int16 (`narrow`: 7-bit activations or 4-bit weights, say) it is used all the same;
// elsewhere even and odd bytes are widened and multiplied as words, which is exact.
#pragma once

#include <immintrin.h>

#include "kernels/avx2/set.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

struct Input {  // four input channels of a pixel in every 32-bit lane
  __m256i bytes, even, odd;

  QB_INLINE explicit Input(const std::uint8_t* x, bool narrow) {
    std::int32_t four;
    __builtin_memcpy(&four, x, 4);
    bytes = _mm256_set1_epi32(four);
    if (!narrow)
      even = _mm256_and_si256(bytes, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(bytes, 8);
  }
};

struct Weight {  // 8 outputs x 4 inputs
  __m256i bytes, even, odd;

  QB_INLINE Weight(__m256i w, bool narrow) : bytes(w) {
    if (!narrow)
      even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), odd = _mm256_srai_epi16(w, 8);
  }
};

QB_INLINE __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
QB_INLINE void store(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

template <bool Narrow>
QB_INLINE __m256i multiply(__m256i acc, const Input& x, const Weight& w) {
  if (Narrow)
    return _mm256_add_epi32(
        acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x.bytes, w.bytes), _mm256_set1_epi16(1)));
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
}

}  // namespace
}  // namespace qb
QB_TARGET_END
