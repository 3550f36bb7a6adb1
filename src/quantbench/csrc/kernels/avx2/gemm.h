// The inner loops of convolutions on AVX2: the steps of a strip of one block (layer.h, Runs), for a
// tile of P pixels. Only for translation units of this set: include outside any region.
//
// A pair of byte products is added in int16 (vpmaddubsw) and two of those in int32 (vpmaddwd with
// ones): two multiplications for 32 products. A run of two steps needs three for 64, a longer one
// little more than one for 32. Flipped inputs (runs.h) cost an exclusive or, no multiplication.
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
QB_INLINE __m256i multiply_bytes(__m256i x, const std::int8_t* w) {
  return _mm256_maddubs_epi16(x, load(w));
}
QB_INLINE __m256i multiply_words(__m256i x, __m256i w) { return _mm256_madd_epi16(x, w); }
QB_INLINE __m256i flip(__m256i x, const std::int8_t* by) { return _mm256_xor_si256(x, load(by)); }
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
QB_INLINE __m256i multiply_bytes(__m256i x, const std::int8_t* w) {
  __m256i t;
  asm volatile("vpmaddubsw %2, %1, %0" : "=x"(t) : "x"(x), "m"(*reinterpret_cast<Bytes<32>*>(w)));
  return t;
}
QB_INLINE __m256i multiply_words(__m256i x, __m256i w) {
  __m256i t;
  asm volatile("vpmaddwd %2, %1, %0" : "=x"(t) : "x"(x), "x"(w));
  return t;
}
QB_INLINE __m256i flip(__m256i x, const std::int8_t* by) {
  __m256i t;
  asm volatile("vpxor %2, %1, %0" : "=x"(t) : "x"(x), "m"(*reinterpret_cast<Bytes<32>*>(by)));
  return t;
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

// Products of four inputs x of each lane, added in pairs; w without signs where x is flipped.
template <bool Flipped>
QB_INLINE __m256i multiply(__m256i x, __m256i w, const std::int8_t* by) {
  return Flipped ? multiply_bytes(w, flip(x, by)) : multiply_bytes(x, w);
}

// acc: [pixel][half of the block].
template <int P, bool Flipped>
QB_INLINE void add_runs_of_one(__m256i (*acc)[2], At& at, int count, __m256i ones) {
  for (; count > 0; count--, at.weight += Flipped ? 128 : 64) {
    const std::uint8_t* x = at.x + *at.offset++;
    const __m256i w0 = fetch(at.weight), w1 = fetch(at.weight + 32);
    QB_UNROLL for (int p = 0; p < P; p++) {
      const __m256i t = broadcast(x + p * at.pixel);
      const __m256i a = multiply<Flipped>(t, w0, at.weight + 64);
      const __m256i b = multiply<Flipped>(t, w1, at.weight + 96);
      add(acc[p][0], multiply_words(a, ones)), add(acc[p][1], multiply_words(b, ones));
    }
  }
}

// Accumulators, ones, three weights and products take all sixteen registers; the fourth weight is
// read from memory.
template <int P, int Flipped>
QB_INLINE void add_runs_of_two(__m256i (*acc)[2], At& at, int count, __m256i ones) {
  // Where each half has what it is flipped by.
  constexpr int kBy[] = {128, 128 + 32 * (Flipped & 1), 192, 224};
  constexpr int kBytes = 128 + 32 * __builtin_popcount(Flipped);
  for (; count > 0; count--, at.weight += kBytes, at.offset += 2) {
    const std::uint8_t *x = at.x + at.offset[0], *y = at.x + at.offset[1];
    const std::int8_t* fourth = at.weight + 96;
    __m256i w[3];
    QB_UNROLL for (int i = 0; i < 3; i++)
      w[i] = fetch(at.weight + 32 * i);
    QB_UNROLL for (int p = 0; p < P; p++) {
      __m256i t = broadcast(x + p * at.pixel);
      __m256i a = multiply<(Flipped & 1) != 0>(t, w[0], at.weight + kBy[0]);
      __m256i b = multiply<(Flipped & 2) != 0>(t, w[1], at.weight + kBy[1]);
      t = broadcast(y + p * at.pixel);
      const __m256i c = multiply<(Flipped & 4) != 0>(t, w[2], at.weight + kBy[2]);
      add_words(a, c);
      const __m256i d = Flipped & 8 ? multiply<true>(t, fetch(fourth), at.weight + kBy[3])
                                    : multiply_bytes(t, fourth);
      add_words(b, d);
      add(acc[p][0], multiply_words(a, ones)), add(acc[p][1], multiply_words(b, ones));
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
