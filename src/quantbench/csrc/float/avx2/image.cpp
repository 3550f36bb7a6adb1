// One image through a convolution on AVX2: see set.h.
#include <algorithm>

#include "float/avx2/set.h"

#if QB_X86
#include "float/avx2/transforms.h"

QB_TARGET_BEGIN(QB_FLOAT_AVX2)
namespace qb {
namespace {

// kTiles tiles by a panel at one position: [tile][c] times [c][kPanel].
QB_INLINE void multiply(int c, const float* x, const float* w, float* to) {
  __m256 acc[kTiles][2];
  QB_UNROLL for (int t = 0; t < kTiles; t++)
    acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  for (int i = 0; i < c; i++, x++, w += kPanel) {
    const __m256 left = _mm256_loadu_ps(w), right = _mm256_loadu_ps(w + kLanes);
    QB_UNROLL for (int t = 0; t < kTiles; t++) {
      const __m256 value = _mm256_broadcast_ss(x + std::int64_t(t) * c);
      acc[t][0] = _mm256_fmadd_ps(value, left, acc[t][0]);
      acc[t][1] = _mm256_fmadd_ps(value, right, acc[t][1]);
    }
  }
  QB_UNROLL for (int t = 0; t < kTiles; t++) {
    _mm256_storeu_ps(to + t * kPanel, acc[t][0]);
    _mm256_storeu_ps(to + t * kPanel + kLanes, acc[t][1]);
  }
}

QB_INLINE __m256 finished(__m256 v, const FloatTail& tail, int channel, std::int64_t at) {
  if (tail.bias) v = _mm256_add_ps(v, _mm256_loadu_ps(tail.bias + channel));
  if (tail.add) v = _mm256_add_ps(v, _mm256_loadu_ps(tail.add + at));
  if (tail.relu) v = _mm256_max_ps(_mm256_setzero_ps(), v);  // in this order NaN stays
  return v;
}

// The outputs of one tile that lie inside the image, kLanes channels of them. `sums`: at its first
// position.
QB_INLINE void store(const FloatConv& s, const float* sums, int down, int across, int channel,
                     const FloatTail& tail, std::int64_t at, float* y) {
  __m256 out[4];
  transform_outputs(sums, kChunk * kPanel, out);
  for (int i = 0; i < 2 && 2 * down + i < s.h; i++)
    for (int j = 0; j < 2 && 2 * across + j < s.w; j++) {
      const std::int64_t to =
          at + (std::int64_t(2 * down + i) * s.w + 2 * across + j) * s.k + channel;
      _mm256_storeu_ps(y + to, finished(out[2 * i + j], tail, channel, to));
    }
}

}  // namespace

// To [panel][position][input channel][kPanel].
void avx2_float_pack(const FloatConv& s, const float* filter, float* to) {
  const std::int64_t place = std::int64_t(s.c) * kPanel, step = std::int64_t(s.c) * s.k;
  for (int k = 0; k < s.k; k += kPanel, to += kPlaces * place)
    for (int c = 0; c < s.c; c++)
      for (int q = 0; q < kPanel; q += kLanes)
        transform_weights(filter + std::int64_t(c) * s.k + k + q, step, to + c * kPanel + q, place);
}

void avx2_float_image(const FloatConv& s, const float* x, const float* packed,
                      const FloatTail& tail, std::int64_t at, float* y, float* scratch) {
  const Tiles tiles(s);
  const std::int64_t place = std::int64_t(s.c) * kPanel;
  float *inputs = scratch, *sums = scratch + std::int64_t(kPlaces) * kChunk * s.c;
  for (int first = 0; first < tiles.count(); first += kChunk) {
    const int count = std::min(kChunk, tiles.count() - first);
    transform_images(s, x, first, count, inputs);
    const float* w = packed;
    for (int k = 0; k < s.k; k += kPanel) {
      for (int p = 0; p < kPlaces; p++, w += place)
        for (int t = 0; t < count; t += kTiles)
          multiply(s.c, inputs + (std::int64_t(p) * kChunk + t) * s.c, w,
                   sums + (p * kChunk + t) * kPanel);
      for (int t = 0; t < count; t++)
        for (int q = 0; q < kPanel; q += kLanes)
          store(s, sums + t * kPanel + q, (first + t) / tiles.across, (first + t) % tiles.across,
                k + q, tail, at, y);
    }
  }
}

}  // namespace qb
QB_TARGET_END
#endif
