// The weights of a direct convolution cut into runs (layer.h): steps whose products, added in
// pairs, stay in int16 together.
//
// A step multiplies four codes x, 0 <= x <= largest, with four weights of each output, and adds
// them in two pairs. Of one output and pair, let `high` be the sum of the positive weights of all
// steps of a run, and `low` that of the negative ones. Every sum on the way to the run's total lies
// in largest * low .. largest * high, for all codes: within int16 where largest * high <= 32767 and
// largest * low >= -32768, that is for bytes, where both are at most 128. Weights of 8 bits leave
// it in one pair of a hundred, so that one step in three has to be multiplied in words; of the
// others two or three make a run. Of 4 bits, eight and more do.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "operators/convolution/steps.h"

namespace qb {

// What `high` and `low` of a run may be, for inputs up to `largest`.
struct Room {
  int high, low;

  explicit Room(int largest)
      : high(32767 / std::max(1, largest)), low(-(32768 / std::max(1, largest))) {}
};

class RunPacking {
 public:
  void pack(const ConvSpec&, const Tensor& x, Pool&);
  void give(ConvLayer&) const;
  std::int64_t bytes() const { return weights_.size(); }

 private:
  void append(const Tensor& x, int block, const std::vector<Step>&, std::vector<std::int8_t>&);

  Aligned<std::int8_t> weights_;
  std::vector<std::int32_t> offsets_, lengths_;
  std::vector<Strip> strips_;
  std::vector<Runs> runs_;
};

}  // namespace qb
