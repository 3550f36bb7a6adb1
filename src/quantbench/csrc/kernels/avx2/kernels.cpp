// Operators without weights on AVX2, and the table of the set's kernels.
#include <cstddef>

#include "kernels/avx2/set.h"
#include "kernels/finish.h"

#if QB_X86
#include <immintrin.h>

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

#include "kernels/rows.h"
// clang-format off: behind rows.h
#include "kernels/avx2/lrn.h"
// clang-format on

bool conv_fits(const ConvLayer&) { return true; }

std::int64_t multiply(std::int64_t rounds) {
  constexpr int kChains = 8;
  const __m256i x = _mm256_set1_epi8(3), w = _mm256_set1_epi8(-1), one = _mm256_set1_epi16(1);
  __m256i acc[kChains];
  QB_UNROLL for (int i = 0; i < kChains; i++)
    acc[i] = _mm256_setzero_si256();
  for (std::int64_t r = 0; r < rounds; r++) QB_UNROLL
    for (int i = 0; i < kChains; i++) {
      __m256i input = x;
      asm volatile("" : "+x"(input));  // otherwise the product leaves the loop
      acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(input, w), one));
    }
  QB_UNROLL for (int i = 0; i < kChains; i++)
    asm volatile("" : : "x"(acc[i]));
  return rounds * kChains * 32;
}

constexpr TileShape kShapes[] = {{1, 1}, {2, 1}, {3, 1}, {4, 1}};

// Products of a run, and what every step takes: fitted to a micro-benchmark on a Zen 3 core.
double step_cost(int pixels, int) { return 0.1 + 0.5 * pixels; }
double column_cost(int) { return 1e30; }

constexpr ConvModel kModel = {
    .shapes = kShapes,
    .shape_count = sizeof kShapes / sizeof kShapes[0],
    .step = step_cost,
    .column_step = column_cost,
    .runs = true,
    .direct = {.store = 1.0, .weight = 0.03},
    .winograd = {.call = 10.0, .inputs = 10.0, .outputs = 25.0, .weight = 0.06},
    .words = {.call = 4.0, .inputs = 10.0, .outputs = 20.0, .weight = 0.04},
};

}  // namespace

extern const Kernels kAvx2;
const Kernels kAvx2 = {
    .name = "avx2",
    .model = kModel,
    .conv_fits = conv_fits,
    .conv = avx2_conv,
    .winograd = avx2_winograd,
    .depthwise = avx2_depthwise,
    .linear = avx2_linear,
    .quantize = rows_quantize,
    .interleave = rows_interleave,
    .lut = rows_lut,
    .add = rows_add,
    .max_pool = rows_max_pool,
    .avg_pool = rows_avg_pool,
    .lrn = avx2_lrn,
    .multiply = multiply,
};

}  // namespace qb
QB_TARGET_END

namespace qb {

const Kernels* avx2_kernels() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") ? &kAvx2 : nullptr;
}

}  // namespace qb
#else
namespace qb {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace qb
#endif
