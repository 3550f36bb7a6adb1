// How outputs are cut into register tiles: the cheapest cut by a model of the AVX-512 kernel, in nanoseconds of which
// only ratios matter.
#pragma once

#include <vector>

#include "layer.h"

namespace qb {

// One step of a tile, and of a tile by columns.
double step_cost(int pixels, int blocks);
double column_cost(int pixels);

struct Tiling {
  explicit Tiling(int width);  // pixels of a row

  std::vector<Tile> tiles[kStripBlocks + 1];  // by the strip's cut(); the last tile may overlap the one before
  double cost[kStripBlocks + 1] = {};         // one step of all tiles of a row

  // Cuts `count` blocks of a panel into strips, also by columns where that is possible; weights are the caller's to set.
  std::vector<Strip> strips(int panel, int first, int count, bool columns) const;
  // One step of a row of `count` blocks.
  double best(int count, bool columns) const;

  template <typename Layer>
  void give(Layer& layer) const {
    for (int b = 0; b <= kStripBlocks; b++)
      layer.tiles[b] = tiles[b].data(), layer.tile_count[b] = int(tiles[b].size());
  }
};

}  // namespace qb
