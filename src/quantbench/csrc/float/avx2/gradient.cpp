// The gradient of a filter on AVX2: see set.h.
#include <algorithm>

#include "float/avx2/set.h"

#if QB_X86
#include "float/avx2/transforms.h"

QB_TARGET_BEGIN(QB_FLOAT_AVX2)
namespace qb {
namespace {

// kTiles input channels by a panel at one position, over `count` tiles: [tile][c] times [tile][k].
QB_INLINE void multiply(const FloatConv& s, int count, const float* x, const float* dy,
                        float* sums) {
  __m256 acc[kTiles][2];
  QB_UNROLL for (int c = 0; c < kTiles; c++) QB_UNROLL
    for (int q = 0; q < 2; q++)
      acc[c][q] = _mm256_loadu_ps(sums + c * std::int64_t(s.k) + q * kLanes);
  for (int t = 0; t < count; t++, x += s.c, dy += s.k) {
    const __m256 left = _mm256_loadu_ps(dy), right = _mm256_loadu_ps(dy + kLanes);
    QB_UNROLL for (int c = 0; c < kTiles; c++) {
      const __m256 value = _mm256_broadcast_ss(x + c);
      acc[c][0] = _mm256_fmadd_ps(value, left, acc[c][0]);
      acc[c][1] = _mm256_fmadd_ps(value, right, acc[c][1]);
    }
  }
  QB_UNROLL for (int c = 0; c < kTiles; c++) QB_UNROLL
    for (int q = 0; q < 2; q++)
      _mm256_storeu_ps(sums + c * std::int64_t(s.k) + q * kLanes, acc[c][q]);
}

// Tiles first..first + count - 1 of a copy of dy to [position][tile][channel].
void transform_all(const FloatConv& s, const float* dy, int first, int count, float* to) {
  const Tiles tiles(s);
  const std::int64_t row = std::int64_t(tiles.columns) * s.k, place = std::int64_t(kChunk) * s.k;
  for (int t = 0; t < count; t++) {
    const int down = (first + t) / tiles.across, across = (first + t) % tiles.across;
    const float* from = dy + (2 * down + 1) * row + (2 * std::int64_t(across) + 1) * s.k;
    for (int k = 0; k < s.k; k += kLanes)
      transform_gradients(from + k, row, s.k, to + std::int64_t(t) * s.k + k, place);
  }
}

}  // namespace

// Sums: [position][c][k].
void avx2_float_gradient(const FloatConv& s, const float* x, const float* dy, float* sums,
                         float* scratch) {
  const Tiles tiles(s);
  float *inputs = scratch, *gradients = inputs + std::int64_t(kPlaces) * kChunk * s.c;
  float* copy = gradients + std::int64_t(kPlaces) * kChunk * s.k;
  avx2_float_copy(s, s.c, x, nullptr, copy);
  for (int first = 0; first < tiles.count(); first += kChunk) {
    const int count = std::min(kChunk, tiles.count() - first);
    transform_images(s, copy, first, count, inputs);
    transform_all(s, dy, first, count, gradients);
    for (int p = 0; p < kPlaces; p++)
      for (int k = 0; k < s.k; k += kPanel)
        for (int c = 0; c < s.c; c += kTiles)
          multiply(s, count, inputs + std::int64_t(p) * kChunk * s.c + c,
                   gradients + std::int64_t(p) * kChunk * s.k + k,
                   sums + (std::int64_t(p) * s.c + c) * s.k + k);
  }
}

void avx2_float_unpack(const FloatConv& s, const float* sums, float* dfilter) {
  const std::int64_t place = std::int64_t(s.c) * s.k;
  for (std::int64_t at = 0; at < place; at += kLanes)
    transform_filter(sums + at, place, dfilter + at);
}

}  // namespace qb
QB_TARGET_END
#endif
