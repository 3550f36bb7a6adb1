// Depthwise convolution on AVX-512 VNNI. The four bytes of a dot product are four rows of the
// filter's window: rows of a block are first interleaved into scratch, one vector (16 channels x 4
// rows) a pixel, so that every filter column is one product. A 3-row filter of stride 1 uses its
// four rows twice, for two output rows.
#include "kernels/avx512/set.h"

#if QB_X86
#include "kernels/avx512/requant.h"

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {

// `columns` pixels of four rows to [column][16 channels][4 rows].
void interleave(const std::uint8_t* const* rows, std::int64_t columns, std::uint8_t* to) {
  for (std::int64_t x = 0; x < columns; x += 4, to += 256) {
    __m512i r[4];
    for (int i = 0; i < 4; i++) r[i] = load_pixels(rows[i] + x * kBlock, columns - x);
    const __m512i ab = _mm512_unpacklo_epi8(r[0], r[1]), AB = _mm512_unpackhi_epi8(r[0], r[1]);
    const __m512i cd = _mm512_unpacklo_epi8(r[2], r[3]), CD = _mm512_unpackhi_epi8(r[2], r[3]);
    // q: four channels of four pixels, a pixel in each 128-bit lane; then a 4x4 transposition of
    // lanes.
    const __m512i q0 = _mm512_unpacklo_epi16(ab, cd), q1 = _mm512_unpackhi_epi16(ab, cd);
    const __m512i q2 = _mm512_unpacklo_epi16(AB, CD), q3 = _mm512_unpackhi_epi16(AB, CD);
    const __m512i t0 = _mm512_shuffle_i32x4(q0, q1, 0x44), t1 = _mm512_shuffle_i32x4(q2, q3, 0x44);
    const __m512i t2 = _mm512_shuffle_i32x4(q0, q1, 0xEE), t3 = _mm512_shuffle_i32x4(q2, q3, 0xEE);
    _mm512_storeu_si512(to, _mm512_shuffle_i32x4(t0, t1, 0x88));
    _mm512_storeu_si512(to + 64, _mm512_shuffle_i32x4(t0, t1, 0xDD));
    _mm512_storeu_si512(to + 128, _mm512_shuffle_i32x4(t2, t3, 0x88));
    _mm512_storeu_si512(to + 192, _mm512_shuffle_i32x4(t2, t3, 0xDD));
  }
}

QB_INLINE void store_four(const Channel& c, const __m512i* acc, std::uint8_t* y, int pixels) {
  __m512i q[4];
  QB_UNROLL for (int i = 0; i < 4; i++)
    q[i] = c.round(acc[i]);
  store_pixels(y, c.codes(q), pixels);
}

// Rows (1 or 2) output rows of a filter of 3 columns and one group, from interleaved columns S
// apart.
template <int Rows, int S>
void three(const Channel& c, const __m512i* w, __m512i bias, const std::uint8_t* from, int ow,
           std::uint8_t* y, std::int64_t y_row) {
  for (int x = 0; x < ow; x += 4, from += 4 * S * 64, y += 64) {
    __m512i acc[Rows][4];
    QB_UNROLL for (int r = 0; r < Rows; r++) QB_UNROLL
      for (int i = 0; i < 4; i++) acc[r][i] = bias;
    QB_UNROLL for (int column = 0; column < 3 * S + 3; column++) {
      const __m512i z = _mm512_loadu_si512(from + column * 64);
      QB_UNROLL for (int i = 0; i < 4; i++) {
        const int k = column - i * S;
        if (k >= 0 && k < 3) QB_UNROLL
          for (int r = 0; r < Rows; r++)
            acc[r][i] = _mm512_dpbusd_epi32(acc[r][i], z, w[r * 3 + k]);
      }
    }
    QB_UNROLL for (int r = 0; r < Rows; r++)
      store_four(c, acc[r], y + r * y_row, ow - x);
  }
}

// One output row of any filter.
void any(const DepthwiseLayer& l, const Channel& c, const std::int8_t* w, __m512i bias,
         const std::uint8_t* from, std::int64_t group, std::uint8_t* y) {
  for (int x = 0; x < l.ow; x += 4, from += 4 * std::int64_t(l.sx) * 64, y += 64) {
    __m512i acc[4] = {bias, bias, bias, bias};
    for (int g = 0; g < l.groups; g++)
      for (int k = 0; k < l.kw; k++) {
        const __m512i weight = _mm512_loadu_si512(w + (std::int64_t(g) * l.kw + k) * 64);
        const std::uint8_t* at = from + g * group + std::int64_t(k) * l.dx * 64;
        QB_UNROLL for (int i = 0; i < 4; i++)
          acc[i] = _mm512_dpbusd_epi32(acc[i], _mm512_loadu_si512(at + std::int64_t(i) * l.sx * 64),
                                       weight);
      }
    store_four(c, acc, y, l.ow - x);
  }
}

}  // namespace

void avx512_depthwise(const DepthwiseLayer& l, const View& x, const View& y, int block, int first,
                      int last, std::uint8_t* scratch) {
  const Channel c(l.out, block * kBlock);
  const __m512i bias = _mm512_loadu_si512(l.bias + block * kBlock);
  const std::int64_t filter = std::int64_t(l.groups) * l.kw * 64;
  const std::int8_t* weight = l.weight + block * filter;
  const std::int64_t columns = depthwise_columns(l), group = depthwise_group(l);
  const bool is_three = l.kw == 3 && l.dx == 1 && l.groups == 1 && l.sx <= 2;
  __m512i w[6];
  if (is_three)
    for (int k = 0; k < 3; k++) {
      w[k] = _mm512_loadu_si512(weight + k * 64);
      w[3 + k] = l.shifted ? _mm512_loadu_si512(l.shifted + block * filter + k * 64)
                           : _mm512_setzero_si512();
    }
  for (int oy = first; oy < last;) {
    const bool two = is_three && l.shifted && oy + 1 < last;
    const std::uint8_t* top = x.data + block * x.plane + oy * l.sy;
    for (int g = 0; g < l.groups; g++) {
      const std::uint8_t* rows[4];
      for (int i = 0; i < 4; i++)
        rows[i] = top + (4 * g + i < l.kh + two ? 4 * g + i : 4 * g) * l.dy;
      interleave(rows, columns, scratch + g * group);
    }
    std::uint8_t* to = y.data + block * y.plane + oy * y.row;
    if (two && l.sx == 1)
      three<2, 1>(c, w, bias, scratch, l.ow, to, y.row);
    else if (two)
      three<2, 2>(c, w, bias, scratch, l.ow, to, y.row);
    else if (is_three && l.sx == 1)
      three<1, 1>(c, w, bias, scratch, l.ow, to, y.row);
    else if (is_three)
      three<1, 2>(c, w, bias, scratch, l.ow, to, y.row);
    else
      any(l, c, weight, bias, scratch, group, to);
    oy += two ? 2 : 1;
  }
}

}  // namespace qb
QB_TARGET_END
#endif
