// Linear layers on AVX2: packed weights become bytes in registers, through a table of 16 levels.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/vectors.h"
#include "kernels/finish.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

// Half a block of one step from packed weights; `half` is 0 or 1.
template <int Bits>
QB_INLINE __m256i unpack(const LinearLayer& l, const std::uint8_t* packed, int k, int half) {
  const __m256i v = load(packed + 32 * half);
  if (Bits == 8) return v;
  const __m256i levels =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(l.levels)));
  const __m256i index = _mm256_srl_epi16(v, _mm_cvtsi32_si128(k % (8 / Bits) * Bits));
  return _mm256_shuffle_epi8(levels, _mm256_and_si256(index, _mm256_set1_epi8((1 << Bits) - 1)));
}

template <int Bits>
void linear_group(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images,
                  std::uint8_t* y, std::int64_t y_image, int group) {
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
      if (l.weight_zero) QB_UNROLL
        for (int h = 0; h < 2; h++)
          acc[h] = _mm256_sub_epi32(
              acc[h],
              _mm256_mullo_epi32(load(l.weight_zero + channel + 8 * h), _mm256_set1_epi32(sum)));
      std::int32_t sums[kBlock];
      store(sums, acc[0]), store(sums + 8, acc[1]);
      finish_pixel(l.out, channel, sums, nullptr, y + channel * (l.out.floats ? 4 : 1));
    }
  }
}

}  // namespace

void avx2_linear(const LinearLayer& l, const std::uint8_t* x, std::int64_t x_image, int images,
                 std::uint8_t* y, std::int64_t y_image, int group, std::uint8_t*) {
  auto* run = l.bits == 8 ? linear_group<8> : l.bits == 4 ? linear_group<4> : linear_group<2>;
  run(l, x, x_image, images, y, y_image, group);
}

}  // namespace qb
QB_TARGET_END
#endif
