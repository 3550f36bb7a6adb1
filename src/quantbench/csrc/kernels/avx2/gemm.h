// The inner loops of convolutions on AVX2: the steps of a strip of one block (layer.h, Runs), for a
// tile of P pixels. Only for translation units of this set: include outside any region.
//
// A pair of byte products is added in int16 (vpmaddubsw) and two of those in int32 (vpmaddwd with
// ones): two multiplications for 32 products, and on the processors at hand two multiplications
// start in a cycle. A run of two steps needs three for 64, a longer one little more than one for
// 32. Steps in words need two as well, but twice the additions and weights.
#pragma once

#include "kernels/avx2/vectors.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

// Assembly, because compilers otherwise reorder products and additions until accumulators no longer
// fit the registers; volatile, because the order below is the fastest of those tried, by a third.
#if QB_CHECKED
QB_INLINE __m256i broadcast(const std::uint8_t* x) { return four_codes(x); }
QB_INLINE __m256i fetch(const std::int8_t* w) { return load(w); }
QB_INLINE __m256i multiply_bytes(__m256i x, __m256i w) { return _mm256_maddubs_epi16(x, w); }
QB_INLINE __m256i multiply_words(__m256i x, __m256i w) { return _mm256_madd_epi16(x, w); }
QB_INLINE void shuffle(__m256i& x, __m256i order) { x = _mm256_shuffle_epi8(x, order); }
QB_INLINE void add_words(__m256i& a, __m256i b) { a = _mm256_add_epi16(a, b); }
QB_INLINE void add(__m256i& a, __m256i b) { a = _mm256_add_epi32(a, b); }
#else
template <int N>
using Bytes = const std::uint8_t[N];

QB_INLINE __m256i broadcast(const std::uint8_t* x) {
  __m256i t;
  asm volatile("vpbroadcastd %1, %0" : "=x"(t) : "m"(*reinterpret_cast<Bytes<4>*>(x)));
  return t;
}
QB_INLINE __m256i fetch(const std::int8_t* w) {
  __m256i t;
  asm volatile("vmovdqu %1, %0" : "=x"(t) : "m"(*reinterpret_cast<Bytes<32>*>(w)));
  return t;
}
QB_INLINE __m256i multiply_bytes(__m256i x, __m256i w) {
  __m256i t;
  asm volatile("vpmaddubsw %2, %1, %0" : "=x"(t) : "x"(x), "x"(w));
  return t;
}
QB_INLINE __m256i multiply_words(__m256i x, __m256i w) {
  __m256i t;
  asm volatile("vpmaddwd %2, %1, %0" : "=x"(t) : "x"(x), "x"(w));
  return t;
}
QB_INLINE void shuffle(__m256i& x, __m256i order) {
  asm volatile("vpshufb %1, %0, %0" : "+x"(x) : "x"(order));
}
QB_INLINE void add_words(__m256i& a, __m256i b) {
  asm volatile("vpaddw %1, %0, %0" : "+x"(a) : "x"(b));
}
QB_INLINE void add(__m256i& a, __m256i b) { asm volatile("vpaddd %1, %0, %0" : "+x"(a) : "x"(b)); }
#endif

// Where a strip's loops are: each goes on where the one before it ended.
struct At {
  const std::uint8_t* x;  // the window of the tile's first pixel, first tap
  std::int64_t pixel;     // bytes from pixel to pixel
  const std::int32_t* offset;
  const std::int8_t* weight;
};

// acc: [pixel][half of the block].
template <int P>
QB_INLINE void add_word_steps(__m256i (*acc)[2], At& at, int count) {
  __m256i low = _mm256_set1_epi16(255);
  for (; count > 0; count--, at.weight += 128) {
    const std::uint8_t* x = at.x + *at.offset++;
    __m256i w[4];
    QB_UNROLL for (int i = 0; i < 4; i++)
      w[i] = fetch(at.weight + 32 * i);
    QB_UNROLL for (int p = 0; p < P; p++) {
      const __m256i t = broadcast(x + p * at.pixel);
      const __m256i even = _mm256_and_si256(t, low), odd = _mm256_srli_epi16(t, 8);
      __m256i a = multiply_words(even, w[0]), b = multiply_words(even, w[1]);
      const __m256i c = multiply_words(odd, w[2]), d = multiply_words(odd, w[3]);
      add(a, c), add(b, d);
      add(acc[p][0], a), add(acc[p][1], b);
    }
  }
}

// `pairing`: which of the ways to pair inputs, or none. Bytes move on another unit than products.
template <int P, int Pairing = -1>
QB_INLINE void add_runs_of_one(__m256i (*acc)[2], At& at, int count, __m256i ones) {
  constexpr const int* kOrder = kPairing[Pairing < 0 ? 0 : Pairing];
  const __m256i order =
      _mm256_set1_epi32(kOrder[0] | kOrder[1] << 8 | kOrder[2] << 16 | kOrder[3] << 24);
  for (; count > 0; count--, at.weight += 64) {
    const std::uint8_t* x = at.x + *at.offset++;
    const __m256i w0 = fetch(at.weight), w1 = fetch(at.weight + 32);
    QB_UNROLL for (int p = 0; p < P; p++) {
      __m256i t = broadcast(x + p * at.pixel);
      if (Pairing >= 0) shuffle(t, order);
      __m256i a = multiply_bytes(t, w0), b = multiply_bytes(t, w1);
      a = multiply_words(a, ones), b = multiply_words(b, ones);
      add(acc[p][0], a), add(acc[p][1], b);
    }
  }
}

template <int P>
QB_INLINE void add_runs_of_two(__m256i (*acc)[2], At& at, int count, __m256i ones) {
  for (; count > 0; count--, at.weight += 128, at.offset += 2) {
    const std::uint8_t *x = at.x + at.offset[0], *y = at.x + at.offset[1];
    __m256i w[4];
    QB_UNROLL for (int i = 0; i < 4; i++)
      w[i] = fetch(at.weight + 32 * i);
    QB_UNROLL for (int p = 0; p < P; p++) {
      __m256i t = broadcast(x + p * at.pixel);
      __m256i a = multiply_bytes(t, w[0]), b = multiply_bytes(t, w[1]);
      t = broadcast(y + p * at.pixel);
      const __m256i c = multiply_bytes(t, w[2]), d = multiply_bytes(t, w[3]);
      add_words(a, c), add_words(b, d);
      a = multiply_words(a, ones), b = multiply_words(b, ones);
      add(acc[p][0], a), add(acc[p][1], b);
    }
  }
}

// One step of a long run: its first sets the words that the others add to.
template <int P, bool First>
QB_INLINE void add_long_step(__m256i (*run)[2], At& at) {
  const std::uint8_t* x = at.x + *at.offset++;
  const __m256i w0 = fetch(at.weight), w1 = fetch(at.weight + 32);
  at.weight += 64;
  QB_UNROLL for (int p = 0; p < P; p++) {
    const __m256i t = broadcast(x + p * at.pixel);
    const __m256i a = multiply_bytes(t, w0), b = multiply_bytes(t, w1);
    if (First)
      run[p][0] = a, run[p][1] = b;
    else
      add_words(run[p][0], a), add_words(run[p][1], b);
  }
}

// The words of a run take the registers; `sums` stay in memory.
template <int P>
QB_INLINE void add_long_runs(std::int32_t* sums, At& at, const std::int32_t* length, int count) {
  for (; count > 0; count--) {
    __m256i run[P][2];
    add_long_step<P, true>(run, at);
    for (int k = *length++; k > 1; k--) add_long_step<P, false>(run, at);
    const __m256i ones = _mm256_set1_epi16(1);
    QB_UNROLL for (int i = 0; i < 2 * P; i++) {
      const __m256i sum = _mm256_madd_epi16(run[i / 2][i % 2], ones);
      store(sums + 8 * i, _mm256_add_epi32(load(sums + 8 * i), sum));
    }
  }
}

}  // namespace
}  // namespace qb
QB_TARGET_END
