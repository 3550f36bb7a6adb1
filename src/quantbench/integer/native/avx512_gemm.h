// The inner loop of convolutions on AVX-512 VNNI. Only for translation units of that set.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "target.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

constexpr int kAhead = 2;  // cache lines fetched ahead in each quad: a strip's next chunk, spread over its tiles

// Part of a panel's steps (layer.h): offsets of quads and of single steps, weights, and weights that a later call needs.
struct Steps {
  const std::int32_t* offset;
  const std::int8_t *weight, *ahead;
  int quads, singles;
};

// acc[.] += x (4 unsigned bytes, broadcast) . w[.]; assembly, because compilers otherwise hoist the broadcasts of a
// step above its products and spill accumulators.
template <int B>
QB_INLINE void multiply(__m512i* acc, const std::uint8_t* x, const __m512i* w) {
  __m512i t;
#if QB_CHECKED
  std::int32_t four;
  __builtin_memcpy(&four, x, 4);
  t = _mm512_set1_epi32(four);
  for (int b = 0; b < B; b++) acc[b] = _mm512_dpbusd_epi32(acc[b], t, w[b]);
#else
  asm("vpbroadcastd %[x], %[t]\n\tvpdpbusd %[w], %[t], %[a]"
      : [t] "=&v"(t), [a] "+v"(acc[0])
      : [x] "m"(*reinterpret_cast<const std::uint8_t(*)[4]>(x)), [w] "v"(w[0]));
  QB_UNROLL for (int b = 1; b < B; b++)
    asm("vpdpbusd %[w], %[t], %[a]" : [a] "+v"(acc[b]) : [t] "v"(t), [w] "v"(w[b]));
#endif
}

template <int P, int B, int X>
QB_INLINE void step(__m512i* acc, const std::uint8_t* x, const std::int8_t* weight) {
  __m512i w[B];
  QB_UNROLL for (int b = 0; b < B; b++) w[b] = _mm512_loadu_si512(weight + b * 64);
  QB_UNROLL for (int p = 0; p < P; p++) multiply<B>(acc + p * B, x + p * X, w);
}

// acc [pixel][block] += all steps, for P pixels X bytes apart and B blocks.
template <int P, int B, int X>
QB_INLINE void accumulate(__m512i* acc, const std::uint8_t* x, const Steps& steps) {
  const std::int8_t *weight = steps.weight, *ahead = steps.ahead;
  const std::int32_t* offset = steps.offset;
  for (int k = steps.quads; k > 0; k--, weight += 256 * B, ahead += 64 * kAhead) {
    const std::uint8_t* at = x + *offset++;
    QB_UNROLL for (int i = 0; i < kAhead; i++) _mm_prefetch(reinterpret_cast<const char*>(ahead + 64 * i), _MM_HINT_T1);
    QB_UNROLL for (int i = 0; i < 4; i++) step<P, B, X>(acc, at + i * 4, weight + i * 64 * B);
  }
  for (int k = steps.singles; k > 0; k--, weight += 64 * B) step<P, B, X>(acc, x + *offset++, weight);
}

}  // namespace
}  // namespace qb
QB_TARGET_END
