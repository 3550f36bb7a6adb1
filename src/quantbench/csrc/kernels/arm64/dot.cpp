// Kernels for 64-bit Arm with sdot: ARMv8.2 and its dot product.
#include <cstddef>

#include "kernels/arm64/set.h"
#include "kernels/finish.h"

#if QB_ARM64
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

QB_TARGET_BEGIN("arch=armv8.2-a+dotprod")
namespace qb {
namespace {

using Input = int8x16_t;     // codes of four steps, or of one step four times, less kShift
constexpr int kShift = 128;  // flips the upper bit

QB_INLINE Input shifted(uint8x16_t codes) {
  return vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(kShift)));
}

// acc += w . x, of step Lane of x.
template <int Lane>
QB_INLINE int32x4_t add_step(int32x4_t acc, int8x16_t w, Input x) {
  return vdotq_laneq_s32(acc, w, x, Lane);
}

// Each output with inputs of its own.
QB_INLINE int32x4_t add_products(int32x4_t acc, int8x16_t w, Input x) {
  return vdotq_s32(acc, w, x);
}

#include "kernels/arm64/sums.h"  // what the others are made of

#include "kernels/arm64/conv.h"
#include "kernels/arm64/depthwise.h"
#include "kernels/arm64/linear.h"
#include "kernels/arm64/table.h"

}  // namespace

extern const Kernels kArm64Dot;
const Kernels kArm64Dot = table("arm64_dot");

}  // namespace qb
QB_TARGET_END

namespace qb {

const Kernels* arm64_dot_kernels() {
#if defined(__linux__)
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? &kArm64Dot : nullptr;
#else
  return nullptr;  // nobody has asked another system yet
#endif
}

}  // namespace qb
#else
namespace qb {
const Kernels* arm64_dot_kernels() { return nullptr; }
}  // namespace qb
#endif
