// Operators without weights on AVX-512, and the table of the set's kernels.
#include <cstddef>

#include "kernels/avx512/set.h"
#include "kernels/finish.h"

#if QB_X86
#include <immintrin.h>

QB_TARGET_BEGIN(QB_AVX512)
namespace qb {
namespace {
#include "kernels/rows.h"

bool quantize_row(const float* t, std::int64_t n, float scale, int zero, int lo, int hi,
                  std::uint8_t* y) {
  const __m512 s = _mm512_set1_ps(scale), low = _mm512_set1_ps(float(lo - zero)),
               high = _mm512_set1_ps(float(hi - zero));
  const __m512i offset = _mm512_set1_epi32(zero);
  __mmask16 bad = 0;
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 v = _mm512_loadu_ps(t + i);
    bad = __mmask16(bad | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
    const __m512 q = _mm512_min_ps(_mm512_max_ps(_mm512_div_ps(v, s), low), high);
    const __m512i codes = _mm512_add_epi32(_mm512_cvtps_epi32(q), offset);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i), _mm512_cvtepi32_epi8(codes));
  }
  return rows_quantize(t + i, n - i, scale, zero, lo, hi, y + i) && !bad;
}

// 1 / sqrt(x): 14 bits from a table, one step of Newton's method.
QB_INLINE __m512 inverse_root(__m512 x) {
  const __m512 y = _mm512_rsqrt14_ps(x), half = _mm512_mul_ps(_mm512_set1_ps(0.5f), x);
  return _mm512_mul_ps(
      y, _mm512_sub_ps(_mm512_set1_ps(1.5f), _mm512_mul_ps(half, _mm512_mul_ps(y, y))));
}

QB_INLINE __m512 distances(const std::uint8_t* codes, __m512i zero) {
  const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(q), zero));
}

// The definition is in binary64, and slow. Here t is computed in binary32 first, to a relative
// error below 2^-20 (about twelve roundings of 2^-24 each, and 2^-27 from each inverse root). Where
// t - e and t + e, with e = 2^-18 |t|, round to the same code, that is the code; the few others are
// computed again as the definition says.
void lrn(const LrnTerms& k, const View& x, const View& y, int pixels, std::uint8_t* scratch) {
  const int blocks = (k.channels + kBlock - 1) / kBlock, window = k.before + k.after + 1;
  const bool sane = k.k > 1e-6 && k.k < 1e6 && k.ratio > 1e-6 && k.ratio < 1e6 && k.alpha < 1e6 &&
                    (k.alpha > 1e-20 || k.alpha == 0) &&
                    window <= 256;  // sums of squares are then exact in binary32
  if (!sane) return rows_lrn(k, x, y, pixels, scratch);
  float* squares = reinterpret_cast<float*>(scratch);
  for (std::int64_t i = 0; i < std::int64_t(blocks) * kBlock + window - 1; i++) squares[i] = 0;
  const __m512i x_zero = _mm512_set1_epi32(k.x_zero), zero = _mm512_set1_epi32(k.zero);
  const __m512 low = _mm512_set1_ps(float(k.lo - k.zero)),
               high = _mm512_set1_ps(float(k.hi - k.zero));
  const __m512 alpha = _mm512_set1_ps(float(k.alpha)), base = _mm512_set1_ps(float(k.k));
  const __m512 ratio = _mm512_set1_ps(float(k.ratio)), error = _mm512_set1_ps(0x1p-18f);
  const __mmask16 tail = __mmask16((1u << ((k.channels - 1) % kBlock + 1)) - 1);
  for (int p = 0; p < pixels; p++) {
    const std::uint8_t* from = x.data + p * std::int64_t(kBlock);
    for (int b = 0; b < blocks; b++) {
      const __m512 d = distances(from + b * x.plane, x_zero);
      _mm512_mask_storeu_ps(squares + k.before + b * kBlock, b + 1 < blocks ? 0xFFFF : tail,
                            _mm512_mul_ps(d, d));
    }
    for (int b = 0; b < blocks; b++) {
      __m512 sum = _mm512_loadu_ps(squares + b * kBlock);
      for (int j = 1; j < window; j++)
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(squares + b * kBlock + j));
      const __m512 u = _mm512_add_ps(base, _mm512_mul_ps(alpha, sum));
      const __m512 root = inverse_root(u);                                                // u^-1/2
      const __m512 power = _mm512_mul_ps(_mm512_mul_ps(root, root), inverse_root(root));  // u^-3/4
      const __m512 t =
          _mm512_mul_ps(_mm512_mul_ps(distances(from + b * x.plane, x_zero), ratio), power);
      const __m512 e = _mm512_mul_ps(_mm512_abs_ps(t), error);
      const __m512i down =
          _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_sub_ps(t, e), low), high));
      const __m512i up =
          _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(_mm512_add_ps(t, e), low), high));
      std::uint8_t* to = y.data + b * y.plane + p * std::int64_t(kBlock);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                       _mm512_cvtepi32_epi8(_mm512_add_epi32(down, zero)));
      for (unsigned unsure = _mm512_cmpneq_epi32_mask(down, up); unsure; unsure &= unsure - 1) {
        const int i = __builtin_ctz(unsure);
        double squared = 0;
        for (int j = 0; j < window; j++) squared += double(squares[b * kBlock + i + j]);
        to[i] = lrn_code(k, int(from[b * x.plane + i]) - k.x_zero, squared);
      }
    }
  }
}

std::int64_t multiply(std::int64_t rounds) {
  // More than the latency of a product times those that start in a cycle.
  constexpr int kChains = 16;
  const __m512i x = _mm512_set1_epi8(3), w = _mm512_set1_epi8(-1);
  __m512i acc[kChains];
  QB_UNROLL for (int i = 0; i < kChains; i++)
    acc[i] = _mm512_setzero_si512();
  for (std::int64_t r = 0; r < rounds; r++) QB_UNROLL
    for (int i = 0; i < kChains; i++)
      asm volatile("vpdpbusd %2, %1, %0" : "+v"(acc[i]) : "v"(x), "v"(w));
  return rounds * kChains * 64;
}

constexpr TileShape kShapes[] = {
#define QB_TILE(P, B) {P, B},
#include "kernels/avx512/tiles.h"
#undef QB_TILE
};

// Loads, products, and what every step takes: fitted to a micro-benchmark on an Ice Lake server.
double step_cost(int pixels, int blocks) {
  return 0.216 * (pixels + blocks) + 0.066 * pixels * blocks + 0.73 + (blocks == 4 ? 0.4 : 0);
}

// One load serves three products: what remains are the products, and of few pixels their latency,
// since the three of a sum wait for each other.
double column_cost(int pixels) {
  const double products = 0.2 * pixels, latency = 1.7 + 0.05 * pixels;
  return products > latency ? products : latency;
}

constexpr ConvModel kModel = {
    .shapes = kShapes,
    .shape_count = sizeof kShapes / sizeof kShapes[0],
    .step = step_cost,
    .column_step = column_cost,
    .direct = {.store = 1.0, .weight = 0.03},
    // Weights are streamed, where those of the direct form stay in the cache. What surrounds the
    // steps was fitted on a Zen 5 core, to the choice that is faster at one image: ResNet-20's
    // layers of 32 and 64 channels, ResNet-18's but the last.
    .winograd = {.call = 8.0, .inputs = 4.0, .outputs = 9.0, .weight = 0.058},
};

}  // namespace

extern const Kernels kAvx512;
const Kernels kAvx512 = {
    .name = "avx512",
    .model = kModel,
    .conv_fits = avx512_conv_fits,
    .conv = avx512_conv,
    .winograd = avx512_winograd,
    .depthwise = avx512_depthwise,
    .linear = avx512_linear,
    .quantize = quantize_row,
    .interleave = rows_interleave,
    .lut = rows_lut,
    .add = rows_add,
    .max_pool = rows_max_pool,
    .avg_pool = rows_avg_pool,
    .lrn = lrn,
    .multiply = multiply,
};

}  // namespace qb
QB_TARGET_END

namespace qb {

const Kernels* avx512_kernels() {
  __builtin_cpu_init();
  const bool runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni");
  return runs ? &kAvx512 : nullptr;
}

}  // namespace qb
#else
namespace qb {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace qb
#endif
