// Kernels for 64-bit Arm with usdot: ARMv8.6, or i8mm before it.
#include <cstddef>

#include "kernels/arm64/set.h"
#include "kernels/finish.h"

#if QB_ARM64
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

QB_TARGET_BEGIN("arch=armv8.2-a+dotprod+i8mm")
namespace qb {
namespace {

using Input = uint8x16_t;  // codes of four steps, or of one step four times
constexpr int kShift = 0;

QB_INLINE Input shifted(uint8x16_t codes) { return codes; }

// acc += w . x, of step Lane of x.
template <int Lane>
QB_INLINE int32x4_t add_step(int32x4_t acc, int8x16_t w, Input x) {
  return vsudotq_laneq_s32(acc, w, x, Lane);
}

// Each output with inputs of its own.
QB_INLINE int32x4_t add_products(int32x4_t acc, int8x16_t w, Input x) {
  return vusdotq_s32(acc, x, w);
}

#include "kernels/arm64/sums.h"  // what the others are made of

#include "kernels/arm64/conv.h"
#include "kernels/arm64/depthwise.h"
#include "kernels/arm64/linear.h"
#include "kernels/arm64/table.h"

}  // namespace

extern const Kernels kArm64I8mm;
const Kernels kArm64I8mm = table("arm64_i8mm");

}  // namespace qb
QB_TARGET_END

namespace qb {

const Kernels* arm64_i8mm_kernels() {
#if defined(__linux__)
  constexpr unsigned long kI8mm = 1UL << 13;  // HWCAP2_I8MM, which older headers do not name
  return getauxval(AT_HWCAP) & HWCAP_ASIMDDP && getauxval(AT_HWCAP2) & kI8mm ? &kArm64I8mm
                                                                             : nullptr;
#else
  return nullptr;  // nobody has asked another system yet
#endif
}

}  // namespace qb
#else
namespace qb {
const Kernels* arm64_i8mm_kernels() { return nullptr; }
}  // namespace qb
#endif
