// The table of a set's kernels; operators without weights are the plain loops of rows.h. Included
// by each set inside its namespace: no include guard on purpose.

#include "kernels/rows.h"

std::int64_t multiply(std::int64_t rounds) {
  constexpr int kChains = 16;
  const Input x = shifted(vdupq_n_u8(3));
  const int8x16_t w = vdupq_n_s8(-1);
  int32x4_t acc[kChains];
  QB_UNROLL for (int i = 0; i < kChains; i++)
    acc[i] = vdupq_n_s32(0);
  for (std::int64_t r = 0; r < rounds; r++) QB_UNROLL
    for (int i = 0; i < kChains; i++) {
      acc[i] = add_products(acc[i], w, x);
      asm volatile("" : "+w"(acc[i]));  // otherwise the products leave the loop
    }
  return rounds * kChains * 16;
}

// By counting instructions, two a cycle: no such machine has been measured.
constexpr double step_cost(int pixels, int blocks) {
  return blocks * (2.0 * pixels + 2.0 * ((pixels + 3) / 4));
}
constexpr double column_cost(int) { return 1e9; }  // never: see conv_fits

constexpr Kernels table(const char* name) {
  return {
      .name = name,
      .model = {.shapes = kAnyShapes,
                .shape_count = sizeof kAnyShapes / sizeof kAnyShapes[0],
                .step = step_cost,
                .column_step = column_cost,
                .direct = {.store = 4.0, .weight = 0.03},
                .winograd = {}},
      .conv_fits = conv_fits,
      .conv = conv,
      .winograd = nullptr,
      .depthwise = depthwise,
      .linear = linear,
      .quantize = rows_quantize,
      .interleave = rows_interleave,
      .lut = rows_lut,
      .add = rows_add,
      .max_pool = rows_max_pool,
      .avg_pool = rows_avg_pool,
      .lrn = rows_lrn,
      .multiply = multiply,
  };
}
