// The weights of a direct convolution cut into runs (layer.h): steps whose products, added in
// pairs, stay in int16 together.
//
// A step multiplies four codes x, 0 <= x <= largest, with four weights w of each output, and adds
// them in two pairs. Of one output and pair, let P be the sum of the positive weights, N that of
// the others without their sign. Its sum lies in -largest N .. largest P, whatever the codes: for
// bytes within int16 where both are at most 128. In one pair of a hundred of bell-shaped weights
// of 8 bits they are not. The half of a step with such a pair (8 outputs) has flipped inputs:
//
//   w >= 0:  |w| (x - 128) = w x - 128 |w|        x - 128 = x ^ 0x80, as a signed byte
//   w <  0:  |w| (127 - x) = w x + 127 |w|        127 - x = x ^ 0x7F
//
// The product's signed byte is now the input and its unsigned one |w|, and what is added does not
// depend on the input: the bias takes it away. Of flipped inputs the sum lies in
// -128 (P + N) .. 127 (P + N), and P + N is at most 256: it never leaves int16. It costs one
// instruction more than a plain half. The sum of several steps is bounded by that of their bounds,
// and where one of two steps is flipped, two nearly always fit.
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
  // bias: of every output; what flipped inputs add is taken away from it.
  void pack(const ConvSpec&, const Tensor& x, std::int32_t* bias, Pool&);
  void give(ConvLayer&) const;
  std::int64_t bytes() const { return weights_.size(); }

 private:
  // A run of steps, and which of their halves are flipped (kFlipped).
  void put(const std::vector<const Step*>& run, int halves, std::int32_t* bias);
  void append(const std::vector<Step>&, int largest, std::int32_t* bias);

  std::vector<std::int8_t> packed_;  // on the way to weights_
  Aligned<std::int8_t> weights_;
  std::vector<std::int32_t> offsets_, lengths_;
  std::vector<Strip> strips_;
  std::vector<Runs> runs_;
};

}  // namespace qb
