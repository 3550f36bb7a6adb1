// Winograd F(2x2, 3x3) on AVX-512 VNNI, exact (see WinogradLayer): transform a chunk of tiles into
// 16 matrices of bytes, multiply each with its matrix of weights, transform the sums back and
// requantize.
#include "kernels/avx512/set.h"

#if QB_X86
#include "kernels/avx512/gemm.h"
#include "kernels/avx512/requant.h"
#include "kernels/winograd_tiles.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

// B^T d B of four neighbouring tiles, `pixels` columns of which exist, modulo 256: [position] at
// `step` bytes.
QB_INLINE void transform_inputs(const std::uint8_t* x, std::int64_t row, int pixels, __m512i shift,
                                std::uint8_t* to, std::int64_t step) {
  __m512i d[4][4], t[4][4];  // [row][column], a tile in each 128-bit lane
  QB_UNROLL for (int i = 0; i < 4; i++) {
    const std::uint8_t* from = x + i * row;
    const __m512i a = load_pixels(from, pixels), b = load_pixels(from + 64, pixels - 4);
    const __m512i c = load_pixels(from + 32, pixels - 2), e = load_pixels(from + 96, pixels - 6);
    d[i][0] = _mm512_shuffle_i32x4(a, b, 0x88), d[i][1] = _mm512_shuffle_i32x4(a, b, 0xDD);
    d[i][2] = _mm512_shuffle_i32x4(c, e, 0x88), d[i][3] = _mm512_shuffle_i32x4(c, e, 0xDD);
  }
  QB_UNROLL for (int j = 0; j < 4; j++) {
    t[0][j] = _mm512_sub_epi8(d[0][j], d[2][j]);
    t[1][j] = _mm512_add_epi8(d[1][j], d[2][j]);
    t[2][j] = _mm512_sub_epi8(d[2][j], d[1][j]);
    t[3][j] = _mm512_sub_epi8(d[1][j], d[3][j]);
  }
  QB_UNROLL for (int i = 0; i < 4; i++) {
    std::uint8_t* out = to + 4 * i * step;
    const __m512i sum = _mm512_add_epi8(t[i][1], t[i][2]);
    _mm512_storeu_si512(out, _mm512_add_epi8(_mm512_sub_epi8(t[i][0], t[i][2]), shift));
    _mm512_storeu_si512(out + step, i == 1 ? sum : _mm512_add_epi8(sum, shift));
    _mm512_storeu_si512(out + 2 * step, _mm512_add_epi8(_mm512_sub_epi8(t[i][2], t[i][1]), shift));
    _mm512_storeu_si512(out + 3 * step, _mm512_add_epi8(_mm512_sub_epi8(t[i][1], t[i][3]), shift));
  }
}

void load_chunk(const WinogradLayer& l, const WinogradCall& call, std::int64_t first,
                std::int64_t last) {
  const __m512i shift = _mm512_set1_epi8(char(l.shift));
  for (std::int64_t t = first; t < last;) {
    const TileAt at = tile_at(l, t);
    int n = l.tile_columns - at.column;
    n = n > 4 ? 4 : n;
    n = n > last - t ? int(last - t) : n;
    const std::uint8_t* x =
        call.x.data + at.image * call.x_image + 2 * at.row * call.x.row + 2 * at.column * kBlock;
    std::uint8_t* to = call.scratch + (t - first) * kBlock;
    for (int b = 0; b < l.in_blocks; b++, x += call.x.plane, to += l.slots() * kBlock)
      transform_inputs(x, call.x.row, 2 * n + 2, shift, to, l.inputs());
    t += n;
  }
}

// Sums [block][tile] of P tiles, B blocks and one position.
template <int P, int B>
void multiply_tiles(const WinogradLayer& l, const std::int32_t* start, const std::uint8_t* x,
                    const Steps& steps, std::int32_t* sums) {
  __m512i acc[P * B];
  QB_UNROLL for (int b = 0; b < B; b++) {
    const __m512i first = _mm512_loadu_si512(start + b * kBlock);
    QB_UNROLL for (int p = 0; p < P; p++)
      acc[p * B + b] = first;
  }
  accumulate<P, B, kBlock>(acc, x, steps);
  QB_UNROLL for (int p = 0; p < P; p++) QB_UNROLL
    for (int b = 0; b < B; b++)
      _mm512_storeu_si512(sums + (b * l.chunk + p) * kBlock, acc[p * B + b]);
}

using Multiply = void (*)(const WinogradLayer&, const std::int32_t*, const std::uint8_t*,
                          const Steps&, std::int32_t*);

Multiply find_tile(int pixels, int blocks) {
  switch (pixels * 8 + blocks) {
#define QB_TILE(P, B) \
  case P * 8 + B:     \
    return multiply_tiles<P, B>;
#include "kernels/avx512/tiles.h"
#undef QB_TILE
  }
  return nullptr;
}

// A^T m A of one tile and block, requantized and stored.
template <bool Residual>
QB_INLINE void finish_tile(const WinogradLayer& l, const Channel& c, const std::int32_t* sums,
                           const View& y, const View& r, const TileAt& at) {
  const std::int64_t step = l.sums() / 4;
  __m512i s[2][4], q[4];
  QB_UNROLL for (int j = 0; j < 4; j++) {
    __m512i m[4];
    QB_UNROLL for (int i = 0; i < 4; i++)
      m[i] = _mm512_loadu_si512(sums + (4 * i + j) * step);
    s[0][j] = _mm512_add_epi32(_mm512_add_epi32(m[0], m[1]), m[2]);
    s[1][j] = _mm512_sub_epi32(_mm512_sub_epi32(m[1], m[2]), m[3]);
  }
  const bool right = 2 * at.column + 1 < l.ow, below = 2 * at.row + 1 < l.oh;
  const std::int64_t pixel = 2 * at.column * std::int64_t(kBlock);
  const std::uint8_t* from = Residual ? r.data + 2 * at.row * r.row + pixel : nullptr;
  QB_UNROLL for (int i = 0; i < 2; i++) {
    const __m512i left_sum = _mm512_add_epi32(_mm512_add_epi32(s[i][0], s[i][1]), s[i][2]);
    const __m512i right_sum = _mm512_sub_epi32(_mm512_sub_epi32(s[i][1], s[i][2]), s[i][3]);
    const std::uint8_t* at_row = Residual ? from + (below ? i * r.row : 0) : nullptr;
    q[2 * i] = Residual ? c.round_sum(left_sum, at_row) : c.round(left_sum);
    q[2 * i + 1] =
        Residual ? c.round_sum(right_sum, at_row + (right ? kBlock : 0)) : c.round(right_sum);
  }
  const __m512i codes = c.codes(q);
  std::uint8_t* to = y.data + 2 * at.row * y.row + pixel;
  store_pixels(to, codes, right ? 2 : 1);
  if (below) store_pixels(to + y.row, _mm512_shuffle_i32x4(codes, codes, 0x4E), right ? 2 : 1);
}

void finish_chunk(const WinogradLayer& l, const WinogradCall& call, const Strip& strip,
                  std::int64_t first, std::int64_t last, const std::int32_t* sums) {
  for (int b = 0; b < strip.blocks; b++) {
    const int block = strip.block + b;
    const Channel c(l.out, block * kBlock);
    TileAt at = tile_at(l, first);
    for (std::int64_t t = first; t < last; t++) {
      View y = call.y, r = call.r;
      y.data += at.image * call.y_image + block * y.plane;
      const std::int32_t* from = sums + (b * l.chunk + (t - first)) * kBlock;
      if (l.out.residual) {
        r.data += at.image * call.r_image + block * r.plane;
        finish_tile<true>(l, c, from, y, r, at);
      } else {
        finish_tile<false>(l, c, from, y, r, at);
      }
      to_next(l, at);
    }
  }
}

}  // namespace

void avx512_winograd(const WinogradLayer& l, const WinogradCall& call) {
  std::int32_t* sums = reinterpret_cast<std::int32_t*>(call.scratch + 16 * l.inputs());
  for (std::int64_t first = call.first; first < call.last; first += l.chunk) {
    const std::int64_t last = first + l.chunk < call.last ? first + l.chunk : call.last;
    load_chunk(l, call, first, last);
    for (int i = call.first_strip; i < call.last_strip; i++) {
      const Strip& strip = l.strips[i];
      const int quads = l.steps / 4, singles = l.steps % 4, bytes = l.steps * strip.blocks * 64;
      for (int position = 0; position < 16; position++) {
        const std::int8_t* weight = strip.weight + std::int64_t(position) * bytes;
        Steps steps{l.offset, weight, weight + bytes, quads, singles};
        const std::int32_t* start =
            l.start + (std::int64_t(position) * l.out_blocks + strip.block) * kBlock;
        const std::uint8_t* x = call.scratch + position * l.inputs();
        for (int t = 0; t < l.tile_count[strip.blocks]; t++) {
          const Tile& tile = l.tiles[strip.blocks][t];
          if (tile.x >= last - first) break;
          find_tile(tile.pixels, strip.blocks)(l, start, x + tile.x * kBlock, steps,
                                               sums + position * (l.sums() / 4) + tile.x * kBlock);
          steps.ahead += quads * 64 * kAhead;
        }
      }
      finish_chunk(l, call, strip, first, last, sums);
    }
  }
}

}  // namespace qb
QB_TARGET_END
#endif
