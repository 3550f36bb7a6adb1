// What the convolution kernels of an instruction set have code for, and how long they take: by
// this, operators cut rows into tiles and choose between forms of a convolution. Whatever is
// chosen, codes are the same.
#pragma once

namespace qb {

// Outputs that a kernel holds in registers: pixels of a row, times blocks of 16 output channels.
struct TileShape {
  int pixels, blocks;
};

// Nanoseconds, of which only ratios matter.
struct ConvModel {
  // One of a single pixel for each of 1 to 4 blocks, so that every row can be cut.
  const TileShape* shapes;
  int shape_count;
  double (*step)(int pixels, int blocks);  // one step of a tile
  double (*column_step)(int pixels);       // of a tile by columns (layer.h), of one block
  bool runs = false;                       // whether `conv` reads runs (layer.h)

  struct Direct {
    double store;   // a pixel of a block
    double weight;  // a weight
  } direct;

  struct Winograd {  // what surrounds its steps, where there is such a kernel
    double call;     // for each tile and position
    double inputs;   // transforming a tile of an input block
    double outputs;  // of an output block
    double weight;
  } winograd;
  // The same in words, for what does not fit bytes; `call` is 0 where there is no such kernel.
  Winograd words = {};
};

// Of kernels that go through any tile a few pixels at a time, and so care little how rows are cut.
// clang-format off
inline constexpr TileShape kAnyShapes[] = {
    {1, 1}, {2, 1}, {4, 1}, {8, 1}, {14, 1}, {16, 1}, {28, 1},
    {1, 2}, {2, 2}, {4, 2}, {7, 2}, {8, 2}, {11, 2}, {14, 2},
    {1, 3}, {2, 3}, {4, 3}, {7, 3}, {8, 3}, {9, 3},
    {1, 4}, {2, 4}, {4, 4}, {5, 4}, {6, 4},
};
// clang-format on
constexpr double any_step(int pixels, int blocks) {
  return 0.216 * (pixels + blocks) + 0.066 * pixels * blocks + 0.73 + (blocks == 4 ? 0.4 : 0);
}
constexpr double any_column_step(int pixels) { return 2.55 + 0.085 * pixels; }
inline constexpr ConvModel kAnyTile = {
    .shapes = kAnyShapes,
    .shape_count = sizeof kAnyShapes / sizeof kAnyShapes[0],
    .step = any_step,
    .column_step = any_column_step,
    .direct = {.store = 1.0, .weight = 0.03},
    .winograd = {},
};

}  // namespace qb
