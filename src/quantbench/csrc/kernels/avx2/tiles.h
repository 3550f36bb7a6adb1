// What convolutions on 256-bit registers share, whatever multiplies: tiles of up to kPixels pixels
// of one block of 16 output channels, from the layer's cut of its rows to stored codes. Only for
// translation units of such a set: include outside any region.
#pragma once

#include "kernels/avx2/requant.h"
#include "kernels/avx2/vectors.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

struct Place {  // of a tile of one block in its tensors
  const std::uint8_t* x;
  std::uint8_t* y;
  const std::uint8_t* r;
  std::int64_t y_pixel, r_pixel;
};

template <int P, bool Residual>
QB_INLINE void finish(const Channel& c, __m256i (*acc)[2], const Place& at) {
  QB_UNROLL for (int p = 0; p < P; p += 2) {
    __m256i q[2];
    QB_UNROLL for (int i = 0; i < 2; i++) {
      const int pixel = p + i < P ? p + i : p;
      q[i] = Residual ? c.round_sum(acc[pixel][0], acc[pixel][1], at.r + pixel * at.r_pixel)
                      : c.round(acc[pixel][0], acc[pixel][1]);
    }
    store_pixels(at.y + p * kBlock, c.codes(q[0], q[1]), P - p);
  }
}

// acc: [pixel][half of the block].
template <int P>
QB_INLINE void start_tile(const ConvLayer& l, int channel, __m256i (*acc)[2]) {
  QB_UNROLL for (int h = 0; h < 2; h++) {
    const __m256i bias = load(l.bias + channel + 8 * h);
    QB_UNROLL for (int p = 0; p < P; p++)
      acc[p][h] = bias;
  }
}

template <int P>
QB_INLINE void finish_tile(const ConvLayer& l, int channel, const Channel& c, __m256i (*acc)[2],
                           const Place& at) {
  if (l.out.floats) {
    for (int p = 0; p < P; p++) finish_one(l.out, channel, acc[p], at.y + p * at.y_pixel);
  } else if (l.out.residual) {
    finish<P, true>(c, acc, at);
  } else {
    finish<P, false>(c, acc, at);
  }
}

// `count` tiles, side by side, of a strip of one block.
using Tiles = void (*)(const ConvLayer&, int strip, Place, int count);

// The tiles of a call; `tiles`: by pixels, from one on.
QB_INLINE void go_through(const ConvLayer& l, const ConvCall& call, const Tiles* tiles) {
  const int block = l.strips[call.strip].block, in_row = l.tile_count[1];
  for (std::int64_t i = call.first; i < call.last;) {
    const std::int64_t row = i / in_row;
    const Tile* at = l.tiles[1] + i % in_row;
    const std::int64_t end = (row + 1) * in_row < call.last ? (row + 1) * in_row : call.last;
    int count = 1;
    while (i + count < end && at[count].pixels == at->pixels &&
           at[count].x == at[count - 1].x + at->pixels)
      count++;
    Place place{call.x.data + row * l.y_step + at->x * l.x_step,
                call.y.data + block * call.y.plane + row * call.y.row + at->x * call.y.pixel,
                call.y.data, call.y.pixel, 0};
    if (l.out.residual) {
      place.r = call.r.data + block * call.r.plane + row * call.r.row + at->x * call.r.pixel;
      place.r_pixel = call.r.pixel;
    }
    tiles[at->pixels - 1](l, call.strip, place, count);
    i += count;
  }
}

}  // namespace
}  // namespace qb
QB_TARGET_END
