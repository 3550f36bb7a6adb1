// The inner loop of AVX-VNNI: a dot product of four bytes (vpdpbusd), which adds in 32 bits. Only
// for translation units of that set: include outside any region.
#pragma once

#include "kernels/avx2/vectors.h"
#include "kernels/avxvnni/set.h"

QB_TARGET_BEGIN(QB_AVXVNNI)
namespace qb {
namespace {

// Assembly, as in avx2/gemm.h: compilers otherwise spill accumulators.
QB_INLINE void add_product(__m256i& acc, __m256i x, __m256i w) {
#if QB_CHECKED
  acc = _mm256_dpbusd_avx_epi32(acc, x, w);
#else
  asm volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
#endif
}

template <int P>
QB_INLINE void step(__m256i (*acc)[2], const std::uint8_t* x, std::int64_t pixel,
                    const std::int8_t* weight) {
  const __m256i low = load(weight), high = load(weight + 32);
  QB_UNROLL for (int p = 0; p < P; p++) {
    const __m256i t = four_codes(x + p * pixel);
    add_product(acc[p][0], t, low), add_product(acc[p][1], t, high);
  }
}

// acc [pixel][half] += `quads` times four steps on 16 bytes in a row, then `singles` steps.
template <int P>
QB_INLINE void accumulate(__m256i (*acc)[2], const std::uint8_t* x, std::int64_t pixel,
                          const std::int32_t* offset, const std::int8_t* weight, int quads,
                          int singles) {
  for (int k = quads; k > 0; k--, offset++)
    for (int i = 0; i < 4; i++, weight += 64) step<P>(acc, x + *offset + i * kStep, pixel, weight);
  for (int k = singles; k > 0; k--, offset++, weight += 64)
    step<P>(acc, x + *offset, pixel, weight);
}

}  // namespace
}  // namespace qb
QB_TARGET_END
