// Convolution on AVX-VNNI: the tiles of AVX2 with a dot product of four bytes (vpdpbusd), which
// adds in 32 bits, so that steps need no runs.
#include "kernels/avxvnni/set.h"

#if QB_X86
#include "kernels/avx2/tiles.h"
#include "kernels/avx2/vectors.h"

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

template <int P>
void tiles(const ConvLayer& l, int number, Place place, int count) {
  const Strip& strip = l.strips[number];
  const Panel& panel = l.panels[strip.panel];
  const int channel = strip.block * kBlock;
  const Channel c(l.out, channel);
  for (; count > 0; count--) {
    __m256i acc[P][2];
    start_tile<P>(l, channel, acc);
    const std::int8_t* weight = strip.weight;
    const std::int32_t* offset = panel.offset;
    for (int k = panel.quads; k > 0; k--, offset++)
      for (int i = 0; i < 4; i++, weight += 64)
        step<P>(acc, place.x + *offset + i * kStep, l.x_step, weight);
    for (int k = panel.singles; k > 0; k--, offset++, weight += 64)
      step<P>(acc, place.x + *offset, l.x_step, weight);
    finish_tile<P>(l, channel, c, acc, place);
    place.x += P * l.x_step, place.y += P * place.y_pixel, place.r += P * place.r_pixel;
  }
}

}  // namespace

void avxvnni_conv(const ConvLayer& l, const ConvCall& call) {
  constexpr Tiles kTiles[] = {tiles<1>, tiles<2>, tiles<3>, tiles<4>, tiles<5>, tiles<6>};
  go_through(l, call, kTiles);
}

}  // namespace qb
QB_TARGET_END
#endif
