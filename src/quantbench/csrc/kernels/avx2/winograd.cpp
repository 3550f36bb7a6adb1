// Winograd on AVX2 (winograd.h): bytes in runs, or words.
//
// Words are for codes and weights of 8 bits. A multiplication (vpmaddwd) is of 16 products then,
// half of what one of bytes is; but it adds them up in int32, and there are 2.25 times fewer. Of
// four inputs, 16 outputs and a pixel a direct convolution takes 3 to 4 multiplications of 6 to 8
// instructions (pairing.cpp), this one 1.8 of 4.4.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/gemm.h"
#include "kernels/avx2/winograd.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

template <int P>
void multiply_words_of(const WinogradLayer& l, const std::int32_t* start, const std::uint8_t* x,
                       const std::int8_t* weight, std::int32_t* sums) {
  __m256i acc[P][2];
  QB_UNROLL for (int i = 0; i < 2 * P; i++)
    acc[i / 2][i % 2] = load(start + i % 2 * 8);
  for (int k = 0; k < l.steps; k++, weight += 64) {
    const std::uint8_t* from = x + l.offset[k];
    const __m256i w0 = fetch(weight), w1 = fetch(weight + 32);
    QB_UNROLL for (int p = 0; p < P; p++) {
      const __m256i t = broadcast(from + p * 2 * kBlock);
      add(acc[p][0], multiply_words(t, w0)), add(acc[p][1], multiply_words(t, w1));
    }
  }
  QB_UNROLL for (int i = 0; i < 2 * P; i++)
    store(sums + 8 * i, acc[i / 2][i % 2]);
}

template <int P>
void multiply_bytes_of(const WinogradLayer& l, const std::int32_t* start, const std::uint8_t* x,
                       const std::int8_t* weight, std::int32_t* sums) {
  QB_UNROLL for (int i = 0; i < 2 * P; i++)
    store(sums + 8 * i, load(start + i % 2 * 8));
  At at{x, kBlock, l.offset, weight};
  add_long_runs<P>(sums, at, l.length, l.runs);
}

}  // namespace

void avx2_winograd(const WinogradLayer& l, const WinogradCall& call) {
  constexpr Multiply kMultiply[2][4] = {
      {multiply_bytes_of<1>, multiply_bytes_of<2>, multiply_bytes_of<3>, multiply_bytes_of<4>},
      {multiply_words_of<1>, multiply_words_of<2>, multiply_words_of<3>, multiply_words_of<4>}};
  go_through(l, call, kMultiply[l.width == 2]);
}

}  // namespace qb
QB_TARGET_END
#endif
