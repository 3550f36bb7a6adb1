// Winograd on AVX-VNNI: the transforms of AVX2, and bytes without runs. Words would multiply (by
// vpdpwssd) half as many at a time as bytes do: of 2.25 times fewer an eighth would be left.
#include "kernels/avxvnni/set.h"

#if QB_X86
#include "kernels/avx2/winograd.h"
#include "kernels/avxvnni/gemm.h"

QB_TARGET_BEGIN(QB_AVXVNNI)
namespace qb {
namespace {

template <int P>
void multiply(const WinogradLayer& l, const std::int32_t* start, const std::uint8_t* x,
              const std::int8_t* weight, std::int32_t* sums) {
  __m256i acc[P][2];
  QB_UNROLL for (int i = 0; i < 2 * P; i++)
    acc[i / 2][i % 2] = load(start + i % 2 * 8);
  accumulate<P>(acc, x, kBlock, l.offset, weight, l.steps / 4, l.steps % 4);
  QB_UNROLL for (int i = 0; i < 2 * P; i++)
    store(sums + 8 * i, acc[i / 2][i % 2]);
}

}  // namespace

void avxvnni_winograd(const WinogradLayer& l, const WinogradCall& call) {
  constexpr Multiply kMultiply[] = {multiply<1>, multiply<2>, multiply<3>,
                                    multiply<4>, multiply<5>, multiply<6>};
  go_through(l, call, kMultiply);
}

}  // namespace qb
QB_TARGET_END
#endif
