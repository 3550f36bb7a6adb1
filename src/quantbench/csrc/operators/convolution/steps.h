// A convolution as steps of dot products over four bytes of its input.
#pragma once

#include <cstdint>
#include <vector>

#include "operators/convolution/spec.h"

namespace qb {

struct Step {
  int offset;                       // bytes from the first tap of the window to the four inputs
  std::vector<std::int8_t> weight;  // [output][4]
};

// Output blocks that read the same inputs: all without groups, a group's where groups are of whole
// blocks, else each block for itself.
struct Blocks {
  int first, count;
};
std::vector<Blocks> blocks_of(const ConvSpec&);

// Steps of `count` output blocks from block `first` on. Values outside of int8 (8-bit weights with
// zero points) are sums of several steps on the same inputs.
std::vector<Step> steps_of(const ConvSpec&, const Tensor& x, int first, int count);

}  // namespace qb
