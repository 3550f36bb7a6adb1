// The table of AVX-VNNI (256-bit vpdpbusd): client processors since 2021, and servers beside their
// AVX-512. It is that of AVX2 but for convolutions.
#include "kernels/avxvnni/set.h"

#include "kernels/avx2/set.h"

#if QB_X86
#include <cpuid.h>

namespace qb {

const Kernels* avx2_kernels();

namespace {

constexpr TileShape kShapes[] = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}};

// Loads and products, two a cycle: worked out, not measured.
double step_cost(int pixels, int) { return 0.4 + 0.3 * pixels; }
double column_cost(int) { return 1e30; }

constexpr ConvModel kModel = {
    .shapes = kShapes,
    .shape_count = sizeof kShapes / sizeof kShapes[0],
    .step = step_cost,
    .column_step = column_cost,
    .direct = {.store = 1.0, .weight = 0.03},
    .winograd = {.call = 10.0, .inputs = 10.0, .outputs = 25.0, .weight = 0.06},
};

bool runs() {
  // Compilers of 2022 do not know it by name: leaf 7, subleaf 1, bit 4 of eax.
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

// AVX2's table with another convolution.
Kernels with_products(const Kernels& avx2) {
  Kernels k = avx2;
  k.name = "avxvnni", k.model = kModel;
  k.conv = avxvnni_conv;
  k.winograd = avxvnni_winograd;
  k.multiply = avxvnni_multiply;
  return k;
}

}  // namespace

const Kernels* avxvnni_kernels() {
  __builtin_cpu_init();
  if (!runs()) return nullptr;
  static const Kernels kernels = with_products(*avx2_kernels());
  return &kernels;
}

}  // namespace qb
#else
namespace qb {
const Kernels* avxvnni_kernels() { return nullptr; }
}  // namespace qb
#endif
