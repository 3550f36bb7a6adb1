// Where the tiles of a Winograd layer lie, for the kernels of every set.
#pragma once

#include "base/target.h"
#include "kernels/layer.h"

namespace qb {

struct TileAt {
  std::int64_t image;
  int row, column;
};

QB_INLINE TileAt tile_at(const WinogradLayer& l, std::int64_t t) {
  const std::int64_t per_image = std::int64_t(l.tile_rows) * l.tile_columns;
  const int i = int(t % per_image);
  return {t / per_image, i / l.tile_columns, i % l.tile_columns};
}

QB_INLINE void to_next(const WinogradLayer& l, TileAt& at) {
  if (++at.column == l.tile_columns) at.column = 0, at.row++;
  if (at.row == l.tile_rows) at.row = 0, at.image++;
}

}  // namespace qb
