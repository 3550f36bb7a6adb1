// Which steps of a block make a run (runs.h): pairs that cost least, and long runs where weights
// are small.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "operators/convolution/steps.h"

namespace qb {

struct Pairing {
  std::vector<int> ones[2];                                  // steps: plain, and flipped
  std::array<std::vector<std::array<int, 2>>, kFlips> twos;  // by what is flipped
  std::vector<std::vector<int>> longs;
};

// Of steps of one block, for codes up to `largest`.
Pairing pairing_of(const std::vector<Step>&, int largest);

}  // namespace qb
