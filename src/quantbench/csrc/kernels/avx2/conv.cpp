// Convolution on AVX2: implicit GEMM. A tile of up to four pixels of one block of 16 output
// channels lives in registers.
#include "kernels/avx2/set.h"

#if QB_X86
#include "kernels/avx2/gemm.h"
#include "kernels/avx2/requant.h"

QB_TARGET_BEGIN(QB_AVX2)
namespace qb {
namespace {

struct Place {  // of a tile of one block in its tensors
  const std::uint8_t* x;
  std::uint8_t* y;
  const std::uint8_t* r;
  std::int64_t y_pixel, r_pixel;
};

template <int P, bool Residual>
QB_INLINE void finish(const Channel& c, __m256i (*acc)[2], const Place& at) {
  QB_UNROLL for (int p = 0; p < P; p += 2) {
    __m256i q[2];
    QB_UNROLL for (int i = 0; i < 2; i++) {
      const int pixel = p + i < P ? p + i : p;
      q[i] = Residual ? c.round_sum(acc[pixel][0], acc[pixel][1], at.r + pixel * at.r_pixel)
                      : c.round(acc[pixel][0], acc[pixel][1]);
    }
    store_pixels(at.y + p * kBlock, c.codes(q[0], q[1]), P - p);
  }
}

template <int P>
QB_INLINE void tile(const ConvLayer& l, const Runs& runs, int channel, const Channel& c,
                    const Place& place) {
  __m256i acc[P][2];
  QB_UNROLL for (int h = 0; h < 2; h++) {
    const __m256i bias = load(l.bias + channel + 8 * h);
    QB_UNROLL for (int p = 0; p < P; p++)
      acc[p][h] = bias;
  }
  At at{place.x, l.x_step, runs.offset, runs.weight};
  add_word_steps<P>(acc, at, runs.words);
  const __m256i ones = _mm256_set1_epi16(1);
  add_runs_of_one<P, 0>(acc, at, runs.paired[0], ones);
  add_runs_of_one<P, 1>(acc, at, runs.paired[1], ones);
  add_runs_of_one<P>(acc, at, runs.ones, ones);
  add_runs_of_two<P>(acc, at, runs.twos, ones);
  if (runs.longs) {
    alignas(32) std::int32_t sums[P * kBlock];
    QB_UNROLL for (int i = 0; i < 2 * P; i++)
      store(sums + 8 * i, acc[i / 2][i % 2]);
    add_long_runs<P>(sums, at, runs.length, runs.longs);
    QB_UNROLL for (int i = 0; i < 2 * P; i++)
      acc[i / 2][i % 2] = load(sums + 8 * i);
  }
  if (l.out.floats) {
    for (int p = 0; p < P; p++) finish_one(l.out, channel, acc[p], place.y + p * place.y_pixel);
  } else if (l.out.residual) {
    finish<P, true>(c, acc, place);
  } else {
    finish<P, false>(c, acc, place);
  }
}

// `count` tiles of P pixels, side by side.
template <int P>
void tiles(const ConvLayer& l, const Runs& runs, int channel, Place place, int count) {
  const Channel c(l.out, channel);
  for (; count > 0; count--) {
    tile<P>(l, runs, channel, c, place);
    place.x += P * l.x_step, place.y += P * place.y_pixel, place.r += P * place.r_pixel;
  }
}

}  // namespace

void avx2_conv(const ConvLayer& l, const ConvCall& call) {
  constexpr decltype(&tiles<1>) kTiles[] = {tiles<1>, tiles<2>, tiles<3>, tiles<4>};
  const Runs& runs = l.runs[call.strip];
  const int block = l.strips[call.strip].block, in_row = l.tile_count[1];
  for (std::int64_t i = call.first; i < call.last;) {
    const std::int64_t row = i / in_row;
    const Tile* at = l.tiles[1] + i % in_row;
    const std::int64_t end = (row + 1) * in_row < call.last ? (row + 1) * in_row : call.last;
    int count = 1;
    for (; i + count < end && at[count].pixels == at->pixels &&
           at[count].x == at[count - 1].x + at->pixels;)
      count++;
    Place place{call.x.data + row * l.y_step + at->x * l.x_step,
                call.y.data + block * call.y.plane + row * call.y.row + at->x * call.y.pixel,
                call.y.data, call.y.pixel, 0};
    if (l.out.residual) {
      place.r = call.r.data + block * call.r.plane + row * call.r.row + at->x * call.r.pixel;
      place.r_pixel = call.r.pixel;
    }
    kTiles[at->pixels - 1](l, runs, block * kBlock, place, count);
    i += count;
  }
}

}  // namespace qb
QB_TARGET_END
#endif
