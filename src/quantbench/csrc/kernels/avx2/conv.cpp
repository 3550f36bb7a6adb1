// Convolution on AVX2: implicit GEMM. A tile of up to four pixels of one block of 16 output
// channels lives in registers.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/gemm.h"
#include "kernels/avx2/tiles.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

// All steps of a strip, in the order of its runs.
template <int P>
QB_INLINE void add_strip(__m256i (*acc)[2], const Runs& runs, const Place& place,
                         std::int64_t x_step) {
  At at{place.x, x_step, runs.offset, runs.weight};
  const __m256i ones = _mm256_set1_epi16(1);
  add_runs_of_one<P, false>(acc, at, runs.ones[0], ones);
  add_runs_of_one<P, true>(acc, at, runs.ones[1], ones);
  add_runs_of_two<P, kFlipped[0]>(acc, at, runs.twos[0], ones);
  add_runs_of_two<P, kFlipped[1]>(acc, at, runs.twos[1], ones);
  add_runs_of_two<P, kFlipped[2]>(acc, at, runs.twos[2], ones);
  add_runs_of_two<P, kFlipped[3]>(acc, at, runs.twos[3], ones);
  add_runs_of_two<P, kFlipped[4]>(acc, at, runs.twos[4], ones);
  if (!runs.longs) return;
  alignas(32) std::int32_t sums[P * kBlock];
  QB_UNROLL for (int i = 0; i < 2 * P; i++)
    store(sums + 8 * i, acc[i / 2][i % 2]);
  add_long_runs<P>(sums, at, runs.length, runs.longs);
  QB_UNROLL for (int i = 0; i < 2 * P; i++)
    acc[i / 2][i % 2] = load(sums + 8 * i);
}

template <int P>
void tiles(const ConvLayer& l, int strip, Place place, int count) {
  const int channel = l.strips[strip].block * kBlock;
  const Channel c(l.out, channel);
  for (; count > 0; count--) {
    __m256i acc[P][2];
    start_tile<P>(l, channel, acc);
    add_strip<P>(acc, l.runs[strip], place, l.x_step);
    finish_tile<P>(l, channel, c, acc, place);
    place.x += P * l.x_step, place.y += P * place.y_pixel, place.r += P * place.r_pixel;
  }
}

}  // namespace

void avx2_conv(const ConvLayer& l, const ConvCall& call) {
  constexpr Tiles kTiles[] = {tiles<1>, tiles<2>, tiles<3>, tiles<4>};
  go_through(l, call, kTiles);
}

}  // namespace qb
QB_TARGET_END
#endif
