// What Winograd's operator and the choice of it (winograd_form.cpp) share.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "operators/convolution/spec.h"

namespace qb {

using Filter = std::array<int, 16>;  // by position

// (2G) g (2G)^T of one input and output channel, by rows.
Filter transform(const ConvSpec&, int o, int i);

inline int tiles_of(int size) { return (size + 1) / 2; }

// Tiles to transform together: about 16, so that their sums stay near the core; all chunks alike.
inline int chunk_of(std::int64_t tiles) {
  const std::int64_t chunks = std::max<std::int64_t>(1, (tiles + 8) / 16);
  return int((tiles + chunks - 1) / chunks);
}

}  // namespace qb
