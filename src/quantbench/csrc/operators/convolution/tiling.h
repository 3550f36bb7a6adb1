// How outputs are cut into register tiles: the cheapest cut by the instruction set's own model.
#pragma once

#include <vector>

#include "kernels/layer.h"
#include "kernels/model.h"

namespace qb {

struct Tiling {
  Tiling(int width, const ConvModel&);  // pixels of a row

  std::vector<Tile>
      tiles[kStripBlocks + 1];  // by the strip's cut(); the first tile may overlap the second
  double cost[kStripBlocks + 1] = {};  // one step of all tiles of a row

  // Cuts `count` blocks of a panel into strips, also by columns where that is possible; weights are
  // the caller's to set.
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
