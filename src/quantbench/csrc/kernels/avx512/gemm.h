// The inner loop of convolutions on AVX-512 VNNI. Only for translation units of that set.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/avx512/set.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

// Cache lines fetched ahead in each quad: a strip's next chunk, spread over its tiles.
constexpr int kAhead = 2;

// Part of a panel's steps (layer.h): offsets of quads and of single steps, weights, and weights
// that a later call needs.
struct Steps {
  const std::int32_t* offset;
  const std::int8_t *weight, *ahead;
  int quads, singles;
};

// Assembly, because compilers otherwise hoist the broadcasts of a step above its products and spill
// accumulators. Volatile, because that keeps the order.
QB_INLINE __m512i broadcast(const std::uint8_t* x) {
#if QB_CHECKED
  std::int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
#else
  __m512i t;
  asm volatile("vpbroadcastd %[x], %[t]"
               : [t] "=v"(t)
               : [x] "m"(*reinterpret_cast<const std::uint8_t (*)[4]>(x)));
  return t;
#endif
}

QB_INLINE void add_product(__m512i& acc, __m512i x, __m512i w) {
#if QB_CHECKED
  acc = _mm512_dpbusd_epi32(acc, x, w);
#else
  asm volatile("vpdpbusd %[w], %[x], %[a]" : [a] "+v"(acc) : [x] "v"(x), [w] "v"(w));
#endif
}

template <int P, int B, int X>
QB_INLINE void step(__m512i* acc, const std::uint8_t* x, const std::int8_t* weight) {
  __m512i w[B];
  QB_UNROLL for (int b = 0; b < B; b++)
    w[b] = _mm512_loadu_si512(weight + b * 64);
  QB_UNROLL for (int p = 0; p < P; p++) {  // an input of 4 unsigned bytes with B blocks of weights
    const __m512i t = broadcast(x + p * X);
    QB_UNROLL for (int b = 0; b < B; b++)
      add_product(acc[p * B + b], t, w[b]);
  }
}

// acc [pixel][block] += all steps, for P pixels X bytes apart and B blocks.
template <int P, int B, int X>
QB_INLINE void accumulate(__m512i* acc, const std::uint8_t* x, const Steps& steps) {
  const std::int8_t *weight = steps.weight, *ahead = steps.ahead;
  const std::int32_t* offset = steps.offset;
  for (int k = steps.quads; k > 0; k--, weight += 256 * B, ahead += 64 * kAhead) {
    const std::uint8_t* at = x + *offset++;
    QB_UNROLL for (int i = 0; i < kAhead; i++)
      _mm_prefetch(reinterpret_cast<const char*>(ahead + 64 * i), _MM_HINT_T1);
    QB_UNROLL for (int i = 0; i < 4; i++)
      step<P, B, X>(acc, at + i * 4, weight + i * 64 * B);
  }
  for (int k = steps.singles; k > 0; k--, weight += 64 * B)
    step<P, B, X>(acc, x + *offset++, weight);
}

// One step of three quads: an input serves the outputs on its right, below it and on its left.
template <int P>
QB_INLINE void step_columns(__m512i* acc, const std::uint8_t* x, const std::int8_t* weight) {
  __m512i w[3];
  QB_UNROLL for (int c = 0; c < 3; c++)
    w[c] = _mm512_loadu_si512(weight + c * 64);
  QB_UNROLL for (int p = 0; p < P + 2; p++) {
    const __m512i t = broadcast(x + p * kBlock);
    QB_UNROLL for (int c = 0; c < 3; c++)
      if (c <= p && p - c < P) add_product(acc[p - c], t, w[c]);
  }
}

// The same for a strip by columns of one block; pixels are kBlock bytes apart, and there are no
// single steps.
template <int P>
QB_INLINE void accumulate_columns(__m512i* acc, const std::uint8_t* x, const Steps& steps) {
  const std::int8_t *weight = steps.weight, *ahead = steps.ahead;
  const std::int32_t* offset = steps.offset;
  for (int k = steps.quads; k > 0;
       k -= 3, offset += 3, weight += 3 * 256, ahead += 3 * 64 * kAhead) {
    QB_UNROLL for (int i = 0; i < 3 * kAhead; i++)
      _mm_prefetch(reinterpret_cast<const char*>(ahead + 64 * i), _MM_HINT_T1);
    QB_UNROLL for (int i = 0; i < 4; i++)
      step_columns<P>(acc, x + *offset + i * kStep, weight + i * 3 * 64);
  }
}

}  // namespace
}  // namespace qb
QB_TARGET_END
