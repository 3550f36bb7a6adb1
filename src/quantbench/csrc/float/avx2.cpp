// Float convolution on AVX2 with FMA. Two products a cycle of four cycles each need eight sums at a
// time, and sixteen registers hold no more beside three columns of a filter: tiles have 4 pixels of
// 16 channels. A filter's three columns meet the same pixel in three neighbouring outputs, so that
// a pixel is broadcast once for three products.
#include <algorithm>

#include "base/target.h"
#include "float/kernels.h"

#if QB_X86
#include <immintrin.h>

QB_TARGET_BEGIN("avx2,fma")
namespace qb {
namespace {

constexpr int kLanes = 8;
constexpr int kWide = 2;                  // vectors of a tile's output channels
constexpr int kPanel = kWide * kLanes;    // its channels: what every layer has a multiple of
constexpr int kPixels = 4;                // of a tile
constexpr int kSlice = 3 * kPanel;        // weights of one input channel, one row and one panel

// Weights in the order in which tiles read them: [panel][row][input channel][column][kPanel].
void pack(const FloatConv& s, const float* filter, float* to) {
  for (int k = 0; k < s.k; k += kPanel)
    for (int i = 0; i < 3; i++)
      for (int c = 0; c < s.c; c++)
        for (int j = 0; j < 3; j++, to += kPanel) {
          const float* from = filter + (std::int64_t(3 * i + j) * s.c + c) * s.k + k;
          for (int q = 0; q < kPanel; q++) to[q] = from[q];
        }
}

// P pixels of an output row and a panel of its channels. `x`: the row above the first pixel's, one
// column to the left; rows `first` to `last` of the filter lie inside the image.
template <int P>
QB_INLINE void outputs(const FloatConv& s, const float* x, const float* panel, int first, int last,
                       const FloatTail& tail, int channel, std::int64_t at, float* y) {
  __m256 acc[P][kWide];
  QB_UNROLL for (int q = 0; q < kWide; q++) {
    const __m256 bias =
        tail.bias ? _mm256_loadu_ps(tail.bias + channel + kLanes * q) : _mm256_setzero_ps();
    QB_UNROLL for (int p = 0; p < P; p++) acc[p][q] = bias;
  }
  for (int i = first; i < last; i++) {
    const float* from = x + i * std::int64_t(s.w + 2) * s.c;
    const float* by = panel + i * std::int64_t(s.c) * kSlice;
    for (int c = 0; c < s.c; c++, from++, by += kSlice) {
      __m256 w[3][kWide];
      QB_UNROLL for (int j = 0; j < 3; j++) QB_UNROLL
        for (int q = 0; q < kWide; q++) w[j][q] = _mm256_loadu_ps(by + j * kPanel + kLanes * q);
      QB_UNROLL for (int p = 0; p < P + 2; p++) {
        const __m256 pixel = _mm256_broadcast_ss(from + p * std::int64_t(s.c));
        QB_UNROLL for (int j = 0; j < 3; j++)
          if (0 <= p - j && p - j < P) QB_UNROLL
            for (int q = 0; q < kWide; q++)
              acc[p - j][q] = _mm256_fmadd_ps(pixel, w[j][q], acc[p - j][q]);
      }
    }
  }
  QB_UNROLL for (int p = 0; p < P; p++) QB_UNROLL
    for (int q = 0; q < kWide; q++) {
      const std::int64_t i = at + p * std::int64_t(s.k) + kLanes * q;
      __m256 v = acc[p][q];
      if (tail.add) v = _mm256_add_ps(v, _mm256_loadu_ps(tail.add + i));
      if (tail.relu) v = _mm256_max_ps(_mm256_setzero_ps(), v);  // in this order NaN stays
      _mm256_storeu_ps(y + i, v);
    }
}

// The last tile of a row may compute again what the one before it did: the same bits.
void output_row(const FloatConv& s, const float* x, const float* panel, int first, int last,
                const FloatTail& tail, int channel, std::int64_t at, float* y) {
  if (s.w < kPixels) {
    for (int p = 0; p < s.w; p++)
      outputs<1>(s, x + p * std::int64_t(s.c), panel, first, last, tail, channel,
                 at + p * std::int64_t(s.k), y);
    return;
  }
  for (int p = 0; p < s.w; p += kPixels) {
    const std::int64_t q = std::min(p, s.w - kPixels);
    outputs<kPixels>(s, x + q * s.c, panel, first, last, tail, channel, at + q * s.k, y);
  }
}

void image(const FloatConv& s, const float* x, const float* packed, const FloatTail& tail,
           std::int64_t at, float* y) {
  const std::int64_t row = std::int64_t(s.w + 2) * s.c;
  for (int channel = 0; channel < s.k; channel += kPanel)
    for (int h = 0; h < s.h; h++) {
      const int first = h == 0, last = h == s.h - 1 ? 2 : 3;
      output_row(s, x + h * row, packed + std::int64_t(9) * s.c * channel, first, last, tail,
                 channel, at + std::int64_t(h) * s.w * s.k + channel, y);
    }
}

constexpr int kStrip = 512;  // pixels whose inputs and gradients stay in the nearest caches
constexpr int kInputs = 4;   // times three columns: the sums that registers hold

// Gradient of row i of the filter from some rows of an image, kInputs input channels by kLanes
// output channels; `dy` has a border.
QB_INLINE void filter_row(const FloatConv& s, int i, int first, int last, const float* x,
                          const float* dy, float* d) {
  const std::int64_t column = std::int64_t(s.c) * s.k, row = std::int64_t(s.w + 2) * s.k;
  __m256 acc[3][kInputs];
  QB_UNROLL for (int j = 0; j < 3; j++) QB_UNROLL
    for (int c = 0; c < kInputs; c++)
      acc[j][c] = _mm256_loadu_ps(d + j * column + c * std::int64_t(s.k));
  for (int h = std::max(first, int(i == 0)); h < std::min(last, s.h - (i == 2)); h++) {
    const float *from = x + std::int64_t(h + i - 1) * s.w * s.c, *g = dy + (h + 1) * row;
    __m256 left = _mm256_loadu_ps(g), here = _mm256_loadu_ps(g + s.k);
    for (int w = 0; w < s.w; w++, from += s.c) {
      const __m256 right = _mm256_loadu_ps(g + (w + 2) * std::int64_t(s.k));
      QB_UNROLL for (int c = 0; c < kInputs; c++) {
        const __m256 pixel = _mm256_broadcast_ss(from + c);
        acc[0][c] = _mm256_fmadd_ps(pixel, right, acc[0][c]);
        acc[1][c] = _mm256_fmadd_ps(pixel, here, acc[1][c]);
        acc[2][c] = _mm256_fmadd_ps(pixel, left, acc[2][c]);
      }
      left = here, here = right;
    }
  }
  QB_UNROLL for (int j = 0; j < 3; j++) QB_UNROLL
    for (int c = 0; c < kInputs; c++)
      _mm256_storeu_ps(d + j * column + c * std::int64_t(s.k), acc[j][c]);
}

void filter_gradient(const FloatConv& s, const float* x, const float* dy, float* d) {
  const int rows = std::max(1, kStrip / s.w);
  for (int h = 0; h < s.h; h += rows)
    for (int k = 0; k < s.k; k += kLanes)
      for (int i = 0; i < 3; i++)
        for (int c = 0; c < s.c; c += kInputs)
          filter_row(s, i, h, std::min(h + rows, s.h), x + c, dy + k,
                     d + (std::int64_t(3) * i * s.c + c) * s.k + k);
}

void with_border(int h, int w, int c, const float* x, const float* above, float* to) {
  const std::int64_t row = std::int64_t(w) * c;
  for (int y = 0; y < h; y++)
    for (std::int64_t i = 0; i < row; i += kLanes) {
      __m256 v = _mm256_loadu_ps(x + y * row + i);
      if (above) {
        const __m256 a = _mm256_loadu_ps(above + y * row + i);
        v = _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NLE_UQ), v);
      }
      _mm256_storeu_ps(to + (y + 1) * (row + 2 * c) + c + i, v);
    }
}

}  // namespace
}  // namespace qb
QB_TARGET_END

namespace qb {
namespace {

constexpr FloatKernels kAvx2{
    .name = "avx2",
    .pack = pack,
    .image = image,
    .filter_gradient = filter_gradient,
    .with_border = with_border,
};

}  // namespace

const FloatKernels* float_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kAvx2 : nullptr;
}

}  // namespace qb
#else
namespace qb {

const FloatKernels* float_avx2() { return nullptr; }

}  // namespace qb
#endif
