// The transforms of set.h, of kLanes channels at a time. Only for translation units of that set.
#pragma once

#include <immintrin.h>

#include "float/avx2/set.h"

QB_TARGET_BEGIN(QB_FLOAT_AVX2)
namespace qb {
namespace {

QB_INLINE void inputs_1d(const __m256* d, __m256* v) {  // B^T
  v[0] = _mm256_sub_ps(d[0], d[2]);
  v[1] = _mm256_add_ps(d[1], d[2]);
  v[2] = _mm256_sub_ps(d[2], d[1]);
  v[3] = _mm256_sub_ps(d[1], d[3]);
}

QB_INLINE void outputs_1d(const __m256* m, __m256* y) {  // A^T
  y[0] = _mm256_add_ps(_mm256_add_ps(m[0], m[1]), m[2]);
  y[1] = _mm256_sub_ps(_mm256_sub_ps(m[1], m[2]), m[3]);
}

QB_INLINE void gradients_1d(const __m256* y, __m256* v) {  // A
  v[0] = y[0];
  v[1] = _mm256_add_ps(y[0], y[1]);
  v[2] = _mm256_sub_ps(y[0], y[1]);
  v[3] = _mm256_sub_ps(_mm256_setzero_ps(), y[1]);
}

QB_INLINE __m256 half_of(__m256 v) { return _mm256_mul_ps(v, _mm256_set1_ps(0.5f)); }

QB_INLINE void weights_1d(const __m256* g, __m256* u) {  // G
  const __m256 ends = _mm256_add_ps(g[0], g[2]);
  u[0] = g[0], u[3] = g[2];
  u[1] = half_of(_mm256_add_ps(ends, g[1]));
  u[2] = half_of(_mm256_sub_ps(ends, g[1]));
}

QB_INLINE void filters_1d(const __m256* u, __m256* g) {  // G^T
  const __m256 both = half_of(_mm256_add_ps(u[1], u[2]));
  g[0] = _mm256_add_ps(u[0], both);
  g[1] = half_of(_mm256_sub_ps(u[1], u[2]));
  g[2] = _mm256_add_ps(both, u[3]);
}

// B^T d B of a tile; `to`: its channels at position 0, `place` numbers before those at position 1.
[[maybe_unused]] QB_INLINE void transform_inputs(const float* x, std::int64_t row, int c, float* to,
                                                 std::int64_t place) {
  __m256 half[4][4];  // [row of the result][column of the tile]
  QB_UNROLL for (int j = 0; j < 4; j++) {
    __m256 d[4], v[4];
    QB_UNROLL for (int i = 0; i < 4; i++)
      d[i] = _mm256_loadu_ps(x + i * row + j * c);
    inputs_1d(d, v);
    QB_UNROLL for (int i = 0; i < 4; i++)
      half[i][j] = v[i];
  }
  QB_UNROLL for (int i = 0; i < 4; i++) {
    __m256 v[4];
    inputs_1d(half[i], v);
    QB_UNROLL for (int j = 0; j < 4; j++)
      _mm256_storeu_ps(to + (4 * i + j) * place, v[j]);
  }
}

// A dY A^T of a tile, likewise.
[[maybe_unused]] QB_INLINE void transform_gradients(const float* dy, std::int64_t row, int k,
                                                    float* to, std::int64_t place) {
  __m256 half[4][2];
  QB_UNROLL for (int j = 0; j < 2; j++) {
    const __m256 y[2] = {_mm256_loadu_ps(dy + j * k), _mm256_loadu_ps(dy + row + j * k)};
    __m256 v[4];
    gradients_1d(y, v);
    QB_UNROLL for (int i = 0; i < 4; i++)
      half[i][j] = v[i];
  }
  QB_UNROLL for (int i = 0; i < 4; i++) {
    __m256 v[4];
    gradients_1d(half[i], v);
    QB_UNROLL for (int j = 0; j < 4; j++)
      _mm256_storeu_ps(to + (4 * i + j) * place, v[j]);
  }
}

// A^T m A: the four outputs of a tile, row by row.
[[maybe_unused]] QB_INLINE void transform_outputs(const float* from, std::int64_t place,
                                                  __m256* y) {
  __m256 half[2][4];
  QB_UNROLL for (int j = 0; j < 4; j++) {
    __m256 m[4], v[2];
    QB_UNROLL for (int i = 0; i < 4; i++)
      m[i] = _mm256_loadu_ps(from + (4 * i + j) * place);
    outputs_1d(m, v);
    half[0][j] = v[0], half[1][j] = v[1];
  }
  outputs_1d(half[0], y);
  outputs_1d(half[1], y + 2);
}

// G g G^T of a filter whose weights are `step` numbers apart.
[[maybe_unused]] QB_INLINE void transform_weights(const float* g, std::int64_t step, float* to,
                                                  std::int64_t place) {
  __m256 half[4][3];
  QB_UNROLL for (int j = 0; j < 3; j++) {
    __m256 column[3], v[4];
    QB_UNROLL for (int i = 0; i < 3; i++)
      column[i] = _mm256_loadu_ps(g + (3 * i + j) * step);
    weights_1d(column, v);
    QB_UNROLL for (int i = 0; i < 4; i++)
      half[i][j] = v[i];
  }
  QB_UNROLL for (int i = 0; i < 4; i++) {
    __m256 v[4];
    weights_1d(half[i], v);
    QB_UNROLL for (int j = 0; j < 4; j++)
      _mm256_storeu_ps(to + (4 * i + j) * place, v[j]);
  }
}

// G^T u G.
[[maybe_unused]] QB_INLINE void transform_filter(const float* u, std::int64_t place, float* to) {
  __m256 half[3][4];
  QB_UNROLL for (int j = 0; j < 4; j++) {
    __m256 column[4], v[3];
    QB_UNROLL for (int i = 0; i < 4; i++)
      column[i] = _mm256_loadu_ps(u + (4 * i + j) * place);
    filters_1d(column, v);
    QB_UNROLL for (int i = 0; i < 3; i++)
      half[i][j] = v[i];
  }
  QB_UNROLL for (int i = 0; i < 3; i++) {
    __m256 v[3];
    filters_1d(half[i], v);
    QB_UNROLL for (int j = 0; j < 3; j++)
      _mm256_storeu_ps(to + (3 * i + j) * place, v[j]);
  }
}

// Tiles first..first + count - 1 of an image's copy to [position][tile][channel].
[[maybe_unused]] void transform_images(const FloatConv& s, const float* x, int first, int count,
                                       float* to) {
  const Tiles tiles(s);
  const std::int64_t row = std::int64_t(tiles.columns) * s.c, place = std::int64_t(kChunk) * s.c;
  for (int t = 0; t < count; t++) {
    const int down = (first + t) / tiles.across, across = (first + t) % tiles.across;
    const float* from = x + 2 * down * row + 2 * std::int64_t(across) * s.c;
    for (int c = 0; c < s.c; c += kLanes)
      transform_inputs(from + c, row, s.c, to + std::int64_t(t) * s.c + c, place);
  }
}

}  // namespace
}  // namespace qb
QB_TARGET_END
