// Convolution on AVX-512 VNNI: implicit GEMM. A tile of P pixels x B blocks of 16 output channels lives in registers;
// each step broadcasts four input channels of a pixel and multiplies them with B vectors of weights.
#include "kernels.h"
#include "target.h"

#if QB_X86
#include "avx512.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

// acc[.] += x (4 unsigned bytes, broadcast) . w[.]; assembly, because compilers otherwise hoist the broadcasts of a
// step above its products and spill accumulators.
template <int B>
QB_INLINE void multiply(__m512i* acc, const std::uint8_t* x, const __m512i* w) {
  __m512i t;
#if QB_CHECKED
  std::int32_t four;
  __builtin_memcpy(&four, x, 4);
  t = _mm512_set1_epi32(four);
  for (int b = 0; b < B; b++) acc[b] = _mm512_dpbusd_epi32(acc[b], t, w[b]);
#else
  asm("vpbroadcastd %[x], %[t]\n\tvpdpbusd %[w], %[t], %[a]"
      : [t] "=&v"(t), [a] "+v"(acc[0])
      : [x] "m"(*reinterpret_cast<const std::uint8_t(*)[4]>(x)), [w] "v"(w[0]));
  QB_UNROLL for (int b = 1; b < B; b++)
    asm("vpdpbusd %[w], %[t], %[a]" : [a] "+v"(acc[b]) : [t] "v"(t), [w] "v"(w[b]));
#endif
}

template <int P, int B, int X>
QB_INLINE void step(__m512i* acc, const std::uint8_t* x, const std::int8_t* weight, std::int64_t block) {
  __m512i w[B];
  QB_UNROLL for (int b = 0; b < B; b++) w[b] = _mm512_loadu_si512(weight + b * block);
  QB_UNROLL for (int p = 0; p < P; p++) multiply<B>(acc + p * B, x + p * X, w);
}

// One tile of P pixels, X bytes apart, and B blocks.
template <int P, int B, int X>
void tile(const ConvLayer& l, const Panel& panel, int block, const std::uint8_t* x, std::uint8_t* y,
          std::int64_t y_plane, const std::uint8_t* r, std::int64_t r_plane) {
  __m512i acc[P * B];
  const int channel = (panel.block + block) * kBlock;
  QB_UNROLL for (int b = 0; b < B; b++) {
    const __m512i bias = _mm512_loadu_si512(l.bias + channel + b * kBlock);
    QB_UNROLL for (int p = 0; p < P; p++) acc[p * B + b] = bias;
  }
  const std::int64_t stride = std::int64_t(panel.steps) * 64;
  const std::int8_t* weight = panel.weight + block * stride;
  const std::int32_t* offset = panel.offset;
  int k = panel.steps;
  for (; k >= 2; k -= 2, offset += 2, weight += 128) {
    step<P, B, X>(acc, x + offset[0], weight, stride);
    step<P, B, X>(acc, x + offset[1], weight + 64, stride);
  }
  if (k) step<P, B, X>(acc, x + offset[0], weight, stride);

  if (l.out.residual || l.out.floats) {  // shared code: these run through memory
    alignas(64) std::int32_t sums[P * B * kBlock];
    QB_UNROLL for (int b = 0; b < B; b++)
      QB_UNROLL for (int p = 0; p < P; p++) _mm512_store_si512(sums + (b * P + p) * kBlock, acc[p * B + b]);
    for (int b = 0; b < B; b++)
      finish_from_memory(l.out, channel + b * kBlock, sums + b * P * kBlock, P, r + b * r_plane, y + b * y_plane);
    return;
  }
  QB_UNROLL for (int b = 0; b < B; b++) {
    const Channel c(l.out, channel + b * kBlock);
    QB_UNROLL for (int p = 0; p < P; p += 4) {
      __m512i q[4];
      QB_UNROLL for (int i = 0; i < 4; i++) q[i] = p + i < P ? c.round(acc[(p + i < P ? p + i : p) * B + b]) : q[0];
      store_pixels(y + b * y_plane + p * kBlock, c.codes(q), P - p);
    }
  }
}

template <int P, int B>
QB_INLINE bool with_step(int x_step, const ConvLayer& l, const Panel& panel, int block, const std::uint8_t* x,
                         std::uint8_t* y, std::int64_t y_plane, const std::uint8_t* r, std::int64_t r_plane) {
  switch (x_step) {
    case 16: tile<P, B, 16>(l, panel, block, x, y, y_plane, r, r_plane); return true;
    case 32: tile<P, B, 32>(l, panel, block, x, y, y_plane, r, r_plane); return true;
    case 3: tile<P, B, 3>(l, panel, block, x, y, y_plane, r, r_plane); return true;
    case 6: tile<P, B, 6>(l, panel, block, x, y, y_plane, r, r_plane); return true;
  }
  return false;
}

}  // namespace

bool avx512_conv_fits(const ConvLayer& l) {
  return l.x_step == 16 || l.x_step == 32 || l.x_step == 3 || l.x_step == 6;
}

void avx512_conv(const ConvLayer& l, const ConvCall& call) {
  const Strip& strip = l.strips[call.strip];
  const Panel& panel = l.panels[strip.panel];
  const Tile* tiles = l.tiles[strip.blocks];
  const int count = l.tile_count[strip.blocks], x_step = int(l.x_step);
  const std::int64_t first_block = panel.block + strip.block;
  int t = int(call.first % count);
  std::int64_t row = call.first / count;
  for (std::int64_t i = call.first; i < call.last; i++) {
    const Tile& at = tiles[t];
    const std::uint8_t* x = call.x.data + row * l.y_step + at.x * l.x_step;
    std::uint8_t* y = call.y.data + first_block * call.y.plane + row * call.y.row + at.x * call.y.pixel;
    const std::uint8_t* r =
        l.out.residual ? call.r.data + first_block * call.r.plane + row * call.r.row + at.x * call.r.pixel : nullptr;
    switch (at.pixels * 8 + strip.blocks) {
#define QB_TILE(P, B)                                                                                     \
  case P * 8 + B:                                                                                         \
    with_step<P, B>(x_step, l, panel, strip.block, x, y, call.y.plane, r, l.out.residual ? call.r.plane : 0); \
    break;
#include "avx512_tiles.h"
#undef QB_TILE
    }
    if (++t == count) t = 0, row++;
  }
}

}  // namespace qb
QB_TARGET_END
#endif
