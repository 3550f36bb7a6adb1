// Depthwise convolution on AVX2. Two rows of taps, as words of eight channels, are one vpmaddwd,
// exact whatever the weights: rows of a block are first interleaved in pairs and widened into
// scratch, so that every column of the filter is a product of what lies there. A 3-row filter of
// stride 1 uses its four rows twice, for two output rows.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/requant.h"
#include "kernels/avx2/vectors.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

constexpr int kPixel = 64;  // bytes of a pixel of two rows in scratch: [half of a block][8][2 rows]

// `columns` pixels of two rows.
void interleave(const std::uint8_t* a, const std::uint8_t* b, std::int64_t columns,
                std::uint8_t* to) {
  for (std::int64_t x = 0; x < columns; x++, to += kPixel) {
    const __m128i top = load_codes(a + x * kBlock), low = load_codes(b + x * kBlock);
    auto* out = reinterpret_cast<__m256i*>(to);
    _mm256_storeu_si256(out, _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(top, low)));
    _mm256_storeu_si256(out + 1, _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(top, low)));
  }
}

// Weights of a block as scratch has its pixels, [pair of rows][column], from four rows a group.
void widen(const DepthwiseLayer& l, const std::int8_t* from, std::int16_t* to) {
  const __m256i first = _mm256_set1_epi32(0xFFFF);
  const std::int64_t pair = std::int64_t(l.kw) * 2 * kBlock;
  for (int g = 0; g < l.groups; g++, to += 2 * pair)
    for (int k = 0; k < l.kw; k++)
      for (int h = 0; h < 2; h++, from += 32) {
        const __m256i w = load(from);  // of each channel rows 0 to 3
        const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);  // 0 and 2, as words
        const __m256i odd = _mm256_srai_epi16(w, 8);
        auto* out = reinterpret_cast<__m256i*>(to + (2 * k + h) * kBlock);
        _mm256_storeu_si256(
            out, _mm256_or_si256(_mm256_and_si256(even, first), _mm256_slli_epi32(odd, 16)));
        out = reinterpret_cast<__m256i*>(to + pair + (2 * k + h) * kBlock);
        _mm256_storeu_si256(
            out, _mm256_or_si256(_mm256_srli_epi32(even, 16), _mm256_andnot_si256(first, odd)));
      }
}

struct Rows {                  // what one output row reads
  const std::uint8_t* pixels;  // [pair of rows][column]
  const std::int16_t* weight;  // [pair of rows][column of the filter]
  std::int64_t pair;           // bytes from one pair of rows to the next
  int pairs, columns;
  std::int64_t step, dilation;  // bytes between outputs, and between columns of the filter
};

// N neighbouring outputs of one row.
template <int N>
QB_INLINE void outputs(const Rows& rows, const Channel& c, const std::int32_t* bias,
                       const std::uint8_t* x, std::uint8_t* y) {
  __m256i acc[N][2];
  QB_UNROLL for (int h = 0; h < 2; h++) QB_UNROLL
    for (int i = 0; i < N; i++) acc[i][h] = load(bias + 8 * h);
  const std::int16_t* weight = rows.weight;
  for (int p = 0; p < rows.pairs; p++, x += rows.pair) {
    const std::uint8_t* at = x;
    for (int k = 0; k < rows.columns; k++, at += rows.dilation, weight += 2 * kBlock) {
      const __m256i w[2] = {load(weight), load(weight + kBlock)};
      QB_UNROLL for (int i = 0; i < N; i++) QB_UNROLL
        for (int h = 0; h < 2; h++)
          acc[i][h] = _mm256_add_epi32(acc[i][h],
                                       _mm256_madd_epi16(load(at + i * rows.step + 32 * h), w[h]));
    }
  }
  QB_UNROLL for (int i = 0; i < N; i += 2) {
    const int j = i + 1 < N ? i + 1 : i;
    store_pixels(y + i * kBlock,
                 c.codes(c.round(acc[i][0], acc[i][1]), c.round(acc[j][0], acc[j][1])), N - i);
  }
}

void output_row(const Rows& rows, const Channel& c, const std::int32_t* bias, int ow,
                std::uint8_t* y) {
  const std::uint8_t* x = rows.pixels;
  int i = 0;
  for (; i + 4 <= ow; i += 4, x += 4 * rows.step, y += 4 * kBlock) outputs<4>(rows, c, bias, x, y);
  for (; i < ow; i++, x += rows.step, y += kBlock) outputs<1>(rows, c, bias, x, y);
}

}  // namespace

void avx2_depthwise(const DepthwiseLayer& l, const View& x, const View& y, int block, int first,
                    int last, std::uint8_t* scratch) {
  const Channel c(l.out, block * kBlock);
  const std::int32_t* bias = l.bias + block * kBlock;
  const std::int64_t filter = std::int64_t(l.groups) * l.kw * 64;
  const std::int64_t columns = depthwise_columns(l);
  // Scratch: the filter, and one row lower, as words; then pixels.
  auto* weight = reinterpret_cast<std::int16_t*>(scratch);
  std::int16_t* lower = weight + filter;
  widen(l, l.weight + block * filter, weight);
  if (l.shifted) widen(l, l.shifted + block * filter, lower);
  std::uint8_t* pixels = scratch + 4 * filter;
  Rows rows{pixels,
            weight,
            columns * kPixel,
            (l.kh + 1) / 2,
            l.kw,
            l.sx * std::int64_t(kPixel),
            l.dx * std::int64_t(kPixel)};
  for (int oy = first; oy < last;) {
    const bool two = l.shifted && oy + 1 < last;
    const std::uint8_t* top = x.data + block * x.plane + oy * l.sy;
    for (int p = 0; p < rows.pairs; p++) {
      const std::uint8_t* a = top + 2 * p * l.dy;
      const bool below = 2 * p + 1 < l.kh + two;  // else its weights are zero
      interleave(a, below ? a + l.dy : a, columns, pixels + p * rows.pair);
    }
    std::uint8_t* to = y.data + block * y.plane + oy * y.row;
    rows.weight = weight;
    output_row(rows, c, bias, l.ow, to);
    rows.weight = lower;
    if (two) output_row(rows, c, bias, l.ow, to + y.row);
    oy += two ? 2 : 1;
  }
}

}  // namespace qb
QB_TARGET_END
#endif
