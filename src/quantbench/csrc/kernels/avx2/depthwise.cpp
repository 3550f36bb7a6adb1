// Depthwise convolution on AVX2.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/vectors.h"
#include "kernels/finish.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {

// Rows of taps in pairs: bytes of two rows interleaved and widened make one vpmaddwd for eight
// channels.
void avx2_depthwise(const DepthwiseLayer& l, const View& x, const View& y, int block, int first,
                    int last, std::uint8_t*) {
  const __m128i zero = _mm_setzero_si128();
  for (int oy = first; oy < last; oy++)
    for (int ox = 0; ox < l.ow; ox++) {
      const std::uint8_t* from =
          x.data + block * x.plane + oy * l.sy + std::int64_t(ox) * l.sx * kBlock;
      const std::int8_t* weight = l.weight + std::int64_t(block) * l.groups * l.kw * 64;
      __m256i acc[2] = {load(l.bias + block * kBlock), load(l.bias + block * kBlock + 8)};
      for (int ky = 0; ky < l.kh; ky += 2)
        for (int kx = 0; kx < l.kw; kx++) {
          const std::uint8_t* taps = from + ky * l.dy + std::int64_t(kx) * l.dx * kBlock;
          const std::int8_t* w = weight + (std::int64_t(ky / 4) * l.kw + kx) * 64;
          const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(taps));
          const __m128i b =
              ky + 1 < l.kh ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(taps + l.dy)) : zero;
          const __m256i in[2] = {_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)),
                                 _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b))};
          QB_UNROLL for (int h = 0; h < 2; h++) {
            const __m256i four =
                load(w + 32 * h);  // of each channel: rows 0 and 1, or 2 and 3, as words
            const __m256i pair = ky % 4 ? _mm256_srai_epi32(four, 16)
                                        : _mm256_srai_epi32(_mm256_slli_epi32(four, 16), 16);
            const __m256i low = _mm256_srai_epi16(_mm256_slli_epi16(pair, 8), 8);
            const __m256i high =
                _mm256_slli_epi32(_mm256_srai_epi32(_mm256_slli_epi32(pair, 16), 24), 16);
            acc[h] = _mm256_add_epi32(
                acc[h], _mm256_madd_epi16(in[h], _mm256_blend_epi16(low, high, 0xAA)));
          }
        }
      std::int32_t sums[kBlock];
      store(sums, acc[0]), store(sums + 8, acc[1]);
      finish_pixel(l.out, block * kBlock, sums, nullptr,
                   y.data + block * y.plane + oy * y.row + std::int64_t(ox) * kBlock);
    }
}

}  // namespace qb
QB_TARGET_END
#endif
