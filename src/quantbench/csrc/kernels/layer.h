// Plain data that operators prepare once and kernels read: no behaviour, nothing that allocates.
//
// Activations are stored in blocks of 16 channels: image, block, row, column, channel in block; one
// byte a code. A pixel of a block is then 16 bytes, so that neighbouring pixels are at constant
// distances, four of them fill a vector register, and a depthwise filter is a plain vector
// operation. Around each plane lies a halo as wide as the widest padding of any reader, filled with
// the zero point: no kernel ever tests for a border. Channels that only fill up the last block hold
// anything; their weights are zero.
#pragma once

#include <cstdint>

namespace qb {

constexpr int kBlock = 16;  // channels in a block, output channels in a block of weights
constexpr int kStep = 4;    // input channels in one step of a dot product (vpdpbusd)

// One image of a tensor. `data` is row 0, column 0 of block 0, inside the halo; distances are in
// bytes.
struct View {
  std::uint8_t* data;
  std::int64_t plane, row, pixel;
};

// y = clamp(rint(float(acc) * m [+ float(r - r_zero) * ratio]) + zero, lo, hi), per output channel.
struct Requant {
  const float* m;
  const std::uint8_t *lo, *hi;
  int zero;
  bool clamps;  // some lo > 0 or some hi < 255
  bool far;     // some code's sum may be 2^30 or more before it is rounded
  bool residual;
  int r_zero;
  float ratio;
  bool floats;  // no quantization: y = float(acc) * m
};

// Output blocks that read the same steps: quads, four steps on 16 bytes in a row, and then single
// ones.
struct Panel {
  int block, blocks, quads, singles;
  // [quads + singles], bytes from the first tap of the window to the inputs.
  const std::int32_t* offset;
  bool columns;  // three quads at a time lie on neighbouring pixels, and there is nothing else

  int steps() const { return 4 * quads + singles; }
  std::int32_t step_offset(int k) const {
    return k < 4 * quads ? offset[k / 4] + k % 4 * kStep : offset[k - 3 * quads];
  }
};

// A run of output pixels of one row that a kernel holds in registers.
struct Tile {
  int x, pixels;
};

// Where a strip by columns finds its steps. Three quads in a row are those of the filter's three
// columns, so that an input that one column reads is, a pixel further on, an input of the next:
// loaded once, it serves three outputs, if the weights that it meets lie together. Of the panel's
// steps
//
//                   first  second  third  fourth four bytes of a block's channels
//   left column         0       1      2       3
//   middle column       4       5      6       7
//   right column        8       9     10      11
//
// such a strip reads this table downwards: 0, 4, 8, 1, 5, 9, ... Returns the k-th.
constexpr int column_order(int k) {
  const int quads = k / 12 * 3, step = k % 12 / 3, column = k % 3;
  return 4 * (quads + column) + step;
}

// `blocks` output blocks (1 to 4) of a panel, computed together. Weights: [step][block][16
// outputs][4 inputs]; a strip by columns has one block, and steps in the order of column_order.
struct Strip {
  int panel, block, blocks;  // block counts from the layer's first
  const std::int8_t* weight;
  bool columns;

  int cut() const { return columns ? 0 : blocks; }  // which of a layer's cuts of a row
  int step(int k) const { return columns ? column_order(k) : k; }  // whose weights are the k-th
  std::int32_t step_offset(const Panel& p, int k) const { return p.step_offset(step(k)); }
};

constexpr int kStripBlocks = 4;
constexpr int kAccumulators = 28;  // most pixels times blocks of a tile

// The steps of a strip of one block, for sets whose product of bytes adds a pair of them in int16
// and saturates there (vpmaddubsw). A run is a number of steps whose sums of pairs stay in int16
// whatever the codes, so that they are added there, twice as many at a time, before they are
// widened: operators/convolution/runs.h finds runs, and proves them by the weights. Where weights
// are too large for that, a half of a step (8 outputs) has flipped inputs. Steps come in this
// order: runs of one step, plain ones and flipped ones; of two, by what of them is flipped; and
// longer ones, which are plain.
constexpr int kFlips = 5;
// Halves of a run of two that are flipped: 1, 2 those of its first step, 4, 8 of its second.
constexpr int kFlipped[kFlips] = {0, 1, 2, 3, 15};

struct Runs {
  const std::int32_t* offset;  // of every step, bytes from the first tap of the window
  // Of every run [step][16 outputs][4 inputs], without a sign in flipped halves; behind it, of
  // each of these, [8 outputs][4 inputs] to flip the inputs by (exclusive or).
  const std::int8_t* weight;
  int ones[2], twos[kFlips], longs;
  const std::int32_t* length;  // [longs], steps
};

struct ConvLayer {
  int oh, ow;
  // Bytes between the inputs of neighbouring outputs, and of neighbouring rows of outputs.
  std::int64_t x_step, y_step;
  const Panel* panels;
  const Strip* strips;
  int strip_count;
  const Runs* runs;                     // of each strip, for sets that ask for them; else null
  const Tile* tiles[kStripBlocks + 1];  // the cut of a row, by the strip's cut()
  int tile_count[kStripBlocks + 1];
  // Quads, and how many tiles go through them before the next ones, so that weights stay cached.
  int chunk, group;
  const std::int32_t* bias;  // zero points of the input folded in
  Requant out;
};

// One call works on tiles first..last of a strip, counted row by row.
struct ConvCall {
  View x, y, r;  // x.data: the window of output (0, 0), first tap
  int strip;
  std::int64_t first, last;
  std::uint8_t* scratch;  // conv_scratch(layer) bytes
};

// 3x3, stride 1, as Winograd F(2x2, 3x3): tiles of 2x2 outputs Y from 4x4 inputs d, 16 products a
// channel where the sum has 36, one at each position of
//
//   Y = A^T [ (G g G^T) * (B^T d B) ] A
//
//           1  0 -1  0             2  0  0
//   B^T  =  0  1  1  0     2 G  =  1  1  1     A^T  =  1  1  1  0
//           0 -1  1  0             1 -1  1             0  1 -1 -1
//           0  1  0 -1             0  0  2
//
// With integers nothing is lost. Weights are transformed by 2 G, so that sums are four times those
// of the definition, and m is a quarter. Inputs: each row of B^T but the second is a difference, so
// that for codes q <= 63 position (1, 1) is a sum of four codes, 0 .. 252, and all others lie in
// -126 .. 126: `shift`, twice the largest code, is added to them, and they fit an unsigned byte.
// `start` takes its products away again, and holds the bias, four times, at (1, 1): that position
// counts once in each of the four outputs. Codes beyond 63, or larger weights, take words, which
// need no shift: two inputs a step instead of four.
struct WinogradLayer {
  int width;  // bytes of a transformed input, and of a weight: 1, or 2 for words
  int in_blocks, steps, oh, ow, tile_rows, tile_columns;
  int shift;
  int chunk;  // tiles that are transformed together
  // In a position's inputs: of quads and single steps; of every step for sets that ask for runs.
  const std::int32_t* offset;
  const std::int32_t* length;  // [runs], steps of each run, for sets that ask for them (Runs)
  int runs;
  const Tile* tiles[kStripBlocks + 1];  // the cut of a chunk, by blocks of the strip
  int tile_count[kStripBlocks + 1];
  const Strip* strips;  // weight: [position][step][block][16 outputs][4 inputs, or 2]
  int strip_count, out_blocks;
  const std::int32_t* start;  // [position][output], sums before the first product
  Requant out;

  std::int64_t slots() const { return chunk + 4; }  // room for a whole vector of tiles at the end
  // Bytes from one position to the next, an odd number of cache lines; inputs, then sums.
  std::int64_t inputs() const {
    return ((in_blocks * slots() * kBlock * width + 63) / 64 | 1) * 64;
  }
  std::int64_t sums() const { return (std::int64_t(kStripBlocks) * chunk | 1) * 64; }
};

// Tiles first..last, counted over images, rows and columns; strips first..last.
struct WinogradCall {
  View x, y, r;  // of the first image; x.data: the first tile's first input
  std::int64_t x_image, y_image, r_image;
  std::int64_t first, last;
  int first_strip, last_strip;
  std::uint8_t* scratch;  // winograd_scratch(layer) bytes
};

// Depthwise: one filter a channel. Weights: [block][row group][column][16 channels][4 rows], zero
// below the filter.
struct DepthwiseLayer {
  int blocks, oh, ow, kh, kw, groups;  // groups of four filter rows
  int sx, dx;                          // in pixels
  std::int64_t sy, dy;                 // in bytes
  const std::int8_t* weight;
  // 3 rows, stride 1: the filter one row lower, for the second of two output rows.
  const std::int8_t* shifted;
  const std::int32_t* bias;
  Requant out;
};

// Linear layer. Weights: [group of 4 blocks][step][block][16 outputs][4 inputs], packed by `bits`
// (8, 4 or 2).
struct LinearLayer {
  int blocks, steps;  // steps: a multiple of 8 / bits, filled up with zeros
  int inputs;
  int bits;
  const std::uint8_t* weight;
  const std::int8_t* levels;  // [16]: weight of each 4- or 2-bit index
  const std::int32_t* bias;
  const std::int32_t* weight_zero;  // null when zero everywhere: acc -= weight_zero * sum(x)
  Requant out;
};

}  // namespace qb
