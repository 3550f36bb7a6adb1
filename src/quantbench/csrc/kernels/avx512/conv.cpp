// Convolution on AVX-512 VNNI: implicit GEMM. A tile of P pixels x B blocks of 16 output channels
// lives in registers; each step broadcasts four input channels of a pixel and multiplies them with
// B vectors of weights. Where a strip's weights exceed the first-level cache, several tiles go
// through a chunk of the steps before the next chunk, and their sums wait in scratch.
#include "kernels/avx512/set.h"

#if QB_X86
#include "kernels/avx512/gemm.h"
#include "kernels/avx512/requant.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

struct Place {  // of one tile in its tensors
  const std::uint8_t* x;
  std::uint8_t* y;
  const std::uint8_t* r;
  std::int64_t y_plane, r_plane;
};

template <int P, int B, bool Residual>
QB_INLINE void finish(const Requant& out, int channel, const __m512i* acc, const Place& at) {
  QB_UNROLL for (int b = 0; b < B; b++) {
    const Channel c(out, channel + b * kBlock);
    QB_UNROLL for (int p = 0; p < P; p += 4) {
      __m512i q[4];
      QB_UNROLL for (int i = 0; i < 4; i++) {
        const int pixel = p + i < P ? p + i : p;
        q[i] = Residual ? c.round_sum(acc[pixel * B + b], at.r + b * at.r_plane + pixel * kBlock)
                        : c.round(acc[pixel * B + b]);
      }
      store_pixels(at.y + b * at.y_plane + p * kBlock, c.codes(q), P - p);
    }
  }
}

// One tile of P pixels, X bytes apart, and B blocks, over one chunk of the steps.
template <int P, int B, int X, bool Columns>
void tile(const ConvLayer& l, const Steps& steps, int channel, std::int32_t* sums, bool first,
          bool last, const Place& at) {
  __m512i acc[P * B];
  if (first) QB_UNROLL
    for (int b = 0; b < B; b++) {
      const __m512i bias = _mm512_loadu_si512(l.bias + channel + b * kBlock);
      QB_UNROLL for (int p = 0; p < P; p++)
        acc[p * B + b] = bias;
    }
  else QB_UNROLL
    for (int i = 0; i < P * B; i++) acc[i] = _mm512_loadu_si512(sums + i * kBlock);
  if constexpr (Columns)
    accumulate_columns<P>(acc, at.x, steps);
  else
    accumulate<P, B, X>(acc, at.x, steps);
  if (!last || l.out.floats) {
    QB_UNROLL for (int i = 0; i < P * B; i++)
      _mm512_storeu_si512(sums + i * kBlock, acc[i]);
    if (last)
      for (int i = 0; i < P * B; i++) {
        float* y = reinterpret_cast<float*>(at.y + i % B * at.y_plane) + i / B * kBlock;
        finish_pixel(l.out, channel + i % B * kBlock, sums + i * kBlock, nullptr,
                     reinterpret_cast<std::uint8_t*>(y));
      }
    return;
  }
  if (X >= kBlock && l.out.residual)
    finish<P, B, (X >= kBlock)>(l.out, channel, acc, at);
  else
    finish<P, B, false>(l.out, channel, acc, at);
}

using TileFunction = void (*)(const ConvLayer&, const Steps&, int, std::int32_t*, bool, bool,
                              const Place&);

template <int P, int B>
QB_INLINE TileFunction for_step(std::int64_t x_step, bool columns) {
  if (columns) return tile<P, B, 16, B == 1>;
  return x_step == 16   ? tile<P, B, 16, false>
         : x_step == 32 ? tile<P, B, 32, false>
         : x_step == 3  ? tile<P, B, 3, false>
                        : tile<P, B, 6, false>;
}

TileFunction find_tile(int pixels, const Strip& strip, std::int64_t x_step) {
  switch (pixels * 8 + strip.blocks) {
#define QB_TILE(P, B) \
  case P * 8 + B:     \
    return for_step<P, B>(x_step, strip.columns);
#include "kernels/avx512/tiles.h"
#undef QB_TILE
  }
  return nullptr;
}

}  // namespace

bool avx512_conv_fits(const ConvLayer& l) {
  return l.x_step == 16 || l.x_step == 32 || l.x_step == 3 || l.x_step == 6;
}

void avx512_conv(const ConvLayer& l, const ConvCall& call) {
  const Strip& strip = l.strips[call.strip];
  const Panel& panel = l.panels[strip.panel];
  const Tile* tiles = l.tiles[strip.cut()];
  const int count = l.tile_count[strip.cut()], block = strip.block, quad_bytes = 256 * strip.blocks;
  for (std::int64_t start = call.first; start < call.last; start += l.group) {
    const std::int64_t end = start + l.group < call.last ? start + l.group : call.last;
    for (int quad = 0; quad == 0 || quad < panel.quads; quad += l.chunk) {
      const bool final = quad + l.chunk >= panel.quads;
      const std::int8_t* weight = strip.weight + std::int64_t(quad) * quad_bytes;
      Steps steps{panel.offset + quad, weight, weight + std::int64_t(l.chunk) * quad_bytes,
                  final ? panel.quads - quad : l.chunk, final ? panel.singles : 0};
      int t = int(start % count);
      std::int64_t row = start / count;
      std::int32_t* sums = reinterpret_cast<std::int32_t*>(call.scratch);
      for (std::int64_t i = start; i < end; i++, sums += kAccumulators * kBlock) {
        const Tile& at = tiles[t];
        Place place{call.x.data + row * l.y_step + at.x * l.x_step,
                    call.y.data + block * call.y.plane + row * call.y.row + at.x * call.y.pixel,
                    nullptr, call.y.plane, call.r.plane};
        if (l.out.residual)
          place.r = call.r.data + block * call.r.plane + row * call.r.row + at.x * call.r.pixel;
        find_tile(at.pixels, strip, l.x_step)(l, steps, block * kBlock, sums, quad == 0, final,
                                              place);
        steps.ahead += steps.quads * 64 * kAhead;
        if (++t == count) t = 0, row++;
      }
    }
  }
}

}  // namespace qb
QB_TARGET_END
#endif
