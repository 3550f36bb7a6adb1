// Float convolution on AVX2 with FMA, as Winograd F(2x2, 3x3): tiles of 2x2 outputs Y from 4x4
// inputs d, with 16 products a channel where the sum has 36 (Lavin and Gray 2016, section 4.1):
//
//   Y = A^T [ (G g G^T) * (B^T d B) ] A
//
//           1  0 -1  0             2  0  0
//   B^T  =  0  1  1  0     2 G  =  1  1  1     A^T  =  1  1  1  0
//           0 -1  1  0             1 -1  1             0  1 -1 -1
//           0  1  0 -1             0  0  2
//
// and, as derivatives of a sum of products, the filter's gradient
//
//   dg = G^T [ sum over tiles (B^T d B) * (A dY A^T) ] G.
//
// Errors stay within a small factor of those of the sum itself: transforms add at most four
// numbers, and divide by 2 and 4 only. An input that is not finite spoils whole tiles.
//
// Each of the 16 positions is a matrix product, of a chunk of tiles: sixteen registers hold 4 tiles
// x 16 channels, as many sums as two products a cycle of four cycles each need.
#pragma once

#include "base/target.h"
#include "float/kernels.h"

#define QB_FLOAT_AVX2 "avx2,fma"

namespace qb {

constexpr int kLanes = 8;
constexpr int kPanel = 16;   // output channels of a tile of registers: all have a multiple of it
constexpr int kTiles = 4;    // its tiles of outputs, or its input channels
constexpr int kPlaces = 16;  // positions of a transformed tile
constexpr int kChunk = 16;   // tiles that are transformed together: a multiple of kTiles

// Tiles of an image, and the rows and columns of its copy: an odd one has one more of zeros.
struct Tiles {
  int down, across, rows, columns;

  explicit Tiles(const FloatConv& s)
      : down((s.h + 1) / 2), across((s.w + 1) / 2), rows(2 * down + 2), columns(2 * across + 2) {}
  int count() const { return down * across; }
};

void avx2_float_pack(const FloatConv&, const float* filter, float* to);
void avx2_float_image(const FloatConv&, const float* x, const float* packed, const FloatTail&,
                      std::int64_t at, float* y, float* scratch);
void avx2_float_gradient(const FloatConv&, const float* x, const float* dy, float* sums,
                         float* scratch);
void avx2_float_unpack(const FloatConv&, const float* sums, float* dfilter);
void avx2_float_copy(const FloatConv&, int c, const float* x, const float* above, float* to);

}  // namespace qb
