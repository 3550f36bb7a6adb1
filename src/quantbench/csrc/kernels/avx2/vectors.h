// Loads and stores of 256 bits. Only for translation units of sets with AVX2: include outside any
// region.
#pragma once

#include <immintrin.h>

#include "kernels/avx2/set.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

QB_INLINE __m256i load(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
[[maybe_unused]] QB_INLINE void store(void* to, __m256i v) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), v);
}

// Four codes in every 32-bit lane.
[[maybe_unused]] QB_INLINE __m256i four_codes(const std::uint8_t* x) {
  std::int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

}  // namespace
}  // namespace qb
QB_TARGET_END
