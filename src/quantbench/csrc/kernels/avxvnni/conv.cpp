// Convolution on AVX-VNNI: the tiles of AVX2 with a dot product of four bytes (vpdpbusd), which
// adds in 32 bits, so that steps need no runs.
#include "kernels/avxvnni/set.h"

#if QB_X86
#include "kernels/avx2/tiles.h"
#include "kernels/avxvnni/gemm.h"

QB_TARGET_BEGIN(QB_AVXVNNI)
namespace qb {
namespace {

template <int P>
void tiles(const ConvLayer& l, int number, Place place, int count) {
  const Strip& strip = l.strips[number];
  const Panel& panel = l.panels[strip.panel];
  const int channel = strip.block * kBlock;
  const Channel c(l.out, channel);
  for (; count > 0; count--) {
    __m256i acc[P][2];
    start_tile<P>(l, channel, acc);
    accumulate<P>(acc, place.x, l.x_step, panel.offset, strip.weight, panel.quads, panel.singles);
    finish_tile<P>(l, channel, c, acc, place);
    place.x += P * l.x_step, place.y += P * place.y_pixel, place.r += P * place.r_pixel;
  }
}

}  // namespace

std::int64_t avxvnni_multiply(std::int64_t rounds) {
  constexpr int kChains = 12;  // more than the latency of a product times those that start at once
  const __m256i x = _mm256_set1_epi8(3), w = _mm256_set1_epi8(-1);
  __m256i acc[kChains];
  QB_UNROLL for (int i = 0; i < kChains; i++)
    acc[i] = _mm256_setzero_si256();
  for (std::int64_t r = 0; r < rounds; r++) QB_UNROLL
    for (int i = 0; i < kChains; i++) add_product(acc[i], x, w);
  return rounds * kChains * 32;
}

void avxvnni_conv(const ConvLayer& l, const ConvCall& call) {
  constexpr Tiles kTiles[] = {tiles<1>, tiles<2>, tiles<3>, tiles<4>, tiles<5>, tiles<6>};
  go_through(l, call, kTiles);
}

}  // namespace qb
QB_TARGET_END
#endif
