// The table of the float kernels of AVX2, and how an image is copied for them.
#include "float/avx2/set.h"

#if QB_X86
#include <immintrin.h>

QB_TARGET_BEGIN(QB_FLOAT_AVX2)
namespace qb {

void avx2_float_copy(const FloatConv& s, int c, const float* x, const float* above, float* to) {
  const std::int64_t row = std::int64_t(s.w) * c, bordered = std::int64_t(Tiles(s).columns) * c;
  for (int y = 0; y < s.h; y++)
    for (std::int64_t i = 0; i < row; i += kLanes) {
      __m256 v = _mm256_loadu_ps(x + y * row + i);
      if (above) {
        const __m256 a = _mm256_loadu_ps(above + y * row + i);
        v = _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NLE_UQ), v);
      }
      _mm256_storeu_ps(to + (y + 1) * bordered + c + i, v);
    }
}

}  // namespace qb
QB_TARGET_END

namespace qb {
namespace {

std::int64_t copied(const FloatConv& s, int c) {
  const Tiles tiles(s);
  return std::int64_t(tiles.rows) * tiles.columns * c;
}

// Transformed inputs; beside them a panel's sums, or the gradients and a copy of the image.
std::int64_t scratch(const FloatConv& s) {
  const std::int64_t beside = s.k > kPanel ? s.k : kPanel;
  return std::int64_t(kPlaces) * kChunk * (s.c + beside) + copied(s, s.c);
}

std::int64_t places(const FloatConv& s) { return std::int64_t(kPlaces) * s.c * s.k; }

constexpr FloatKernels kAvx2{
    .name = "avx2",
    .copied = copied,
    .copy = avx2_float_copy,
    .packed = places,
    .pack = avx2_float_pack,
    .scratch = scratch,
    .image = avx2_float_image,
    .sums = places,
    .filter_gradient = avx2_float_gradient,
    .unpack = avx2_float_unpack,
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
