// Float convolution on AVX-512. A filter's three columns meet the same pixel in three neighbouring
// outputs, so a pixel is broadcast once for three products: the load ports, which a product for
// each broadcast would fill, are half idle.
#include <algorithm>

#include "base/target.h"
#include "float/kernels.h"

#if QB_X86
#include <immintrin.h>

QB_TARGET_BEGIN("avx512f")
namespace qb {
namespace {

constexpr int kLanes = 16;

// P pixels of an output row and 16 Q of its channels. `x`: the row above the first pixel's, one
// column to the left; rows `first` to `last` of the filter lie inside the image.
template <int P, int Q>
QB_INLINE void outputs(const FloatConv& s, const float* x, const float* filter, int first, int last,
                       const FloatTail& tail, int channel, std::int64_t at, float* y) {
  __m512 acc[P][Q];
  QB_UNROLL for (int q = 0; q < Q; q++) {
    const __m512 bias =
        tail.bias ? _mm512_loadu_ps(tail.bias + channel + kLanes * q) : _mm512_setzero_ps();
    QB_UNROLL for (int p = 0; p < P; p++)
      acc[p][q] = bias;
  }
  const std::int64_t row = std::int64_t(s.w + 2) * s.c, column = std::int64_t(s.c) * s.k;
  for (int i = first; i < last; i++) {
    const float *from = x + i * row, *by = filter + 3 * i * column + channel;
    for (int c = 0; c < s.c; c++, from++, by += s.k) {
      __m512 w[3][Q];
      QB_UNROLL for (int j = 0; j < 3; j++) QB_UNROLL
        for (int q = 0; q < Q; q++) w[j][q] = _mm512_loadu_ps(by + j * column + kLanes * q);
      QB_UNROLL for (int p = 0; p < P + 2; p++) {
        const __m512 pixel = _mm512_set1_ps(from[p * std::int64_t(s.c)]);
        QB_UNROLL for (int j = 0; j < 3; j++)
          if (0 <= p - j && p - j < P) QB_UNROLL
            for (int q = 0; q < Q; q++)
              acc[p - j][q] = _mm512_fmadd_ps(pixel, w[j][q], acc[p - j][q]);
      }
    }
  }
  QB_UNROLL for (int p = 0; p < P; p++) QB_UNROLL
    for (int q = 0; q < Q; q++) {
      const std::int64_t i = at + p * std::int64_t(s.k) + kLanes * q;
      __m512 v = acc[p][q];
      if (tail.add) v = _mm512_add_ps(v, _mm512_loadu_ps(tail.add + i));
      if (tail.relu) v = _mm512_max_ps(_mm512_setzero_ps(), v);  // in this order NaN stays
      _mm512_storeu_ps(y + i, v);
    }
}

template <int Q>
void output_row(const FloatConv& s, const float* x, const float* filter, int first, int last,
                const FloatTail& tail, int channel, std::int64_t at, float* y) {
  constexpr int kWide = Q == 1 ? 16 : 8;
  int p = 0;
  const auto go = [&](auto step, int n) {
    for (; p + n <= s.w; p += n) step(x + p * std::int64_t(s.c), at + p * std::int64_t(s.k));
  };
#define QB_STEP(P)                                                                                \
  go([&](const float* from,                                                                       \
         std::int64_t to) { outputs<P, Q>(s, from, filter, first, last, tail, channel, to, y); }, \
     P)
  QB_STEP(kWide);
  QB_STEP(4);
  QB_STEP(1);
#undef QB_STEP
}

// One image, from a copy with a border.
void image(const FloatConv& s, const float* x, const float* filter, const FloatTail& tail,
           std::int64_t at, float* y, float*) {
  const std::int64_t row = std::int64_t(s.w + 2) * s.c;
  for (int channel = 0; channel < s.k; channel += 2 * kLanes)
    for (int h = 0; h < s.h; h++) {
      const int first = h == 0, last = h == s.h - 1 ? 2 : 3;
      const std::int64_t to = at + std::int64_t(h) * s.w * s.k + channel;
      if (channel + kLanes < s.k)
        output_row<2>(s, x + h * row, filter, first, last, tail, channel, to, y);
      else
        output_row<1>(s, x + h * row, filter, first, last, tail, channel, to, y);
    }
}

constexpr int kStrip =
    256;  // pixels of 8 input and 16 output channels that stay in the first cache

// Gradient of row i of the filter from some rows of an image, 8 input channels by 16 output
// channels; `dy` has a border.
QB_INLINE void filter_row(const FloatConv& s, int i, int first, int last, const float* x,
                          const float* dy, float* d) {
  constexpr int kInputs = 8;
  const std::int64_t column = std::int64_t(s.c) * s.k, row = std::int64_t(s.w + 2) * s.k;
  __m512 acc[3][kInputs];
  QB_UNROLL for (int j = 0; j < 3; j++) QB_UNROLL
    for (int c = 0; c < kInputs; c++)
      acc[j][c] = _mm512_loadu_ps(d + j * column + c * std::int64_t(s.k));
  for (int h = std::max(first, int(i == 0)); h < std::min(last, s.h - (i == 2)); h++) {
    const float *from = x + std::int64_t(h + i - 1) * s.w * s.c, *g = dy + (h + 1) * row;
    __m512 left = _mm512_loadu_ps(g), here = _mm512_loadu_ps(g + s.k);
    for (int w = 0; w < s.w; w++, from += s.c) {
      const __m512 right = _mm512_loadu_ps(g + (w + 2) * std::int64_t(s.k));
      QB_UNROLL for (int c = 0; c < kInputs; c++) {
        const __m512 pixel = _mm512_set1_ps(from[c]);
        acc[0][c] = _mm512_fmadd_ps(pixel, right, acc[0][c]);
        acc[1][c] = _mm512_fmadd_ps(pixel, here, acc[1][c]);
        acc[2][c] = _mm512_fmadd_ps(pixel, left, acc[2][c]);
      }
      left = here, here = right;
    }
  }
  QB_UNROLL for (int j = 0; j < 3; j++) QB_UNROLL
    for (int c = 0; c < kInputs; c++)
      _mm512_storeu_ps(d + j * column + c * std::int64_t(s.k), acc[j][c]);
}

void filter_gradient(const FloatConv& s, const float* x, const float* dy, float* d, float*) {
  const int rows = std::max(1, kStrip / s.w);
  for (int h = 0; h < s.h; h += rows)
    for (int k = 0; k < s.k; k += kLanes)
      for (int i = 0; i < 3; i++)
        for (int c = 0; c < s.c; c += 8)
          filter_row(s, i, h, std::min(h + rows, s.h), x + c, dy + k,
                     d + (std::int64_t(3) * i * s.c + c) * s.k + k);
}

// Rows of an image into a copy that has a border; 0 where `above` (if any) is not above 0.
void copy(const FloatConv& s, int c, const float* x, const float* above, float* to) {
  const std::int64_t row = std::int64_t(s.w) * c;
  for (int y = 0; y < s.h; y++)
    for (std::int64_t i = 0; i < row; i += kLanes) {
      __m512 v = _mm512_loadu_ps(x + y * row + i);
      if (above) {
        const __m512 a = _mm512_loadu_ps(above + y * row + i);
        v = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NLE_UQ), v);
      }
      _mm512_storeu_ps(to + (y + 1) * (row + 2 * c) + c + i, v);
    }
}

}  // namespace
}  // namespace qb
QB_TARGET_END

namespace qb {
namespace {

std::int64_t copied(const FloatConv& s, int c) { return std::int64_t(s.h + 2) * (s.w + 2) * c; }

std::int64_t as_it_is(const FloatConv& s) { return std::int64_t(9) * s.c * s.k; }

void take(const FloatConv& s, const float* from, float* to) { std::copy_n(from, as_it_is(s), to); }

std::int64_t nothing(const FloatConv&) { return 0; }

constexpr FloatKernels kAvx512{
    .name = "avx512",
    .copied = copied,
    .copy = copy,
    .packed = as_it_is,
    .pack = take,
    .scratch = nothing,
    .image = image,
    .sums = as_it_is,
    .filter_gradient = filter_gradient,
    .unpack = take,
};

}  // namespace

const FloatKernels* float_avx512() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") ? &kAvx512 : nullptr;
}

}  // namespace qb
#else
namespace qb {

const FloatKernels* float_avx512() { return nullptr; }

}  // namespace qb
#endif
