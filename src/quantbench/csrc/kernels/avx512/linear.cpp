// Linear layers on AVX-512 VNNI. One image streams the weights once, so that their bytes are the
// cost: weights of 4 and 2 bits stay packed in memory and become bytes in registers, through a
// table of 16 levels. Many images unpack a group of outputs once, into scratch.
#include "kernels/avx512/set.h"

#if QB_X86
#include "kernels/avx512/requant.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

// Weights of 8 / Bits steps of one block, from one packed vector.
template <int Bits>
struct Unpacked {
  __m512i w[8 / Bits];

  QB_INLINE Unpacked(const std::uint8_t* packed, __m512i levels, __m512i high) {
    const __m512i v = _mm512_loadu_si512(packed);
    if (Bits == 8) {
      w[0] = v;
      return;
    }
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i even = _mm512_and_si512(v, nibble),
                  odd = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
    if (Bits == 4) {
      w[0] = _mm512_shuffle_epi8(levels, even);
      w[1] = _mm512_shuffle_epi8(levels, odd);
    } else {  // `levels` looks at the low two bits of a nibble, `high` at the others
      w[0] = _mm512_shuffle_epi8(levels, even);
      w[1] = _mm512_shuffle_epi8(high, even);
      w[2 % (8 / Bits)] = _mm512_shuffle_epi8(levels, odd);
      w[3 % (8 / Bits)] = _mm512_shuffle_epi8(high, odd);
    }
  }
};

QB_INLINE void tables(const LinearLayer& l, int bits, __m512i* levels, __m512i* high) {
  alignas(16) std::int8_t low[16], up[16];
  for (int i = 0; i < 16; i++) low[i] = l.levels[bits == 2 ? i & 3 : i], up[i] = l.levels[i >> 2];
  *levels = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(low)));
  *high = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(up)));
}

// Prefetched: what arrives from the third-level cache by the time it is needed.
constexpr int kAheadBytes = 4096;

struct Call {
  const LinearLayer& l;
  const std::uint8_t* weight;  // the group's
  int bits;                    // of `weight`
  int channel, blocks;
  const std::uint8_t* x;
  std::int64_t x_image;
  std::uint8_t* y;
  std::int64_t y_image;
};

// M images x B blocks.
template <int M, int B, int Bits>
void tile(const Call& call) {
  const LinearLayer& l = call.l;
  constexpr int per_byte = 8 / Bits;
  __m512i acc[M][B], levels = _mm512_setzero_si512(), high = levels;
  if (Bits < 8) tables(l, Bits, &levels, &high);
  QB_UNROLL for (int b = 0; b < B; b++) {
    acc[0][b] = _mm512_loadu_si512(l.bias + call.channel + b * kBlock);
    QB_UNROLL for (int m = 1; m < M; m++)
      acc[m][b] = acc[0][b];
  }
  const std::uint8_t* weight = call.weight;
  const std::uint8_t* x[M];
  QB_UNROLL for (int m = 0; m < M; m++)
    x[m] = call.x + m * call.x_image;
  for (std::int64_t at = 0, end = std::int64_t(l.steps) * kStep; at < end;
       at += kStep * per_byte, weight += 64 * B) {
    QB_UNROLL for (int b = 0; b < B; b++) {
      _mm_prefetch(reinterpret_cast<const char*>(weight + b * 64 + kAheadBytes), _MM_HINT_T0);
      const Unpacked<Bits> w(weight + b * 64, levels, high);
      QB_UNROLL for (int s = 0; s < per_byte; s++) QB_UNROLL
        for (int m = 0; m < M; m++) {
          std::int32_t four;
          __builtin_memcpy(&four, x[m] + at + s * kStep, 4);
          acc[m][b] = _mm512_dpbusd_epi32(acc[m][b], _mm512_set1_epi32(four), w.w[s]);
        }
    }
  }
  for (int m = 0; m < M; m++) {
    std::int32_t sum = 0;
    for (int i = 0; l.weight_zero && i < l.inputs; i++) sum += x[m][i];
    for (int b = 0; b < B; b++) {
      const int channel = call.channel + b * kBlock;
      __m512i total = acc[m][b];
      if (l.weight_zero)
        total =
            _mm512_sub_epi32(total, _mm512_mullo_epi32(_mm512_loadu_si512(l.weight_zero + channel),
                                                       _mm512_set1_epi32(sum)));
      finish_one(l.out, channel, total,
                 call.y + m * call.y_image + channel * (l.out.floats ? 4 : 1));
    }
  }
}

template <int M, int Bits>
QB_INLINE void with_blocks(const Call& call) {
  switch (call.blocks) {
    case 1:
      return tile<M, 1, Bits>(call);
    case 2:
      return tile<M, 2, Bits>(call);
    case 3:
      return tile<M, 3, Bits>(call);
    default:
      return tile<M, 4, Bits>(call);
  }
}

template <int M>
QB_INLINE void with_bits(const Call& call) {
  switch (call.bits) {
    case 8:
      return with_blocks<M, 8>(call);
    case 4:
      return with_blocks<M, 4>(call);
    default:
      return with_blocks<M, 2>(call);
  }
}

// A group's weights as bytes, for more images than pay the unpacking.
template <int Bits>
void unpack(const LinearLayer& l, const std::uint8_t* packed, int blocks, std::uint8_t* to) {
  constexpr int per_byte = 8 / Bits;
  __m512i levels, high;
  tables(l, Bits, &levels, &high);
  for (int k = 0; k < l.steps; k += per_byte)
    for (int b = 0; b < blocks; b++, packed += 64) {
      const Unpacked<Bits> w(packed, levels, high);
      for (int s = 0; s < per_byte; s++)
        _mm512_storeu_si512(to + (std::int64_t(k + s) * blocks + b) * 64, w.w[s]);
    }
}

}  // namespace

void avx512_linear(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images,
                   std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t* scratch) {
  const int blocks = l.blocks - 4 * group < 4 ? l.blocks - 4 * group : 4;
  const std::uint8_t* weight = l.weight + std::int64_t(group) * 4 * (l.steps * l.bits / 8) * 64;
  Call call{l, weight, l.bits, 4 * group * kBlock, blocks, x, x_image, y, y_image};
  if (images > 4 && l.bits < 8) {
    l.bits == 4 ? unpack<4>(l, weight, blocks, scratch) : unpack<2>(l, weight, blocks, scratch);
    call.weight = scratch, call.bits = 8;
  }
  while (images > 0) {
    const int m = images >= 6 && call.bits == 8 ? 6 : images >= 4 ? 4 : images >= 2 ? 2 : 1;
    switch (m) {
      case 6:
        with_blocks<6, 8>(call);
        break;
      case 4:
        with_bits<4>(call);
        break;
      case 2:
        with_bits<2>(call);
        break;
      default:
        with_bits<1>(call);
    }
    images -= m, call.x += m * x_image, call.y += m * y_image;
  }
}

}  // namespace qb
QB_TARGET_END
#endif
