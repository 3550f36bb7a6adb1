// Kernels for AVX2, which has no exact byte dot product: vpmaddubsw saturates to int16. Where no pair of products can
// leave int16 (`narrow`: 7-bit activations or 4-bit weights, say) it is used all the same; elsewhere even and odd
// bytes are widened and multiplied as words, which is exact.
#include <cstddef>

#include "finish.h"
#include "kernels.h"
#include "target.h"

#if QB_X86
#include <immintrin.h>

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

#include "rows.h"

struct Input {  // four input channels of a pixel in every 32-bit lane
  __m256i bytes, even, odd;

  QB_INLINE explicit Input(const std::uint8_t* x, bool narrow) {
    std::int32_t four;
    __builtin_memcpy(&four, x, 4);
    bytes = _mm256_set1_epi32(four);
    if (!narrow) even = _mm256_and_si256(bytes, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(bytes, 8);
  }
};

struct Weight {  // 8 outputs x 4 inputs
  __m256i bytes, even, odd;

  QB_INLINE Weight(__m256i w, bool narrow) : bytes(w) {
    if (!narrow) even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), odd = _mm256_srai_epi16(w, 8);
  }
};

QB_INLINE __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
QB_INLINE void store(void* to, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }

template <bool Narrow>
QB_INLINE __m256i multiply(__m256i acc, const Input& x, const Weight& w) {
  if (Narrow)
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x.bytes, w.bytes), _mm256_set1_epi16(1)));
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
}

// P pixels of one block.
template <int P, bool Narrow>
void tile(const ConvLayer& l, const Panel& panel, const Strip& strip, int b, const std::uint8_t* x, const std::uint8_t* r,
          std::int64_t r_pixel, std::uint8_t* y, std::int64_t y_pixel) {
  const int channel = (strip.block + b) * kBlock;
  __m256i acc[P][2];
  QB_UNROLL for (int p = 0; p < P; p++)
    QB_UNROLL for (int h = 0; h < 2; h++) acc[p][h] = load(l.bias + channel + 8 * h);
  const std::int8_t* weight = strip.weight + b * 64;
  for (int k = 0; k < panel.steps(); k++, weight += strip.blocks * 64) {
    const std::uint8_t* from = x + strip.step_offset(panel, k);
    const Weight w[2] = {Weight(load(weight), Narrow), Weight(load(weight + 32), Narrow)};
    QB_UNROLL for (int p = 0; p < P; p++) {
      const Input in(from + p * l.x_step, Narrow);
      QB_UNROLL for (int h = 0; h < 2; h++) acc[p][h] = multiply<Narrow>(acc[p][h], in, w[h]);
    }
  }
  for (int p = 0; p < P; p++) {
    std::int32_t sums[kBlock];
    store(sums, acc[p][0]), store(sums + 8, acc[p][1]);
    finish_pixel(l.out, channel, sums, r + p * r_pixel, y + p * y_pixel);
  }
}

bool conv_fits(const ConvLayer&) { return true; }

void conv(const ConvLayer& l, const ConvCall& call) {
  const Strip& strip = l.strips[call.strip];
  const Panel& panel = l.panels[strip.panel];
  const int count = l.tile_count[strip.cut()];
  for (std::int64_t i = call.first; i < call.last; i++) {
    const Tile& at = l.tiles[strip.cut()][i % count];
    const std::int64_t row = i / count;
    for (int b = 0; b < strip.blocks; b++)
      for (int p = 0; p < at.pixels;) {
        const int block = strip.block + b, column = at.x + p;
        const std::uint8_t* x = call.x.data + row * l.y_step + column * l.x_step;
        std::uint8_t* y = call.y.data + block * call.y.plane + row * call.y.row + column * call.y.pixel;
        const std::int64_t r_pixel = l.out.residual ? call.r.pixel : 0;
        const std::uint8_t* r =
            l.out.residual ? call.r.data + block * call.r.plane + row * call.r.row + column * r_pixel : x;
        const bool four = at.pixels - p >= 4;
        auto* run = l.narrow ? (four ? tile<4, true> : tile<1, true>) : (four ? tile<4, false> : tile<1, false>);
        run(l, panel, strip, b, x, r, r_pixel, y, call.y.pixel);
        p += four ? 4 : 1;
      }
  }
}

// Rows of taps in pairs: bytes of two rows interleaved and widened make one vpmaddwd for eight channels.
void depthwise(const DepthwiseLayer& l, const View& x, const View& y, int block, int first, int last, std::uint8_t*) {
  const __m128i zero = _mm_setzero_si128();
  for (int oy = first; oy < last; oy++)
    for (int ox = 0; ox < l.ow; ox++) {
      const std::uint8_t* from = x.data + block * x.plane + oy * l.sy + std::int64_t(ox) * l.sx * kBlock;
      const std::int8_t* weight = l.weight + std::int64_t(block) * l.groups * l.kw * 64;
      __m256i acc[2] = {load(l.bias + block * kBlock), load(l.bias + block * kBlock + 8)};
      for (int ky = 0; ky < l.kh; ky += 2)
        for (int kx = 0; kx < l.kw; kx++) {
          const std::uint8_t* taps = from + ky * l.dy + std::int64_t(kx) * l.dx * kBlock;
          const std::int8_t* w = weight + (std::int64_t(ky / 4) * l.kw + kx) * 64;
          const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(taps));
          const __m128i b = ky + 1 < l.kh ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(taps + l.dy)) : zero;
          const __m256i in[2] = {_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)),
                                 _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b))};
          QB_UNROLL for (int h = 0; h < 2; h++) {
            const __m256i four = load(w + 32 * h);  // of each channel: rows 0 and 1, or 2 and 3, as words
            const __m256i pair = ky % 4 ? _mm256_srai_epi32(four, 16) : _mm256_srai_epi32(_mm256_slli_epi32(four, 16), 16);
            const __m256i low = _mm256_srai_epi16(_mm256_slli_epi16(pair, 8), 8);
            const __m256i high = _mm256_slli_epi32(_mm256_srai_epi32(_mm256_slli_epi32(pair, 16), 24), 16);
            acc[h] = _mm256_add_epi32(acc[h], _mm256_madd_epi16(in[h], _mm256_blend_epi16(low, high, 0xAA)));
          }
        }
      std::int32_t sums[kBlock];
      store(sums, acc[0]), store(sums + 8, acc[1]);
      finish_pixel(l.out, block * kBlock, sums, nullptr, y.data + block * y.plane + oy * y.row + std::int64_t(ox) * kBlock);
    }
}

// Half a block of one step from packed weights; `half` is 0 or 1.
template <int Bits>
QB_INLINE __m256i unpack(const LinearLayer& l, const std::uint8_t* packed, int k, int half) {
  const __m256i v = load(packed + 32 * half);
  if (Bits == 8) return v;
  const __m256i levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(l.levels)));
  const __m256i index = _mm256_srl_epi16(v, _mm_cvtsi32_si128(k % (8 / Bits) * Bits));
  return _mm256_shuffle_epi8(levels, _mm256_and_si256(index, _mm256_set1_epi8((1 << Bits) - 1)));
}

template <int Bits>
void linear_group(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images, std::uint8_t* y,
                  std::int64_t y_image, int group) {
  const int blocks = l.blocks - 4 * group < 4 ? l.blocks - 4 * group : 4, per_byte = 8 / Bits;
  const std::uint8_t* weight = l.weight + std::int64_t(group) * 4 * (l.steps / per_byte) * 64;
  for (int n = 0; n < images; n++, x += x_image, y += y_image) {
    std::int32_t sum = 0;
    for (int i = 0; l.weight_zero && i < l.inputs; i++) sum += x[i];
    for (int b = 0; b < blocks; b++) {
      const int channel = (4 * group + b) * kBlock;
      __m256i acc[2] = {load(l.bias + channel), load(l.bias + channel + 8)};
      for (int k = 0; k < l.steps; k++) {
        const std::uint8_t* packed = weight + (std::int64_t(k / per_byte) * blocks + b) * 64;
        const Input in(x + k * kStep, false);
        QB_UNROLL for (int h = 0; h < 2; h++)
          acc[h] = multiply<false>(acc[h], in, Weight(unpack<Bits>(l, packed, k, h), false));
      }
      if (l.weight_zero)
        QB_UNROLL for (int h = 0; h < 2; h++)
          acc[h] = _mm256_sub_epi32(
              acc[h], _mm256_mullo_epi32(load(l.weight_zero + channel + 8 * h), _mm256_set1_epi32(sum)));
      std::int32_t sums[kBlock];
      store(sums, acc[0]), store(sums + 8, acc[1]);
      finish_pixel(l.out, channel, sums, nullptr, y + channel * (l.out.floats ? 4 : 1));
    }
  }
}

void linear(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images, std::uint8_t* y,
            std::int64_t y_image, int group, std::uint8_t*) {
  auto* run = l.bits == 8 ? linear_group<8> : l.bits == 4 ? linear_group<4> : linear_group<2>;
  run(l, x, x_image, images, y, y_image, group);
}

std::int64_t multiply(std::int64_t rounds) {
  constexpr int kChains = 8;
  const __m256i x = _mm256_set1_epi8(3), w = _mm256_set1_epi8(-1), one = _mm256_set1_epi16(1);
  __m256i acc[kChains];
  QB_UNROLL for (int i = 0; i < kChains; i++) acc[i] = _mm256_setzero_si256();
  for (std::int64_t r = 0; r < rounds; r++)
    QB_UNROLL for (int i = 0; i < kChains; i++) {
      __m256i input = x;
      asm volatile("" : "+x"(input));  // otherwise the product leaves the loop
      acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(input, w), one));
    }
  QB_UNROLL for (int i = 0; i < kChains; i++) asm volatile("" : : "x"(acc[i]));
  return rounds * kChains * 32;
}

}  // namespace

extern const Kernels kAvx2;
const Kernels kAvx2 = {"avx2",      conv_fits,     conv, nullptr, depthwise, linear,   rows_quantize,
                       rows_interleave, rows_lut, rows_add, rows_max_pool, rows_avg_pool, rows_lrn, multiply};

}  // namespace qb
QB_TARGET_END
#endif
