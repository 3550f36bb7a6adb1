// Convolution on AVX2: a tile is gone through four pixels of one block at a time, whatever its
// shape.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/vectors.h"
#include "kernels/finish.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

// P pixels of one block.
template <int P, bool Narrow>
void tile(const ConvLayer& l, const Panel& panel, const Strip& strip, int b, const std::uint8_t* x,
          const std::uint8_t* r, std::int64_t r_pixel, std::uint8_t* y, std::int64_t y_pixel) {
  const int channel = (strip.block + b) * kBlock;
  __m256i acc[P][2];
  QB_UNROLL for (int p = 0; p < P; p++) QB_UNROLL
    for (int h = 0; h < 2; h++) acc[p][h] = load(l.bias + channel + 8 * h);
  const std::int8_t* weight = strip.weight + b * 64;
  for (int k = 0; k < panel.steps(); k++, weight += strip.blocks * 64) {
    const std::uint8_t* from = x + strip.step_offset(panel, k);
    const Weight w[2] = {Weight(load(weight), Narrow), Weight(load(weight + 32), Narrow)};
    QB_UNROLL for (int p = 0; p < P; p++) {
      const Input in(from + p * l.x_step, Narrow);
      QB_UNROLL for (int h = 0; h < 2; h++)
        acc[p][h] = multiply<Narrow>(acc[p][h], in, w[h]);
    }
  }
  for (int p = 0; p < P; p++) {
    std::int32_t sums[kBlock];
    store(sums, acc[p][0]), store(sums + 8, acc[p][1]);
    finish_pixel(l.out, channel, sums, r + p * r_pixel, y + p * y_pixel);
  }
}

}  // namespace

void avx2_conv(const ConvLayer& l, const ConvCall& call) {
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
        std::uint8_t* y =
            call.y.data + block * call.y.plane + row * call.y.row + column * call.y.pixel;
        const std::int64_t r_pixel = l.out.residual ? call.r.pixel : 0;
        const std::uint8_t* r = l.out.residual ? call.r.data + block * call.r.plane +
                                                     row * call.r.row + column * r_pixel
                                               : x;
        const bool four = at.pixels - p >= 4;
        auto* run = l.narrow ? (four ? tile<4, true> : tile<1, true>)
                             : (four ? tile<4, false> : tile<1, false>);
        run(l, panel, strip, b, x, r, r_pixel, y, call.y.pixel);
        p += four ? 4 : 1;
      }
  }
}

}  // namespace qb
QB_TARGET_END
#endif
