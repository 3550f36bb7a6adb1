// Winograd F(2x2, 3x3) on 256-bit registers, exact (see WinogradLayer), whatever multiplies:
// transform a chunk of tiles into 16 matrices of bytes or words, multiply each with its matrix of
// weights, transform the sums back and requantize. Only for translation units of such a set:
// include outside any region.
#pragma once

#include "kernels/avx2/requant.h"
#include "kernels/avx2/vectors.h"
#include "kernels/winograd_tiles.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

// B^T d B of two neighbouring tiles, or twice the same one (`next` 0), modulo 256: [position] at
// `step` bytes.
QB_INLINE void transform_inputs(const std::uint8_t* x, std::int64_t row, std::int64_t next,
                                __m256i shift, std::uint8_t* to, std::int64_t step) {
  __m256i d[4][4], t[4][4];  // [row][column], a tile in each 128-bit lane
  QB_UNROLL for (int i = 0; i < 4; i++) QB_UNROLL
    for (int j = 0; j < 4; j++) {
      const std::uint8_t* at = x + i * row + j * kBlock;
      d[i][j] =
          _mm256_inserti128_si256(_mm256_castsi128_si256(load_codes(at)), load_codes(at + next), 1);
    }
  QB_UNROLL for (int j = 0; j < 4; j++) {
    t[0][j] = _mm256_sub_epi8(d[0][j], d[2][j]);
    t[1][j] = _mm256_add_epi8(d[1][j], d[2][j]);
    t[2][j] = _mm256_sub_epi8(d[2][j], d[1][j]);
    t[3][j] = _mm256_sub_epi8(d[1][j], d[3][j]);
  }
  QB_UNROLL for (int i = 0; i < 4; i++) {
    std::uint8_t* out = to + 4 * i * step;
    const __m256i sum = _mm256_add_epi8(t[i][1], t[i][2]);
    store(out, _mm256_add_epi8(_mm256_sub_epi8(t[i][0], t[i][2]), shift));
    store(out + step, i == 1 ? sum : _mm256_add_epi8(sum, shift));
    store(out + 2 * step, _mm256_add_epi8(_mm256_sub_epi8(t[i][2], t[i][1]), shift));
    store(out + 3 * step, _mm256_add_epi8(_mm256_sub_epi8(t[i][1], t[i][3]), shift));
  }
}

// B^T d B of a tile in words.
QB_INLINE void transform_inputs(const std::uint8_t* x, std::int64_t row, std::uint8_t* to,
                                std::int64_t step) {
  __m256i t[4][4];  // [row][column]
  QB_UNROLL for (int j = 0; j < 4; j++) {
    __m256i d[4];
    QB_UNROLL for (int i = 0; i < 4; i++)
      d[i] = _mm256_cvtepu8_epi16(load_codes(x + i * row + j * kBlock));
    t[0][j] = _mm256_sub_epi16(d[0], d[2]);
    t[1][j] = _mm256_add_epi16(d[1], d[2]);
    t[2][j] = _mm256_sub_epi16(d[2], d[1]);
    t[3][j] = _mm256_sub_epi16(d[1], d[3]);
  }
  QB_UNROLL for (int i = 0; i < 4; i++) {
    std::uint8_t* out = to + 4 * i * step;
    store(out, _mm256_sub_epi16(t[i][0], t[i][2]));
    store(out + step, _mm256_add_epi16(t[i][1], t[i][2]));
    store(out + 2 * step, _mm256_sub_epi16(t[i][2], t[i][1]));
    store(out + 3 * step, _mm256_sub_epi16(t[i][1], t[i][3]));
  }
}

void load_words(const WinogradLayer& l, const WinogradCall& call, std::int64_t first,
                std::int64_t last) {
  TileAt at = tile_at(l, first);
  for (std::int64_t t = first; t < last; t++, to_next(l, at)) {
    const std::uint8_t* x =
        call.x.data + at.image * call.x_image + 2 * at.row * call.x.row + 2 * at.column * kBlock;
    std::uint8_t* to = call.scratch + (t - first) * 2 * kBlock;
    for (int b = 0; b < l.in_blocks; b++, x += call.x.plane, to += l.slots() * 2 * kBlock)
      transform_inputs(x, call.x.row, to, l.inputs());
  }
}

void load_bytes(const WinogradLayer& l, const WinogradCall& call, std::int64_t first,
                std::int64_t last) {
  const __m256i shift = _mm256_set1_epi8(char(l.shift));
  for (std::int64_t t = first; t < last;) {
    const TileAt at = tile_at(l, t);
    const int n = l.tile_columns - at.column >= 2 && last - t >= 2 ? 2 : 1;
    const std::uint8_t* x =
        call.x.data + at.image * call.x_image + 2 * at.row * call.x.row + 2 * at.column * kBlock;
    std::uint8_t* to = call.scratch + (t - first) * kBlock;
    for (int b = 0; b < l.in_blocks; b++, x += call.x.plane, to += l.slots() * kBlock)
      transform_inputs(x, call.x.row, (n - 1) * 2 * kBlock, shift, to, l.inputs());
    t += n;
  }
}

// A^T m A of one half of a block: [row][column] of the four outputs.
QB_INLINE void transform_sums(const std::int32_t* sums, std::int64_t step, __m256i (*y)[2]) {
  __m256i s[2][4];
  QB_UNROLL for (int j = 0; j < 4; j++) {
    __m256i m[4];
    QB_UNROLL for (int i = 0; i < 4; i++)
      m[i] = load(sums + (4 * i + j) * step);
    s[0][j] = _mm256_add_epi32(_mm256_add_epi32(m[0], m[1]), m[2]);
    s[1][j] = _mm256_sub_epi32(_mm256_sub_epi32(m[1], m[2]), m[3]);
  }
  QB_UNROLL for (int i = 0; i < 2; i++) {
    y[i][0] = _mm256_add_epi32(_mm256_add_epi32(s[i][0], s[i][1]), s[i][2]);
    y[i][1] = _mm256_sub_epi32(_mm256_sub_epi32(s[i][1], s[i][2]), s[i][3]);
  }
}

// One tile and block, requantized and stored.
template <bool Residual>
QB_INLINE void finish_tile(const WinogradLayer& l, const Channel& c, const std::int32_t* sums,
                           const View& y, const View& r, const TileAt& at) {
  __m256i low[2][2], high[2][2];
  transform_sums(sums, l.sums() / 4, low);
  transform_sums(sums + 8, l.sums() / 4, high);
  const bool right = 2 * at.column + 1 < l.ow, below = 2 * at.row + 1 < l.oh;
  const std::int64_t pixel = 2 * at.column * std::int64_t(kBlock);
  std::uint8_t* to = y.data + 2 * at.row * y.row + pixel;
  const std::uint8_t* from = Residual ? r.data + 2 * at.row * r.row + pixel : nullptr;
  for (int i = 0; i < 1 + below; i++, to += y.row) {
    __m256i q[2];
    if (Residual) {
      q[0] = c.round_sum(low[i][0], high[i][0], from + i * r.row);
      q[1] = c.round_sum(low[i][1], high[i][1], from + i * r.row + (right ? kBlock : 0));
    } else {
      q[0] = c.round(low[i][0], high[i][0]), q[1] = c.round(low[i][1], high[i][1]);
    }
    store_pixels(to, c.codes(q[0], q[1]), right ? 2 : 1);
  }
}

void finish_chunk(const WinogradLayer& l, const WinogradCall& call, int block, std::int64_t first,
                  std::int64_t last, const std::int32_t* sums) {
  const Channel c(l.out, block * kBlock);
  TileAt at = tile_at(l, first);
  for (std::int64_t t = first; t < last; t++, sums += kBlock) {
    View y = call.y, r = call.r;
    y.data += at.image * call.y_image + block * y.plane;
    if (l.out.residual) {
      r.data += at.image * call.r_image + block * r.plane;
      finish_tile<true>(l, c, sums, y, r, at);
    } else {
      finish_tile<false>(l, c, sums, y, r, at);
    }
    to_next(l, at);
  }
}

// Sums [tile][16] of P tiles, one block and one position.
using Multiply = void (*)(const WinogradLayer&, const std::int32_t* start, const std::uint8_t* x,
                          const std::int8_t* weight, std::int32_t* sums);

// `multiply`: by tiles, from one on; of words where the layer is in words.
QB_INLINE void go_through(const WinogradLayer& l, const WinogradCall& call,
                          const Multiply* multiply) {
  auto* sums = reinterpret_cast<std::int32_t*>(call.scratch + 16 * l.inputs());
  for (std::int64_t first = call.first; first < call.last; first += l.chunk) {
    const std::int64_t last = first + l.chunk < call.last ? first + l.chunk : call.last;
    (l.width == 2 ? load_words : load_bytes)(l, call, first, last);
    for (int i = call.first_strip; i < call.last_strip; i++) {
      const Strip& strip = l.strips[i];
      for (int position = 0; position < 16; position++) {
        const std::int8_t* weight = strip.weight + std::int64_t(position) * l.steps * 64;
        const std::int32_t* start =
            l.start + (std::int64_t(position) * l.out_blocks + strip.block) * kBlock;
        const std::uint8_t* x = call.scratch + position * l.inputs();
        for (int t = 0; t < l.tile_count[1]; t++) {
          const Tile& tile = l.tiles[1][t];
          if (tile.x >= last - first) break;
          multiply[tile.pixels - 1](l, start, x + tile.x * kBlock * l.width, weight,
                                    sums + position * (l.sums() / 4) + tile.x * kBlock);
        }
      }
      finish_chunk(l, call, strip.block, first, last, sums);
    }
  }
}

}  // namespace
}  // namespace qb
QB_TARGET_END
